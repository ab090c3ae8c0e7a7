"""Fills in the JobSet of one run on GKE, for `launch/gke/submit.sh`, whose --help lists the settings.

They come from the environment. Nothing is printed unless all of it is right. Every value is put in as JSON,
which is YAML too, so that it cannot be read as anything else. Needs the standard library only: it runs
wherever kubectl does.

Sources, read November 2026: https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus and
https://cloud.google.com/tpu/docs/v4, v5e, v5p and v6e there (labels, machine types, topologies);
xpk 1.16.0, core/system_characteristics.py (the topology that a type stands for, chips of a machine);
https://cloud.google.com/kubernetes-engine/docs/how-to/gpus (labels of GPU nodes).
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from os import environ
from pathlib import Path
from string import Template

FOLDER = Path(__file__).parent

# Chips of a slice -> its topology: the one that Cloud TPU takes for that size unless told another.
SQUARES = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
CUBES = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8"}
CUBES |= {512: "8x8x8", 1024: "8x8x16", 2048: "8x16x16"}


@dataclass(frozen=True)
class Tpu:
    """One generation as GKE knows it."""

    label: str  # of its nodes, cloud.google.com/gke-tpu-accelerator
    shapes: Mapping[int, str]  # chips -> topology
    machines: Mapping[int, str]  # chips of a machine -> its type
    named_by: int = 1  # TensorCores of a chip, where a type is named by TensorCores: v5p-64 is 32 chips


TPUS = {
    "v4": Tpu("tpu-v4-podslice", CUBES, {4: "ct4p-hightpu-4t"}, named_by=2),
    "v5p": Tpu("tpu-v5p-slice", CUBES, {4: "ct5p-hightpu-4t"}, named_by=2),
    "v5e": Tpu("tpu-v5-lite-podslice", SQUARES, {n: f"ct5lp-hightpu-{n}t" for n in (1, 4, 8)}),
    "v6e": Tpu("tpu-v6e-slice", SQUARES, {n: f"ct6e-standard-{n}t" for n in (1, 4, 8)}),
}
ALIASES = {"v5litepod": "v5e"}
CHIPS_OF_A_HOST = 4
"""In a slice of several hosts, in every generation."""

GPUS = {"a100": "nvidia-a100-80gb", "h100": "nvidia-h100-80gb", "h200": "nvidia-h200-141gb"}
"""A GPU -> the label of its nodes, cloud.google.com/gke-accelerator."""
GPUS_OF_A_NODE = 8

COORDINATOR_PORT = 8476
_NAME_BYTES = 63  # of a pod's host name
_SPOT = "cloud.google.com/gke-spot"


class SettingError(ValueError):
    """A setting that cannot be used: its name, its value, and what would be right."""


@dataclass(frozen=True)
class Hosts:
    """The machines of one slice, or of a GPU job; each runs one process."""

    count: int
    devices: int  # chips or GPUs of each
    words: str  # for whoever makes the node pool
    labels: Mapping[str, str]  # by which the nodes are found


def slice_hosts(accelerator_type: str, topology: str = "", several: bool = False) -> Hosts:
    """The machines of one TPU slice.

    Args:
      accelerator_type: as Cloud TPU names it, such as v5p-64 or v5litepod-16.
      topology: in place of the usual one for that many chips.
      several: for Multislice, whose slices must have more than one host.

    Raises:
      SettingError: when there is no such slice.
    """
    match = re.fullmatch(r"(\w+)-([1-9]\d*)", accelerator_type)
    name = ALIASES.get(match[1], match[1]) if match else ""
    if match is None or name not in TPUS:
        raise SettingError(
            f"ACCELERATOR_TYPE must be one of {', '.join(TPUS)} with its size, such as v5p-64, got"
            f" {accelerator_type}"
        )
    tpu = TPUS[name]
    chips, rest = divmod(int(match[2]), tpu.named_by)
    topology = topology or tpu.shapes.get(chips, "")
    if rest or not topology:
        sizes = ", ".join(f"{match[1]}-{size * tpu.named_by}" for size in tpu.shapes)
        raise SettingError(
            f"ACCELERATOR_TYPE must be one of {sizes}, or have a TOPOLOGY, got {accelerator_type}"
        )
    axes = len(next(iter(tpu.shapes.values())).split("x"))
    sides = [int(side) for side in topology.split("x")]
    if len(sides) != axes or prod(sides) != chips:
        raise SettingError(
            f"TOPOLOGY of {accelerator_type} must be {axes} numbers whose product is its {chips} chips, got"
            f" {topology}"
        )
    if several and chips <= CHIPS_OF_A_HOST:
        raise SettingError(
            f"ACCELERATOR_TYPE must be a slice of several hosts for multi, got {accelerator_type}"
        )
    # Eight chips may be one machine. Multislice takes two: it needs slices of several hosts.
    devices = chips if chips in tpu.machines and not several else CHIPS_OF_A_HOST
    count, rest = divmod(chips, devices)
    if rest:
        raise SettingError(
            f"ACCELERATOR_TYPE must be whole machines of {devices} chips, got {accelerator_type}"
        )
    return Hosts(
        count=count,
        devices=devices,
        words=f"{count} x {tpu.machines[devices]}, topology {topology}",
        labels={
            "cloud.google.com/gke-tpu-accelerator": tpu.label,
            "cloud.google.com/gke-tpu-topology": topology,
        },
    )


def gpu_hosts(accelerator_type: str) -> Hosts:
    """The nodes of a GPU job.

    Args:
      accelerator_type: a GPU and how many of it, such as h100-16.

    Raises:
      SettingError: when there are no such nodes.
    """
    match = re.fullmatch(r"(\w+)-([1-9]\d*)", accelerator_type)
    number = int(match[2]) if match else 0
    if match is None or match[1] not in GPUS or (number > GPUS_OF_A_NODE and number % GPUS_OF_A_NODE):
        raise SettingError(
            f"ACCELERATOR_TYPE must be one of {', '.join(GPUS)} with a number of GPUs, up to"
            f" {GPUS_OF_A_NODE} or whole nodes of {GPUS_OF_A_NODE}, such as h100-16, got {accelerator_type}"
        )
    devices = min(number, GPUS_OF_A_NODE)
    count, label = number // devices, GPUS[match[1]]
    labels = {"cloud.google.com/gke-accelerator": label}
    return Hosts(count=count, devices=devices, words=f"{count} x {devices} {label}", labels=labels)


@dataclass(frozen=True)
class Settings:
    """The environment, checked."""

    run_name: str
    run_folder: str
    compile_cache: str
    image: str
    accelerator_type: str
    topology: str
    num_slices: int
    max_restarts: int
    service_account: str
    grace_s: int


_PATTERNS = {
    "RUN_NAME": (r"[a-z]([-a-z0-9]*[a-z0-9])?", "small letters, digits and dashes"),
    "BASE_OUTPUT_DIRECTORY": (r"gs://[a-z0-9][-_.a-z0-9]+(/[-\w.=]+)*/?", "gs://BUCKET/FOLDER"),
    "IMAGE": (r"[-\w./:@]+", "a container image, such as us-docker.pkg.dev/mine/codegym/tpu:1"),
    "ACCELERATOR_TYPE": (r"[-\w]+", "a name and a size, such as v5p-64 or h100-16"),
    "TOPOLOGY": (r"|\d+(x\d+)+", "numbers with an x between them, such as 4x4x8"),
    "NUM_SLICES": (r"[1-9]\d*", "a number of slices"),
    "MAX_RESTARTS": (r"\d+", "a number"),
    "SERVICE_ACCOUNT": (r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", "a Kubernetes service account"),
    "CODEGYM_GRACE_S": (r"[1-9]\d*", "a number of seconds"),
}
_DEFAULTS = {
    "TOPOLOGY": "",
    "NUM_SLICES": "1",
    "MAX_RESTARTS": "3",
    "SERVICE_ACCOUNT": "default",
    "CODEGYM_GRACE_S": "25",
}


def read_settings(kind: str, environment: Mapping[str, str]) -> Settings:
    """The settings of one kind of job.

    Raises:
      SettingError: naming the first variable that is unset or of another form, or does not fit the others.
    """
    values = {}
    for name, (pattern, what) in _PATTERNS.items():
        value = environment.get(name) or _DEFAULTS.get(name)
        if value is None:
            raise SettingError(f"{name} is not set; --help says what it is")
        if not re.fullmatch(pattern, value):
            raise SettingError(f"{name} must be {what}, got {value}")
        values[name] = value
    slices = int(values["NUM_SLICES"])
    if (kind == "multi") != (slices > 1):
        right = "2 or more for multi" if kind == "multi" else f"1 for {kind}"
        raise SettingError(f"NUM_SLICES must be {right}, got {slices}")
    base = values["BASE_OUTPUT_DIRECTORY"].rstrip("/")
    return Settings(
        run_name=values["RUN_NAME"],
        run_folder=f"{base}/{values['RUN_NAME']}",
        compile_cache=f"{base}/compile_cache",
        image=values["IMAGE"],
        accelerator_type=values["ACCELERATOR_TYPE"],
        topology=values["TOPOLOGY"],
        num_slices=slices,
        max_restarts=int(values["MAX_RESTARTS"]),
        service_account=values["SERVICE_ACCOUNT"],
        grace_s=int(values["CODEGYM_GRACE_S"]),
    )


def codegym_arguments(request: argparse.Namespace, settings: Settings, hosts: Hosts, job: str) -> list[str]:
    """What the container's entry point, `codegym`, is called with.

    Raises:
      SettingError: when an option could not be passed on as it is.
    """
    words = ["run", request.config, "--run", settings.run_folder, *request.options]
    for word in words:
        if not word.isprintable():
            raise SettingError(f"an option must be printable text, got {word!r}")
    # Kubernetes would take $(NAME) for a variable of its own.
    words = [word.replace("$(", "$$(") for word in words]
    if hosts.count * settings.num_slices == 1:
        return words
    if job == "slice":
        return [*words, "--coordinator", "auto"]  # JAX finds the hosts in what GKE tells TPU pods
    # On GPU nodes JAX would have to ask Kubernetes, and be allowed to. PROCESS_ID is the pod's number.
    coordinator = f"{settings.run_name}-{job}-0-0.{settings.run_name}:{COORDINATOR_PORT}"
    process = ["--process-id", "$(PROCESS_ID)", "--process-count", str(hosts.count)]
    return [*words, "--coordinator", coordinator, *process]


def render(request: argparse.Namespace, settings: Settings) -> str:
    """The JobSet as YAML.

    Args:
      request: what `main` was asked for.
      settings: where it runs.

    Raises:
      SettingError: when what is asked for does not exist, or could not be passed on as it is.
    """
    if request.kind == "gpu":
        job, device, file = "node", "nvidia.com/gpu", "gpu.yaml"
        hosts = gpu_hosts(settings.accelerator_type)
    else:
        job, device, file = "slice", "google.com/tpu", "tpu.yaml"
        hosts = slice_hosts(settings.accelerator_type, settings.topology, request.kind == "multi")
    longest = f"{settings.run_name}-{job}-{settings.num_slices - 1}-{hosts.count - 1}-abcde"  # a pod's name
    if len(longest) > _NAME_BYTES:
        most = _NAME_BYTES - len(longest) + len(settings.run_name)
        raise SettingError(f"RUN_NAME must have at most {most} characters here, got {settings.run_name}")
    labels, tainted = dict(hosts.labels), [device]
    if request.spot:
        labels[_SPOT] = "true"
        tainted.append(_SPOT)
    if request.reservation:
        labels["cloud.google.com/reservation-name"] = request.reservation
    values = {
        "run_name": settings.run_name,
        "max_restarts": settings.max_restarts,
        "num_slices": settings.num_slices,
        "hosts": hosts.count,
        "devices": str(hosts.devices),  # Kubernetes writes amounts as strings
        "device_ids": ",".join(map(str, range(hosts.devices))),
        "node_labels": labels,
        "tolerations": [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in tainted],
        "service_account": settings.service_account,
        "image": settings.image,
        "arguments": codegym_arguments(request, settings, hosts, job),
        "compile_cache": settings.compile_cache,
        "grace_s": str(settings.grace_s),  # as of every variable
    }
    quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    return Template((FOLDER / file).read_text()).substitute(quoted, words=hosts.words)


def main(arguments: Sequence[str]) -> int:
    """Prints the JobSet; exit code 2 and a sentence on standard error for a user's mistake."""
    parser = argparse.ArgumentParser(prog="render.py", allow_abbrev=False)
    capacity = parser.add_mutually_exclusive_group()
    capacity.add_argument("--spot", action="store_true")
    capacity.add_argument("--reservation", default="")
    parser.add_argument("kind", choices=["single", "multi", "gpu"])
    parser.add_argument("config")
    parser.add_argument("options", nargs=argparse.REMAINDER)
    request = parser.parse_args(arguments)
    try:
        print(render(request, read_settings(request.kind, environ)), end="")
    except SettingError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
