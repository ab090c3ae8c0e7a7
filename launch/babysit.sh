#!/usr/bin/env bash
# Keeps a run on queued TPUs going until it is complete: queues, watches, and queues again when the nodes are taken away.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: launch/babysit.sh [--dry-run] [tpu_queued.sh create options] CONFIG [codegym run options...]

  --spot | --reserved | --valid-until-duration TIME     as launch/tpu_queued.sh create takes them
  --dry-run   print the commands of a run that nothing disturbs, one a line, and run none

environment: that of launch/tpu_queued.sh, and
  POLL_SECONDS            between two looks (default 60)
  START_POLLS             looks at active nodes until a worker must have told of the run (default 30)
  BACKOFF_SECONDS         before queueing again (default 30); doubles while no nodes come at all,
  BACKOFF_CAP_SECONDS     up to this (default 1800)
  MAX_ATTEMPTS            how often it queues (default 100)

The exit codes of the workers decide: 0 the run is complete; 42 it can be resumed, so it is; any other: the end of the log is
shown. Then, and when the run is complete, the nodes are deleted. This script keeps nothing in memory that matters: stop it
(the nodes go on), start it again, on another machine too, and it takes up what the cloud says.

exit code: 0 the run is complete; that of the run where it cannot go on; 42 after MAX_ATTEMPTS; 3 no worker ever told of the run

example:
  export PROJECT=mine ZONE=europe-west4-b TPU_NAME=pod ACCELERATOR_TYPE=v5litepod-16
  export BASE_OUTPUT_DIRECTORY=gs://my-bucket/codegym RUN_NAME=grpo-1
  launch/babysit.sh --spot configs/smoke_cpu.py --set train.steps=200
TEXT
}

say() {
  if [ "$dry_run" = no ]; then
    echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $*"
  fi
}

# list_states WHAT FIELD PLANNED: `NAME<tab>STATE` lines in `listed`, of all in the zone: a list tells what is absent
# from what could not be asked, by its exit code.
list_states() {
  ask listed "$3" gcloud compute tpus "$1" list "--project=$PROJECT" "--zone=$ZONE" \
    "--format=value(name.basename(),$2)"
}

# state_of NAME: as listed; ABSENT unless it is.
state_of() {
  awk -F '\t' -v name="$1" '$1 == name { state = $2 } END { print state ? state : "ABSENT" }' <<<"$listed"
}

# The nodes' names, one a line.
node_names() {
  if [ "$NUM_SLICES" = 1 ]; then
    echo "$TPU_NAME"
  else
    seq -f "$TPU_NAME-%.0f" 0 $((NUM_SLICES - 1))
  fi
}

# Sets `state`: that of the queued resource, or of a node that is lost though its resource is still called active.
look() {
  local name planned_nodes
  list_states queued-resources state.state "$TPU_NAME"$'\t'"$planned_state" || return
  state=$(state_of "$TPU_NAME")
  [ "$state" = ACTIVE ] || return 0
  planned_nodes=$(node_names | sed 's/$/\tREADY/')
  list_states tpu-vm state "$planned_nodes" || return
  for name in $(node_names); do
    case "$(state_of "$name")" in
      PREEMPTED | TERMINATED | STOPPED | DELETING | HIDDEN | UNKNOWN | ABSENT)
        state="$name $(state_of "$name")"
        return 0
        ;;
    esac
  done
}

# Sets `verdict`: SILENT, RUNNING, DONE, RESUMABLE, or the exit code with which the run cannot go on; and `told`: a line
# for each worker, with its name and `running` or its exit code.
judge() {
  local found codes=() worker code folder
  folder=$(run_folder)/launch
  told='' verdict=SILENT
  ask found "$folder/slice-0-worker-0.state" gcloud storage ls "$folder/" || return
  [[ $found == *.state* ]] || return 0
  ask told 'slice-0-worker-0 0' gcloud storage cat "$folder/*.state" || return
  while read -r worker code; do
    [ "$code" = running ] || codes+=("$code")
  done <<<"$told"
  verdict=RUNNING
  [ ${#codes[@]} -gt 0 ] || return 0
  case "$(worst_exit_code "${codes[@]}")" in
    0) [[ $'\n'$told$'\n' != *$'\nslice-0-worker-0 0\n'* ]] || verdict=DONE ;;
    42) verdict=RESUMABLE ;;
    *) verdict=$(worst_exit_code "${codes[@]}") ;;
  esac
}

pause() {
  run sleep "$1"
}

create() {
  local code=0
  if [ "$attempts" -ge "$MAX_ATTEMPTS" ]; then
    say "gave up after $attempts attempts; the same command goes on"
    exit 42
  fi
  attempts=$((attempts + 1)) was_active=no resumable=0 silent=0
  say "attempt $attempts: queueing for $NUM_SLICES x $ACCELERATOR_TYPE"
  "${queued[@]}" create ${keep_checkout[@]+"${keep_checkout[@]}"} "${arguments[@]}" || code=$?
  case "$code" in
    0)
      keep_checkout=(--keep-checkout) planned_state=ACTIVE
      pause "$POLL_SECONDS"
      ;;
    2) exit 2 ;; # a mistake, which another try repeats
    *)
      say "the request was refused"
      back_off
      ;;
  esac
}

# Waits before the next attempt: longer each time that no nodes came at all.
back_off() {
  [ "$was_active" = no ] || backoff=$BACKOFF_SECONDS
  say "waiting $backoff s before the next attempt"
  pause "$backoff"
  backoff=$((backoff * 2 < BACKOFF_CAP_SECONDS ? backoff * 2 : BACKOFF_CAP_SECONDS))
}

delete() {
  "${queued[@]}" delete || say "could not delete the queued resource; looking again"
}

# replace WHY: the nodes are lost, or their workers were.
replace() {
  say "$1: deleting, to queue again"
  if [[ $state == FAILED || $state == SUSPENDED ]]; then
    run gcloud compute tpus queued-resources describe "$TPU_NAME" "--project=$PROJECT" "--zone=$ZONE" \
      '--format=yaml(state)' || true
  fi
  delete
  back_off
}

# finish EXIT_CODE WHY
finish() {
  say "$2"
  delete
  exit "$1"
}

# Shows the end of the log of the worker whose exit code decides.
show_why() {
  local worker
  worker=$(awk -v code="$verdict" '$2 == code { print $1; exit }' <<<"$told")
  say "$worker ended with exit code $verdict; the end of $(run_folder)/logs/$worker.log:"
  run gcloud storage cat "$(run_folder)/logs/$worker.log" | tail -n 20 || true
}

# What to do about active nodes. A resumable end is looked at twice: the worker that was the cause may tell it later.
attend() {
  was_active=yes
  judge || { say "the bucket could not be asked; looking again"; pause "$POLL_SECONDS"; return; }
  case "$verdict" in
    DONE) finish 0 "the run is complete: $(run_folder)" ;;
    RUNNING)
      resumable=0
      pause "$POLL_SECONDS"
      ;;
    SILENT)
      silent=$((silent + 1))
      [ "$silent" -lt "$START_POLLS" ] || finish 3 "no worker has told of the run after $silent looks at active nodes: may the nodes' service account write to $(run_folder)? On a worker, sudo journalctl -u google-startup-scripts tells more"
      pause "$POLL_SECONDS"
      ;;
    RESUMABLE)
      resumable=$((resumable + 1))
      if [ "$resumable" -ge 2 ]; then
        replace "the run ended and can be resumed"
      else
        pause "$POLL_SECONDS"
      fi
      ;;
    *)
      show_why
      finish "$verdict" "the run cannot go on by itself"
      ;;
  esac
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
    *) break ;;
  esac
done
[ $# -ge 1 ] || { usage >&2; exit 2; }
cd "$(dirname "$0")/.."
NUM_SLICES=${NUM_SLICES:-1}
POLL_SECONDS=${POLL_SECONDS:-60}
START_POLLS=${START_POLLS:-30}
BACKOFF_SECONDS=${BACKOFF_SECONDS:-30}
BACKOFF_CAP_SECONDS=${BACKOFF_CAP_SECONDS:-1800}
MAX_ATTEMPTS=${MAX_ATTEMPTS:-100}
need_node
need_accelerator
need_run
need_number NUM_SLICES slices
need_number POLL_SECONDS seconds
need_number START_POLLS looks
need_number BACKOFF_SECONDS seconds
need_number BACKOFF_CAP_SECONDS seconds
need_number MAX_ATTEMPTS attempts

arguments=("$@")
queued=(launch/tpu_queued.sh)
[ "$dry_run" = no ] || queued+=(--dry-run)
attempts=0 backoff=$BACKOFF_SECONDS was_active=no resumable=0 silent=0
state='' planned_state='' verdict='' told='' listed=''
keep_checkout=()
trap 'say "stopped watching; the nodes go on. Start again to watch on, or: launch/tpu_queued.sh delete"; exit 130' INT TERM

look || fail "the queued resources of $PROJECT in $ZONE cannot be listed, see above: gcloud auth login?"
while :; do
  [ "$state" = "${said:-}" ] || say "$TPU_NAME: $state"
  said=$state
  case "$state" in
    ABSENT) create ;;
    ACTIVE) attend ;;
    FAILED | SUSPENDED | "$TPU_NAME"*) replace "$state" ;;
    *) pause "$POLL_SECONDS" ;;
  esac
  until look; do
    say "the cloud could not be asked; looking again"
    pause "$POLL_SECONDS"
  done
done
