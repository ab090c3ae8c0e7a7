#!/usr/bin/env bash
# Runs an experiment on this machine, the same command as everywhere.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: launch/local.sh [--dry-run] [--devices N] [--processes N] CONFIG RUN [codegym run options...]

  --devices N     split the CPU into N devices (each process's), to try a sharded run without an accelerator
  --processes N   N processes that learn together, as on N machines; what each says is kept in RUN/logs/,
                  and what the first says is shown, too
  --dry-run       print the commands, one a line, and run none

environment:
  PORT            where the processes meet on 127.0.0.1 (default: one that is free)

Ctrl-C and TERM reach every process. Of their exit codes the gravest is given: 2 (a mistake in the settings), 1 (the run
cannot go on), any other, 42 (the same command resumes), 0 (done).

examples:
  launch/local.sh configs/smoke_cpu.py runs/smoke
  launch/local.sh --devices 8 configs/smoke_cpu.py runs/sharded --set train.steps=5
  launch/local.sh --processes 2 configs/smoke_cpu.py runs/together --set mesh.data=2
TEXT
}

devices='' processes=1
while [ $# -gt 0 ]; do
  case "$1" in
    --devices | --processes)
      need_value "$@"
      printf -v "${1#--}" %s "$2"
      [[ $2 =~ ^[1-9][0-9]*$ ]] || fail "$1 needs a number from 1, got $2"
      shift 2
      ;;
    --dry-run)
      dry_run=yes
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*) fail "unknown option $1; --help lists them" ;;
    *) break ;;
  esac
done
[ $# -ge 2 ] || { usage >&2; exit 2; }
cd "$(dirname "$0")/.."
config=$1 folder=$2
shift 2
[ -f "$config" ] || fail "config file not found: $config"

program=(.venv/bin/codegym run "$config" --run "$folder" "$@")
if [ -n "$devices" ]; then
  program=(env "JAX_NUM_CPU_DEVICES=$devices" "${program[@]}")
fi

# start_process INDEX OUTPUT: in the background.
start_process() {
  local words=("${program[@]}" --coordinator "127.0.0.1:$PORT" --process-id "$1" --process-count "$processes")
  if [ "$dry_run" = yes ]; then
    echo "$(quoted "${words[@]}") > $(quoted "$2") 2>&1 &"
    return
  fi
  "${words[@]}" </dev/null >"$2" 2>&1 &
  started+=($!)
}

# forward SIGNAL: to every process.
forward() {
  interrupted=yes
  kill -s "$1" "${started[@]}" 2>/dev/null || true
}

# Each process gets a group of its own, so that it hears a signal once, from `forward`, and heeds Ctrl-C.
start_all() {
  local index shown=$folder/logs/shown
  run rm -f "$shown"
  run mkfifo "$shown"
  started=()
  trap 'forward INT' INT
  trap 'forward TERM' TERM
  set -m
  if [ "$dry_run" = yes ]; then
    echo "tee $(quoted "$folder/logs/process-0.log") < $(quoted "$shown") &"
  else
    tee "$folder/logs/process-0.log" <"$shown" &
    viewer=$!
  fi
  start_process 0 "$shown"
  for ((index = 1; index < processes; index++)); do
    start_process "$index" "$folder/logs/process-$index.log"
  done
}

finish_all() {
  local pid codes=()
  for pid in "${started[@]}"; do
    wait_for "$pid"
    codes+=("$exit_code")
  done
  wait_for "$viewer"
  rm "$folder/logs/shown"
  tell_ends "${codes[@]}"
  exit "$(worst_exit_code "${codes[@]}")"
}

# tell_ends CODE...: by process, unless all is well.
tell_ends() {
  [ "$(worst_exit_code "$@")" != 0 ] || return 0
  local index=0 code
  for code in "$@"; do
    note "process $index ended with exit code $code: $folder/logs/process-$index.log"
    index=$((index + 1))
  done
}

run make setup
if [ "$processes" = 1 ]; then
  run exec "${program[@]}"
  exit 0
fi
[[ $folder != *://* ]] || fail "with --processes the run folder must be one of this machine, got $folder"
find_port='import socket; server = socket.create_server(("127.0.0.1", 0)); print(server.getsockname()[1])'
[ -n "${PORT:-}" ] || ask PORT PORT .venv/bin/python -c "$find_port"
run mkdir -p "$folder/logs"
start_all
if [ "$dry_run" = yes ]; then
  echo wait
else
  finish_all
fi
