#!/usr/bin/env bash
# Builds the container image and pushes it to a registry.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
usage: launch/image.sh [--dry-run] [--push] tpu|cuda|cpu

  --push      push it when it is built
  --dry-run   print the commands, and run none

environment:
  IMAGE       its name, such as us-docker.pkg.dev/PROJECT/REPOSITORY/tpu:1; a new tag for each change, because nodes
              keep what they have of a tag
  DOCKER      what builds (default docker); podman takes the same options

For Artifact Registry, once a machine: gcloud auth configure-docker us-docker.pkg.dev

examples:
  IMAGE=us-docker.pkg.dev/mine/codegym/tpu:1 launch/image.sh --push tpu
  IMAGE=codegym:cpu launch/image.sh cpu && docker run --rm codegym:cpu run configs/smoke_cpu.py --run /tmp/smoke
TEXT
}

push=no
while [ $# -gt 0 ]; do
  case "$1" in
    --dry-run) dry_run=yes ;;
    --push) push=yes ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) break ;;
  esac
  shift
done
[ $# -eq 1 ] || { usage >&2; exit 2; }
case "$1" in
  tpu | cuda | cpu) ;;
  *) fail "the accelerator must be tpu, cuda or cpu, got $1" ;;
esac
need IMAGE
[[ $IMAGE =~ ^[a-z0-9][-_./:a-z0-9]*$ ]] || fail "IMAGE must be an image's name in small letters, got $IMAGE"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# All machines that the other scripts know are of this platform, whatever the machine that builds.
run "${DOCKER:-docker}" build --file=launch/Containerfile --build-arg="ACCELERATOR=$1" --platform=linux/amd64 \
  "--tag=$IMAGE" .
if [ "$push" = yes ]; then
  run "${DOCKER:-docker}" push "$IMAGE"
fi
