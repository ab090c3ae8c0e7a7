# shellcheck shell=bash
# What the launch scripts share. Sourced, never run: `source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"`.

# shellcheck disable=SC2034 # those who source this use what is set here

dry_run=no # --dry-run sets it: `run` then prints and runs nothing

# Ends the script for a user's mistake: names the setting, its value, and what would be right.
fail() {
  echo "launch/${0##*/}: $1" >&2
  exit 2
}

# Says what a person should know and no script reads.
note() {
  echo "launch/${0##*/}: $1" >&2
}

# The words of a command as one line that a shell reads as the same words.
quoted() {
  local words
  printf -v words ' %q' "$@"
  echo "${words:1}"
}

# Runs a command; under --dry-run prints it, quoted so that a shell would run the same.
run() {
  if [ "$dry_run" = yes ]; then
    quoted "$@"
  else
    "$@"
  fi
}

# ask VARIABLE PLANNED COMMAND...: keeps what a command prints; under --dry-run prints the command and keeps PLANNED.
ask() {
  local _variable=$1 _answer=$2
  shift 2
  if [ "$dry_run" = yes ]; then
    quoted "$@"
  else
    _answer=$("$@") || return
  fi
  printf -v "$_variable" %s "$_answer"
}

# write_file PATH: with the text of standard input; under --dry-run prints the command that would.
write_file() {
  if [ "$dry_run" = yes ]; then
    quoted mkdir -p "$(dirname "$1")"
    printf "cat > %q <<'END'\n%s\nEND\n" "$1" "$(cat)"
  else
    mkdir -p "$(dirname "$1")"
    cat >"$1"
  fi
}

# Fails by the name of the first variable that is unset or empty.
need() {
  local name
  for name in "$@"; do
    [ -n "${!name:-}" ] || fail "$name is not set; --help says what it is"
  done
}

# need_number NAME WHAT: fails unless the variable is a whole number from 1.
need_number() {
  [[ ${!1} =~ ^[1-9][0-9]*$ ]] || fail "$1 must be a number of $2, got ${!1}"
}

# Fails unless RUN_NAME and BASE_OUTPUT_DIRECTORY make a run folder in a bucket.
need_run() {
  need BASE_OUTPUT_DIRECTORY RUN_NAME
  [[ $BASE_OUTPUT_DIRECTORY == gs://?* ]] \
    || fail "BASE_OUTPUT_DIRECTORY must begin with gs://, got $BASE_OUTPUT_DIRECTORY"
  [[ $RUN_NAME =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] \
    || fail "RUN_NAME must be small letters, digits and dashes, got $RUN_NAME"
}

# Where everything of the run lies.
run_folder() {
  echo "${BASE_OUTPUT_DIRECTORY%/}/$RUN_NAME"
}

# need_value FLAG VALUES...: fails unless the flag is followed by a value.
need_value() {
  [ $# -ge 2 ] || fail "$1 needs a value; --help says which"
}

# worst_exit_code CODE...: of several processes the one that says most: a user's mistake (2), a run that cannot go on
# (1), any other end, resumable (42), done (0).
worst_exit_code() {
  local code worst=0 rank highest=0
  for code in "$@"; do
    case "$code" in
      0) rank=0 ;;
      42) rank=1 ;;
      1) rank=3 ;;
      2) rank=4 ;;
      *) rank=2 ;;
    esac
    if [ "$rank" -gt "$highest" ]; then
      highest=$rank worst=$code
    fi
  done
  echo "$worst"
}

exit_code=0     # of what `wait_for` waited for
interrupted=no  # a trap sets it to yes

# wait_for PID: waits through the signals that are trapped meanwhile.
wait_for() {
  while :; do
    interrupted=no
    exit_code=0
    wait "$1" || exit_code=$?
    [ "$interrupted" = yes ] || return 0
  done
}

# need_task_set IS_SENT CONFIG OPTION...: fails where the experiment names a task set that only this machine has. A run takes
# the one that its folder holds, whatever the settings name. `IS_SENT FILE` tells whether workers get a file of this checkout.
need_task_set() {
  local is_sent=$1 path found
  shift
  [ -x .venv/bin/python ] || return 0 # nobody here can read a config; the run will tell
  path=$(.venv/bin/python launch/task_set.py "$@" 2>/dev/null) || return 0
  if [ -z "$path" ] || [[ $path == /* ]] || "$is_sent" "$path/manifest.json"; then return 0; fi
  # shellcheck disable=SC2034 # it is there, or the command fails
  ask found '' gcloud storage ls "$(run_folder)/task_set/manifest.json" \
    || fail "data.task_set $path is on this machine alone; bring it to the run folder, which workers see, and start again:
  gcloud storage rsync --recursive $(quoted "$path" "$(run_folder)/task_set")"
}

# --- Cloud TPU -----------------------------------------------------------------------------------------------------

# The runtime version for ACCELERATOR_TYPE, unless RUNTIME_VERSION names one. This is the only table of them.
# Source: https://cloud.google.com/tpu/docs/runtimes (PyTorch and JAX). TPU7x and later have none: the Cloud TPU API
# does not serve them, Kubernetes does (same page, and https://docs.cloud.google.com/tpu/docs/tpu7x).
tpu_runtime_version() {
  if [ -n "${RUNTIME_VERSION:-}" ]; then
    echo "$RUNTIME_VERSION"
    return
  fi
  case "$(tpu_generation)" in
    v2 | v3 | v4) echo tpu-ubuntu2204-base ;;
    v5e) echo v2-alpha-tpuv5-lite ;;
    v5p) echo v2-alpha-tpuv5 ;;
    v6e) echo v2-alpha-tpuv6e ;;
  esac
}

# The generation in the words of TPU users: ACCELERATOR_TYPE begins with it, but v5e is called v5litepod there.
tpu_generation() {
  local generation=${ACCELERATOR_TYPE%%-*}
  echo "${generation/v5litepod/v5e}"
}

# Fails unless ACCELERATOR_TYPE is one that the Cloud TPU API serves.
need_accelerator() {
  need ACCELERATOR_TYPE
  case "$ACCELERATOR_TYPE" in
    tpu7x* | v7*) fail "ACCELERATOR_TYPE $ACCELERATOR_TYPE is served by Kubernetes only: launch/gke/" ;;
    v5e-*) fail "ACCELERATOR_TYPE is v5litepod-${ACCELERATOR_TYPE#v5e-} in Google's words, got $ACCELERATOR_TYPE" ;;
  esac
  if ! [[ $ACCELERATOR_TYPE =~ -[1-9][0-9]*$ ]] || ! [ -n "$(tpu_runtime_version)" ]; then
    fail "ACCELERATOR_TYPE must be such as v4-8, v5litepod-16, v5p-32 or v6e-64, got $ACCELERATOR_TYPE"
  fi
}

# Fails unless the node can be named.
need_node() {
  need PROJECT ZONE TPU_NAME
  [[ $TPU_NAME =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] \
    || fail "TPU_NAME must be small letters, digits and dashes, got $TPU_NAME"
}

# Whether a file is part of what `send_checkout` sends.
is_committed() {
  git cat-file -e "HEAD:$1" 2>/dev/null
}

# Fails unless the config is.
need_committed() {
  is_committed "$1" \
    || fail "config file $1 is not in the last commit, which is what workers get: name it from here and commit it"
}

# Sends the last commit to the run folder, where every worker takes it from: one upload for all of them, and a worker
# that is made again needs nobody's machine.
send_checkout() {
  local tarball=build/launch/$RUN_NAME/checkout.tar.gz
  git diff --quiet HEAD -- || note "changes that are not committed are not sent"
  run mkdir -p "build/launch/$RUN_NAME"
  run git archive --format=tar.gz "--output=$tarball" HEAD
  run gcloud storage cp "$tarball" "$(run_folder)/launch/checkout.tar.gz"
}

# Prints what a worker's shell runs to get that commit; the environment of an earlier one stays.
fetch_checkout() {
  cat <<TEXT
flock --nonblock codegym-jax.lock true || { echo 'a run is going on here; stop it first' >&2; exit 2; }
rm -rf codegym-jax.new
mkdir codegym-jax.new
gcloud storage cat $(run_folder)/launch/checkout.tar.gz | tar -xzm -C codegym-jax.new
[ ! -d codegym-jax/.venv ] || mv codegym-jax/.venv codegym-jax.new/
rm -rf codegym-jax
mv codegym-jax.new codegym-jax
cd codegym-jax
export RUN_NAME=$RUN_NAME BASE_OUTPUT_DIRECTORY=$(quoted "$BASE_OUTPUT_DIRECTORY")
TEXT
  [ -z "${CODEGYM_GRACE_S:-}" ] || echo "export CODEGYM_GRACE_S=$(quoted "$CODEGYM_GRACE_S")"
}
