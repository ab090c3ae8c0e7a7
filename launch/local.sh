#!/usr/bin/env bash
# Runs an experiment on this machine, the same command as everywhere.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/local.sh [--devices N] CONFIG RUN [codegym run options...]

  --devices N   split the CPU into N devices, to try a sharded run without an accelerator

examples:
  launch/local.sh configs/smoke_cpu.py runs/smoke
  launch/local.sh --devices 8 configs/smoke_cpu.py runs/sharded --set train.steps=5
TEXT
}

cd "$(dirname "$0")/.."
while [ $# -gt 0 ]; do
  case "$1" in
    --devices)
      [ $# -ge 2 ] || { echo "launch/local.sh: --devices needs a number" >&2; exit 2; }
      export JAX_NUM_CPU_DEVICES="$2"
      shift 2
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) break ;;
  esac
done
[ $# -ge 2 ] || { usage >&2; exit 2; }
config=$1 run=$2
shift 2
make setup
exec .venv/bin/codegym run "$config" --run "$run" "$@"
