#!/usr/bin/env bash
# Runs an experiment on Google Kubernetes Engine as a JobSet, which starts it again after a preemption.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

usage() {
  cat <<'TEXT'
usage: launch/gke/submit.sh [options] single|multi|gpu CONFIG [codegym run options...]
       launch/gke/submit.sh [--dry-run] status|logs|delete

  single      one TPU slice
  multi       NUM_SLICES TPU slices, which talk over the data center's network
  gpu         one GPU node or several, a process on each
  status      the JobSet and its pods
  logs        what process 0 says, as it says it; `logs --all`: all processes, of this attempt
  delete      stops the run; what it saved stays, and the same command goes on from there

  --dry-run           print the commands, and run none
  --print             print the JobSet alone
  --xpk               print the XPK command that does the same, for a cluster that XPK made (TPU only)
  --spot              on spot machines: cheaper; may be taken away at any time
  --reservation NAME  on machines of a reservation

environment:
  PROJECT, ZONE, CLUSTER  the cluster; ZONE is its region where it is regional. Once a machine:
                          gcloud container clusters get-credentials CLUSTER --project PROJECT --location ZONE
  RUN_NAME                small letters, digits and dashes; the same name goes on where a run was stopped
  BASE_OUTPUT_DIRECTORY   gs://BUCKET/FOLDER; the run folder is BASE_OUTPUT_DIRECTORY/RUN_NAME
  IMAGE                   the container image, made by launch/image.sh; CONFIG lies in it
  ACCELERATOR_TYPE        v4-N, v5litepod-N, v5p-N or v6e-N as Cloud TPU names slices; h100-N, h200-N or a100-N GPUs
  TOPOLOGY                a slice's shape where it is not the usual one for its size, such as 4x4x12
  NUM_SLICES              for multi
  SERVICE_ACCOUNT         Kubernetes service account that may use the bucket (default default)
  NAMESPACE               of the cluster (default default)
  MAX_RESTARTS            after failures that are no preemptions (default 3)
  CODEGYM_GRACE_S         seconds from SIGTERM until a run that comes to no safe point ends: 5 less than the nodes give
                          (default 25; with --spot 10, for a spot machine gives its pods 15 unless its pool says more)

What an exit code of codegym means here: 0 done; 42 or a lost machine: all start again, as often as it takes;
2 or 130: the JobSet fails at once; any other: all start again, MAX_RESTARTS times.
The cluster needs JobSet 0.10.1 or newer, and node pools of the machines that `--print` names.

examples:
  export PROJECT=mine ZONE=us-east5 CLUSTER=tpus IMAGE=us-docker.pkg.dev/mine/codegym/tpu:1
  export BASE_OUTPUT_DIRECTORY=gs://my-bucket/codegym RUN_NAME=qwen-1
  ACCELERATOR_TYPE=v5p-64 launch/gke/submit.sh single configs/qwen2_5_7b_v5p.py
  ACCELERATOR_TYPE=v6e-64 NUM_SLICES=2 launch/gke/submit.sh --spot multi configs/qwen2_5_7b_v6e.py --set mesh.data=2 train.rows_per_batch=32
  ACCELERATOR_TYPE=h100-16 launch/gke/submit.sh --dry-run gpu configs/qwen2_5_7b_8xh100.py --set mesh.data=2 train.rows_per_batch=16
  launch/gke/submit.sh logs
TEXT
}


# kubectl, on the cluster that the variables name whatever the current context is.
kubectl_command() {
  kubectl=(kubectl "--context=gke_${PROJECT}_${ZONE}_$CLUSTER" "--namespace=${NAMESPACE:-default}")
}

submit() {
  if [ "$dry_run" = yes ]; then
    printf "%s <<'YAML'\n%s\nYAML\n" "$(quoted "${kubectl[@]}" create --filename=-)" "$1"
  else
    # `create`, not `apply`: a JobSet cannot be changed, and one that is there may be running.
    "${kubectl[@]}" create --filename=- <<<"$1" ||
      fail "not submitted; where RUN_NAME=$RUN_NAME is there already, \`delete\` it first: the run goes on from its checkpoint"
  fi
}

# Whether a file is in the image: launch/Containerfile copies these folders.
is_in_image() {
  [[ $1 =~ ^(configs|codegym_jax|envs_wasm)/ ]] && [ -f "$1" ]
}

# The same run by XPK, whose JobSet starts again at exit code 42 too, but counts it.
xpk_command() {
  local command
  command=$(quoted codegym run "$config" --run "$(run_folder)" "$@" --coordinator auto)
  quoted xpk workload create "--project=$PROJECT" "--zone=$ZONE" "--cluster=$CLUSTER" "--workload=$RUN_NAME" \
    "--tpu-type=$ACCELERATOR_TYPE" "--num-slices=${NUM_SLICES:-1}" "${capacity[@]}" "--docker-image=$IMAGE" \
    "--env=JAX_COMPILATION_CACHE_DIR=${BASE_OUTPUT_DIRECTORY%/}/compile_cache" "--env=CODEGYM_GRACE_S=$CODEGYM_GRACE_S" \
    --termination-grace-period-seconds=300 --max-restarts=1000 "--command=$command"
}

mode=submit
capacity=() # as options of render.py and of XPK
while [ $# -gt 0 ]; do
  case "$1" in
    --dry-run) dry_run=yes ;;
    --print) mode=print ;;
    --xpk) mode=xpk ;;
    --spot) capacity=(--spot) ;;
    --reservation)
      need_value "$@"
      capacity=("--reservation=$2")
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) break ;;
  esac
  shift
done
[ $# -ge 1 ] || { usage >&2; exit 2; }
if [ -z "${CODEGYM_GRACE_S:-}" ]; then
  [ "${capacity[*]}" = --spot ] && CODEGYM_GRACE_S=10 || CODEGYM_GRACE_S=25
fi
export CODEGYM_GRACE_S
action=$1
shift
need PROJECT ZONE CLUSTER RUN_NAME
[[ $RUN_NAME =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] || fail "RUN_NAME must be small letters, digits and dashes, got $RUN_NAME"
kubectl_command
pods=jobset.sigs.k8s.io/jobset-name=$RUN_NAME

case "$action" in
  single | multi | gpu)
    [ $# -ge 1 ] || { usage >&2; exit 2; }
    config=$1
    shift
    cd "$(dirname "${BASH_SOURCE[0]}")/../.."
    case "$config" in /* | *..*) fail "CONFIG must be a path from the repository's root, as it is in the image, got $config" ;; esac
    [ -f "$config" ] || fail "config file not found: $config"
    yaml=$("${PYTHON:-python3}" launch/gke/render.py "${capacity[@]}" "$action" "$config" "$@" 2>&1) || fail "$yaml"
    [ "$mode" != submit ] || need_task_set is_in_image "$config" "$@"
    case "$mode" in
      print) echo "$yaml" ;;
      xpk)
        [ "$action" != gpu ] || fail "--xpk is for TPU slices; submit GPU jobs without it"
        xpk_command "$@"
        ;;
      submit) submit "$yaml" ;;
    esac
    ;;
  status)
    run "${kubectl[@]}" get jobset "$RUN_NAME" --output=wide
    run "${kubectl[@]}" get pods "--selector=$pods" --output=wide
    ;;
  logs)
    if [ "${1:-}" = --all ]; then
      run "${kubectl[@]}" logs "--selector=$pods" --prefix --tail=-1 --max-log-requests=1000
    else
      run "${kubectl[@]}" logs "--selector=$pods,jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0" \
        --follow --tail=-1
    fi
    ;;
  delete) run "${kubectl[@]}" delete jobset "$RUN_NAME" --cascade=foreground ;;
  *) fail "the first argument must be single, multi, gpu, status, logs or delete, got $action" ;;
esac
