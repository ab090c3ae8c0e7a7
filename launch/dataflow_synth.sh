#!/usr/bin/env bash
# Synthesizes a task set on Google Cloud Dataflow: the same command as everywhere, with Beam's options.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: launch/dataflow_synth.sh [--dry-run] CONFIG [codegym synth options...]

  --dry-run   print the commands, one a line, and run none

environment:
  PROJECT                 the Google Cloud project
  REGION                  where the workers are, such as europe-west4
  BASE_OUTPUT_DIRECTORY   gs://BUCKET/FOLDER; everything of this run lies in BASE_OUTPUT_DIRECTORY/RUN_NAME
  RUN_NAME                small letters, digits and dashes; the same name goes on where a run was stopped
  NUM_WORKERS             machines, at most (default 16)
  MACHINE_TYPE            of each (default n2-standard-2)
  SDK_CONTAINER_IMAGE     workers' image with this package in it; unless set, workers install it themselves

example:
  PROJECT=mine REGION=europe-west4 BASE_OUTPUT_DIRECTORY=gs://my-bucket/codegym RUN_NAME=corpora-1 NUM_WORKERS=32 \
    launch/dataflow_synth.sh configs/smoke_cpu.py --set synthesis.problems_per_source=3200
TEXT
}

# What workers import beside Beam's own image; tests/launch holds this list to the imports.
worker_packages="hypothesis jaxtyping markdown-it-py mdurl numpy pygments rich sortedcontainers wadler-lindig wasmtime"

while [ $# -gt 0 ]; do
  case "$1" in
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
[ $# -ge 1 ] || { usage >&2; exit 2; }
need PROJECT REGION
need_run
NUM_WORKERS=${NUM_WORKERS:-16}
MACHINE_TYPE=${MACHINE_TYPE:-n2-standard-2}
need_number NUM_WORKERS machines

config=$1
shift
cd "$(dirname "$0")/.."
[ -f "$config" ] || fail "config file not found: $config"
cloud=$(run_folder)
staged=build/dataflow/$RUN_NAME
task_set=runs/$RUN_NAME/task_set

# A process of Beam has one workshop and one thread: a guest keeps its core busy.
options=(
  "--project=$PROJECT"
  "--region=$REGION"
  "--job_name=$RUN_NAME"
  "--temp_location=$cloud/temp"
  "--staging_location=$cloud/staging"
  "--max_num_workers=$NUM_WORKERS"
  "--machine_type=$MACHINE_TYPE"
  "--number_of_worker_harness_threads=1"
)

run make setup
run .venv/bin/python -m pip install --quiet --constraint requirements.lock 'apache-beam[gcp]'
if [ -n "${SDK_CONTAINER_IMAGE:-}" ]; then
  options+=("--sdk_container_image=$SDK_CONTAINER_IMAGE" --sdk_location=container)
else
  version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
  run mkdir -p "$staged"
  run .venv/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$staged" .
  run bash -c "grep -E '^(${worker_packages// /|})==' requirements.lock > $staged/requirements.txt"
  options+=(
    "--extra_package=$staged/codegym_jax-$version-py3-none-any.whl"
    "--requirements_file=$staged/requirements.txt"
    --requirements_cache=skip
  )
fi
run .venv/bin/codegym synth "$config" --runner dataflow --out "$task_set" "$@" -- "${options[@]}"
run gcloud storage cp --recursive "$task_set" "$cloud/"
