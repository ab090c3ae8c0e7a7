# shellcheck shell=bash
# What the launch scripts share. Sourced, never run: `source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"`.

dry_run=no # --dry-run sets it: `run` then prints and runs nothing

# Ends the script for a user's mistake: names the setting, its value, and what would be right.
fail() {
  echo "launch/${0##*/}: $1" >&2
  exit 2
}

# Runs a command; under --dry-run prints it, quoted so that a shell would run the same.
run() {
  if [ "$dry_run" = yes ]; then
    local words
    printf -v words ' %q' "$@"
    echo "${words:1}"
  else
    "$@"
  fi
}

# Fails by the name of the first variable that is unset or empty.
need() {
  local name
  for name in "$@"; do
    [ -n "${!name:-}" ] || fail "$name is not set; --help says what it is"
  done
}
