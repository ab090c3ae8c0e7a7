#!/usr/bin/env bash
# Runs on every worker of a TPU, started by tpu_vm.sh or by a node's startup script: installs, runs, tells how it goes.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/lib.sh
self=$PWD/launch/tpu_node.sh

usage() {
  cat <<'TEXT'
usage: launch/tpu_node.sh COMMAND      (on a worker; launch/tpu_vm.sh and tpu_queued.sh call it)

  setup              install what the run needs, with the TPU's build of JAX
  start CONFIG ...   run in the background
  boot CONFIG ...    set up, then run here; what a node's startup script does
  logs [--follow]    the end of this worker's log
  status             what this worker does
  stop               end the run: TERM, so that it makes a checkpoint; KILL after GRACE_SECONDS

environment:
  RUN_NAME, BASE_OUTPUT_DIRECTORY   the run folder is BASE_OUTPUT_DIRECTORY/RUN_NAME
  GRACE_SECONDS     for a checkpoint (default 120)
  SYNC_SECONDS      between two copies of the log to the run folder (default 60)
  RESTARTS          how often a run that ended as resumable (42) is started again here (default 3): its other
                    workers do the same, and they meet again
  RESTART_SECONDS   until then (default 30)

In the run folder, launch/slice-S-worker-W.state says `running` or the exit code, and logs/slice-S-worker-W.log is the log.

example:
  RUN_NAME=grpo-1 BASE_OUTPUT_DIRECTORY=gs://my-bucket/codegym launch/tpu_node.sh status
TEXT
}

# Where Python is older than 3.11 (the TPU images with Ubuntu 22.04 bring 3.10), this fetches one.
uv_version=0.13.9
python_version=3.12

GRACE_SECONDS=${GRACE_SECONDS:-120}
SYNC_SECONDS=${SYNC_SECONDS:-60}
RESTARTS=${RESTARTS:-3}
RESTART_SECONDS=${RESTART_SECONDS:-30}

# Prints a Python that can make the environment.
find_python() {
  local name probe='import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'
  for name in python3.12 python3.13 python3.11 python3; do
    if "$name" -c "$probe" 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user "uv==$uv_version" >&2
  python3 -m uv python install --quiet "$python_version" >&2
  python3 -m uv python find "$python_version"
}

# requirements.lock pins jax, and jax pins the one libtpu that fits it.
setup() {
  local python
  python=$(find_python)
  make "PYTHON=$python" setup
  .venv/bin/python -m pip install --quiet --constraint requirements.lock 'jax[tpu]'
}

# attribute NAME: of this machine, as the TPU service left it.
attribute() {
  curl --silent --fail --header 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

# slice-S-worker-W. JAX takes the same two attributes (and finds all others, of several slices, too) for --coordinator auto.
worker_name() {
  local worker slice
  worker=$(attribute agent-worker-number)
  slice=$(attribute tpu-env | sed -n "s/^MEGASCALE_SLICE_ID: *'\{0,1\}\([0-9]*\).*/\1/p")
  echo "slice-${slice:-0}-worker-$worker"
}

# persist COMMAND...: tries three times: a network comes up after the machine does.
persist() {
  local tries
  for tries in 1 2 3; do
    if "$@"; then return; fi
    [ "$tries" = 3 ] || sleep 10
  done
  return 1
}

# tell STATE: `running` or an exit code, where it outlives this node.
tell() {
  persist put_state "$1" || note "$(run_folder) cannot be written: is this node's service account allowed to?"
}

put_state() {
  echo "$worker $1" | gcloud storage cp --quiet - "$(run_folder)/launch/$worker.state"
}

ship_log() {
  gcloud storage cp --quiet "$log" "$(run_folder)/logs/$worker.log" 2>/dev/null || true
}

ship_now_and_then() {
  trap 'kill "$nap" 2>/dev/null; exit 0' TERM
  while :; do
    sleep "$SYNC_SECONDS" &
    nap=$!
    wait "$nap"
    ship_log
  done
}

is_running() {
  ! flock --nonblock "$lock" true
}

# attend INSTALLS CONFIG ...: a run on this worker from its start to its end. What computes holds the lock, too: while
# anything of a run is alive, no other starts.
attend() {
  local shipper
  exec 8>>"$lock"
  flock --timeout 5 8 || fail "a run is going on here; launch/tpu_vm.sh stop ends it"
  mkdir -p "$state"
  echo $$ >"$lock.pid"
  [ -f "$log" ] || gcloud storage cat "$(run_folder)/logs/$worker.log" >"$log" 2>/dev/null || true
  trap stop_work TERM INT HUP
  tell running
  ship_now_and_then 8>&- &
  shipper=$!
  go_on "$@"
  kill "$shipper" 2>/dev/null || true
  echo "launch/tpu_node.sh: $worker ends with exit code $exit_code" >>"$log"
  ship_log
  tell "$exit_code"
  exit "$exit_code"
}

# Installs if asked to, runs, and runs again what is resumable; `exit_code` is that of the end.
go_on() {
  local installs=$1 restarts=0
  shift
  if [ "$installs" = yes ]; then
    work persist "$self" setup
    [ "$exit_code" = 0 ] || return 0
  fi
  while :; do
    work codegym_run "$@"
    [ "$exit_code" = 42 ] && [ "$stopping" = no ] && [ "$restarts" -lt "$RESTARTS" ] || return 0
    restarts=$((restarts + 1))
    work sleep "$RESTART_SECONDS"
  done
}

# work COMMAND...: in the background, so that signals are heard; `exit_code` is then its exit code. Whoever is asked to
# stop before a handler of TERM is there has lost nothing: that is resumable.
work() {
  exit_code=42
  [ "$stopping" = no ] || return 0
  "$@" </dev/null >>"$log" 2>&1 &
  child=$!
  echo "$child" >"$lock.child"
  wait_for "$child"
  if [ "$stopping" = yes ] && [ "$exit_code" = 143 ]; then
    exit_code=42
  fi
}

stop_work() {
  interrupted=yes stopping=yes
  kill -TERM "$child" 2>/dev/null || true
}

# The one command. JAX keeps what it compiled in the bucket, so that a new node need not compile again.
codegym_run() {
  local config=$1
  shift
  export JAX_COMPILATION_CACHE_DIR=${BASE_OUTPUT_DIRECTORY%/}/compile_cache
  exec .venv/bin/codegym run "$config" --run "$(run_folder)" --coordinator auto "$@"
}

start() {
  if is_running; then
    echo "$worker: running already"
    return
  fi
  mkdir -p "$state"
  setsid nohup "$self" attend "$@" </dev/null >>"$state/attend" 2>&1 &
  local tries
  for tries in $(seq 50); do
    if is_running; then
      echo "$worker: started $1; its log is $log"
      return
    fi
    sleep 0.2
  done
  fail "$worker: nothing started after $tries looks: $(tail -n 5 "$state/attend")"
}

stop() {
  local waited
  if ! is_running; then
    echo "$worker: no run is going on"
    return
  fi
  kill -TERM "$(cat "$lock.pid")"
  for ((waited = 0; waited < GRACE_SECONDS; waited++)); do
    is_running || break
    sleep 1
  done
  if is_running; then
    echo "$worker: not over after $GRACE_SECONDS s, so it is killed"
    kill -KILL "$(cat "$lock.child")"
    while is_running; do sleep 1; done
  fi
  echo "$worker: stopped"
}

status() {
  if is_running; then
    echo "$worker: running, process $(cat "$lock.pid")"
  else
    echo "$worker: not running; $(tail -n 1 "$log" 2>/dev/null || echo 'it never ran here')"
  fi
}

[ $# -ge 1 ] || { usage >&2; exit 2; }
command=$1
shift
case "$command" in
  -h | --help)
    usage
    exit 0
    ;;
  setup)
    setup
    exit 0
    ;;
esac

need_run
worker=$(persist worker_name) || fail "this is not a worker of a TPU: its metadata has no agent-worker-number"
lock=$HOME/codegym-jax.lock
state=$HOME/codegym-runs/$RUN_NAME
log=$state/log
child='' stopping=no
case "$command" in
  start) start "$@" ;;
  attend) attend no "$@" ;;
  boot) attend yes "$@" ;;
  stop) stop ;;
  status) status ;;
  logs)
    case "${1:-}" in
      '') tail -n 100 "$log" ;;
      --follow) exec tail -n 100 -F "$log" ;;
      *) fail "unknown option $1; --help lists them" ;;
    esac
    ;;
  *) fail "unknown command $command; --help lists them" ;;
esac
