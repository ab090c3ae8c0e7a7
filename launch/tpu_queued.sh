#!/usr/bin/env bash
# Queues for TPUs and runs an experiment on them as soon as they come: one slice or several, spot, reserved or on demand.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: launch/tpu_queued.sh [--dry-run] COMMAND

  create [options] CONFIG [codegym run options...]
      --spot                          cheaper; may be taken away at any time
      --reserved                      of your reservation; with neither, on demand
      --valid-until-duration TIME     give up waiting after, such as 6h
      --keep-checkout                 run the commit that was sent before, not the last one
  status                    of the queued resource, of its nodes, and of the run
  logs [--worker S-W]       what worker W of slice S said (default 0-0); at most a minute old
  delete                    delete the queued resource and its nodes, and stop paying for them

  --dry-run   print the commands, one a line, and run none

environment:
  PROJECT, ZONE           of Google Cloud, such as europe-west4-b
  TPU_NAME                of the queued resource; the node is called so, too, and with several slices TPU_NAME-0, -1, ...
  ACCELERATOR_TYPE        of a slice: v4-8, v5litepod-16, v5p-32, v6e-64, ...
  RUNTIME_VERSION         in place of the one that Google names for the accelerator
  NUM_SLICES              slices that learn together (default 1)
  BASE_OUTPUT_DIRECTORY   gs://BUCKET/FOLDER; everything of this run lies in BASE_OUTPUT_DIRECTORY/RUN_NAME, also what
                          its workers say (logs/) and how they ended (launch/); all runs share compile_cache/
  RUN_NAME                small letters, digits and dashes; the same name resumes
  CODEGYM_GRACE_S         seconds from TERM until a run that comes to no safe point ends (default 25)
  CREATE_FLAGS            more options for gcloud's create, such as --network=NAME; separated by blanks

Every worker runs the startup script at each boot: it takes the commit from the bucket, installs it, and runs or resumes.
So a node that restarts needs nobody. One that is taken away is gone for good: launch/babysit.sh queues for another.
The nodes' service account must be allowed to write to the bucket.

examples:
  export PROJECT=mine ZONE=europe-west4-b TPU_NAME=pod ACCELERATOR_TYPE=v5litepod-16
  export BASE_OUTPUT_DIRECTORY=gs://my-bucket/codegym RUN_NAME=grpo-1
  launch/tpu_queued.sh create --spot --valid-until-duration 6h configs/smoke_cpu.py --set train.steps=200
  NUM_SLICES=4 launch/tpu_queued.sh create --reserved configs/smoke_cpu.py
  launch/tpu_queued.sh logs --worker 0-3
TEXT
}

queued() {
  local verb=$1
  shift
  run gcloud compute tpus queued-resources "$verb" "$TPU_NAME" "--project=$PROJECT" "--zone=$ZONE" "$@"
}

# Prints what every worker runs at each boot, as root, where HOME may be unset and gcloud is a snap.
startup_script() {
  cat <<TEXT
#!/bin/bash
set -euo pipefail
export HOME=\${HOME:-/root} PATH=\$PATH:/snap/bin
cd
until gcloud storage ls $(run_folder)/launch/checkout.tar.gz; do sleep 10; done
$(fetch_checkout)
exec launch/tpu_node.sh boot $(quoted "$@")
TEXT
}

# Forgets how the workers of earlier nodes ended, so that nobody takes it for news of these.
forget_ends() {
  local found
  ask found "" gcloud storage ls "$(run_folder)/launch/"
  if [[ $found == *.state* ]]; then
    run gcloud storage rm "$(run_folder)/launch/*.state"
  fi
}

create() {
  local flags=() more keep=no tier='' script=build/launch/$RUN_NAME/startup.sh
  while [ $# -gt 0 ]; do
    case "$1" in
      --spot | --reserved)
        [ -z "$tier" ] || fail "$tier and $1 exclude each other"
        tier=$1
        flags+=("$1")
        shift
        ;;
      --valid-until-duration)
        need_value "$@"
        flags+=("$1=$2")
        shift 2
        ;;
      --keep-checkout)
        keep=yes
        shift
        ;;
      -*) fail "unknown option $1; --help lists them" ;;
      *) break ;;
    esac
  done
  [ $# -ge 1 ] || fail "create needs a CONFIG; --help shows one"
  need_accelerator
  need_committed "$1"
  need_task_set is_committed "$@"
  read -ra more <<<"${CREATE_FLAGS:-}"
  if [ "$NUM_SLICES" = 1 ]; then
    flags+=("--node-id=$TPU_NAME")
  else
    flags+=("--node-count=$NUM_SLICES" "--node-prefix=$TPU_NAME")
  fi
  [ "$keep" = yes ] || send_checkout
  forget_ends
  startup_script "$@" | write_file "$script"
  queued create "--accelerator-type=$ACCELERATOR_TYPE" "--runtime-version=$(tpu_runtime_version)" "${flags[@]}" \
    "--metadata-from-file=startup-script=$script" ${more[@]+"${more[@]}"}
}

status() {
  local found
  queued describe '--format=value(state.state)'
  run gcloud compute tpus tpu-vm list "--project=$PROJECT" "--zone=$ZONE" '--format=value(name.basename(),state)'
  ask found .state gcloud storage ls "$(run_folder)/launch/"
  if [[ $found == *.state* ]]; then
    run gcloud storage cat "$(run_folder)/launch/*.state"
  else
    echo "no worker has told of the run yet"
  fi
}

logs() {
  local worker=0-0
  if [ "${1:-}" = --worker ]; then
    need_value "$@"
    worker=$2
    shift 2
  fi
  no_more "$@"
  [[ $worker =~ ^[0-9]+-[0-9]+$ ]] || fail "--worker must be SLICE-WORKER such as 0-3, got $worker"
  run gcloud storage cat "$(run_folder)/logs/slice-${worker%-*}-worker-${worker#*-}.log"
}

no_more() {
  [ $# = 0 ] || fail "unknown option $1; --help lists them"
}

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
cd "$(dirname "$0")/.."
command=$1
shift
NUM_SLICES=${NUM_SLICES:-1}
need_node
need_number NUM_SLICES slices
need_run
case "$command" in
  create) create "$@" ;;
  status) no_more "$@" && status ;;
  logs) logs "$@" ;;
  delete) no_more "$@" && queued delete --force --quiet ;;
  *) fail "unknown command $command; --help lists them" ;;
esac
