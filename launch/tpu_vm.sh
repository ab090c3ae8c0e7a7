#!/usr/bin/env bash
# Runs an experiment on a TPU VM or on all workers of a pod slice, by hand: create, setup, run, look, stop, delete.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: launch/tpu_vm.sh [--dry-run] COMMAND

  create [--spot | --reserved] [gcloud options...]   make the node
  setup                           send the last commit to every worker, and install it there
  run CONFIG [codegym options]    start the run on every worker, in the background; again to resume it
  logs [--worker N] [--follow]    the end of a worker's log (default: of worker 0)
  status                          of the node, and of the run on every worker
  stop                            end the run: TERM, so that it makes a checkpoint, then KILL
  delete                          delete the node, and stop paying for it

  --dry-run   print the commands, one a line, and run none

environment:
  PROJECT, ZONE           of Google Cloud, such as europe-west4-b
  TPU_NAME                of the node
  ACCELERATOR_TYPE        for create: v4-8, v5litepod-16, v5p-32, v6e-64, ...
  RUNTIME_VERSION         for create, in place of the one that Google names for the accelerator
  BASE_OUTPUT_DIRECTORY   gs://BUCKET/FOLDER; everything of this run lies in BASE_OUTPUT_DIRECTORY/RUN_NAME, also what
                          its workers say (logs/) and how they ended (launch/); all runs share compile_cache/
  RUN_NAME                small letters, digits and dashes; the same name resumes
  GRACE_SECONDS           for stop: until KILL (default 120)
  CODEGYM_GRACE_S         for run: seconds from TERM until a run that comes to no safe point ends (default 25)
  SSH_FLAGS               more options for gcloud's ssh, such as --internal-ip; separated by blanks

`setup` logs in to worker 0 first: that makes and spreads your SSH key, which many logins at once would race for. If your
key has a passphrase, run ssh-add ~/.ssh/google_compute_engine before. The node's service account must be allowed to
write to the bucket.

examples:
  export PROJECT=mine ZONE=europe-west4-b TPU_NAME=pod ACCELERATOR_TYPE=v5litepod-16
  export BASE_OUTPUT_DIRECTORY=gs://my-bucket/codegym RUN_NAME=grpo-1
  launch/tpu_vm.sh create --spot
  launch/tpu_vm.sh setup
  launch/tpu_vm.sh run configs/smoke_cpu.py --set train.steps=200
  launch/tpu_vm.sh logs --follow
  launch/tpu_vm.sh delete
TEXT
}

tpu() {
  local verb=$1
  shift
  run gcloud compute tpus tpu-vm "$verb" "$TPU_NAME" "--project=$PROJECT" "--zone=$ZONE" "$@"
}

# on_worker WHICH SHELL_TEXT: on one worker, or on `all` of them at once.
on_worker() {
  local more
  read -ra more <<<"${SSH_FLAGS:-}"
  tpu ssh --quiet "--worker=$1" ${more[@]+"${more[@]}"} "--command=$2"
}

# node WORDS...: as a worker's shell reads a call of launch/tpu_node.sh.
node() {
  quoted env "RUN_NAME=$RUN_NAME" "BASE_OUTPUT_DIRECTORY=$BASE_OUTPUT_DIRECTORY" \
    ${GRACE_SECONDS:+"GRACE_SECONDS=$GRACE_SECONDS"} ${CODEGYM_GRACE_S:+"CODEGYM_GRACE_S=$CODEGYM_GRACE_S"} \
    codegym-jax/launch/tpu_node.sh "$@"
}

create() {
  need_accelerator
  tpu create "--accelerator-type=$ACCELERATOR_TYPE" "--version=$(tpu_runtime_version)" "$@"
}

setup() {
  need_run
  send_checkout
  on_worker 0 true
  on_worker all "set -e
$(fetch_checkout)
launch/tpu_node.sh setup"
}

start() {
  [ $# -ge 1 ] || fail "run needs a CONFIG; --help shows one"
  need_run
  need_committed "$1"
  need_task_set is_committed "$@"
  on_worker all "$(node start "$@")"
}

logs() {
  local worker=0 follow=()
  need_run
  while [ $# -gt 0 ]; do
    case "$1" in
      --worker)
        need_value "$@"
        worker=$2
        shift 2
        ;;
      --follow)
        follow=(--follow)
        shift
        ;;
      *) fail "unknown option $1; --help lists them" ;;
    esac
  done
  on_worker "$worker" "$(node logs ${follow[@]+"${follow[@]}"})"
}

status() {
  need_run
  tpu describe "--format=value(state,health)"
  on_worker all "$(node status)"
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
need_node
case "$command" in
  create) create "$@" ;;
  setup) no_more "$@" && setup ;;
  run) start "$@" ;;
  logs) logs "$@" ;;
  status) no_more "$@" && status ;;
  stop) no_more "$@" && need_run && on_worker all "$(node stop)" ;;
  delete) no_more "$@" && tpu delete --quiet ;;
  *) fail "unknown command $command; --help lists them" ;;
esac
