"""What JAX computes on: whether it found the accelerator that is there, and whether the config fits it."""

import os
import pathlib
import shutil
from typing import Any

import jax

from codegym_jax.config import MeshConfig, RunConfig, SamplingMeshConfig, UserError
from codegym_jax.models.devices import ACCELERATORS, parse_devices
from codegym_jax.models.peak import KINDS
from codegym_jax.models.sharding import mesh_shape
from codegym_jax.pipelines.doctor.finding import Finding, fail, first_line, not_checked, ok, warn
from codegym_jax.pipelines.doctor.machine import host_memory_bytes
from codegym_jax.pipelines.plan import HEADROOM, make_plan
from codegym_jax.pipelines.plan_shapes import resolve

_TRACES = {
    "dev/accel*": ("TPU", "pip install 'jax[tpu]'"),
    "dev/vfio/[0-9]*": ("TPU", "pip install 'jax[tpu]'"),
    "dev/nvidia[0-9]*": ("NVIDIA GPU", "pip install 'jax[cuda13]' (or jax[cuda12], by the driver)"),
    "dev/kfd": ("AMD GPU", "install JAX's plugin for ROCm"),
}
"""File below / -> whose it is, and what makes JAX see it."""


def check_devices(root: pathlib.Path = pathlib.Path("/"), path: str | None = None) -> list[Finding]:
    """The devices that JAX found.

    Args:
      root: of the file system.
      path: where programs are looked for; None is this process's PATH.
    """
    try:
        devices = jax.devices()
    except RuntimeError as error:
        fix = "another process may hold the device (end it), or JAX_PLATFORMS names one that is not here"
        return [fail("devices", first_line(error), fix)]
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    told = f"{len(devices)} x {kinds} ({jax.default_backend()})"
    if jax.process_count() > 1:
        told += f", {jax.local_device_count()} of them on each process"
    if jax.default_backend() != "cpu":
        return [ok("devices", told + _memory(devices[0]))]
    unused = unused_accelerator(root, path)
    if unused is None:
        return [ok("devices", told)]
    trace, whose, fix = unused
    asked = os.environ.get("JAX_PLATFORMS", "")
    if "cpu" in asked.split(","):
        fix = f"unset JAX_PLATFORMS, which is {asked!r}, unless that is meant"
    return [warn("devices", f"{told}, though {trace} tells of a {whose}", fix)]


def unused_accelerator(root: pathlib.Path, path: str | None) -> tuple[str, str, str] | None:
    """A trace of an accelerator on this machine, whose it is, and what makes JAX see it."""
    for pattern, (whose, fix) in _TRACES.items():
        for found in sorted(root.glob(pattern)):
            return str(found), whose, fix
    if program := shutil.which("nvidia-smi", path=path):
        return program, "NVIDIA GPU", _TRACES["dev/nvidia[0-9]*"][1]
    return None


def check_meshes(config: RunConfig) -> list[Finding]:
    """Whether the meshes that the config asks for can be laid over the devices."""
    findings = [_mesh("mesh", config.mesh, jax.device_count())]
    sampling = config.sampling_mesh
    if any((sampling.data, sampling.fsdp, sampling.tensor)):
        findings.append(_mesh("sampling_mesh", sampling, jax.local_device_count()))
    return findings


def check_plan(config: RunConfig) -> Finding:
    """Whether the run fits, by the plan of `codegym plan` for the devices that are here."""
    device = jax.devices()[0]
    name = "cpu" if device.platform == "cpu" else KINDS.get(device.device_kind)
    if name is None:
        why = f"the memory of a {device.device_kind} is not known to `codegym plan`"
        return not_checked(
            "memory plan", why, "codegym plan CONFIG --devices NAME-NUMBER, with the nearest one"
        )
    count = jax.device_count()
    try:
        plan = make_plan(config, f"{name}-{count * ACCELERATORS[name].named_by}")
    except UserError as error:
        return fail("memory plan", str(error), "change that setting")
    memory, devices = plan.devices.accelerator.memory_bytes, "a device"
    needed = plan.peak_bytes
    if name == "cpu":  # they share the host's memory
        memory, needed, devices = host_memory_bytes(), needed * jax.local_device_count(), "this host"
    told = f"{needed / 1e9:,.2f} of {memory / 1e9:,.1f} GB of {devices} at the fullest moment"
    if needed > (1 - HEADROOM) * memory:
        return fail("memory plan", f"{told}; {HEADROOM:.0%} are to stay free", "; ".join(plan.hints))
    return ok("memory plan", told)


def state_bytes(config: RunConfig) -> float:
    """Of one checkpoint: parameters and optimizer; 0 where the config makes none, which other checks tell."""
    try:
        shapes = resolve(config, parse_devices(f"cpu-{jax.device_count()}"))
        leaves = jax.tree.leaves(shapes.state)
    except UserError:
        return 0.0
    return float(sum(leaf.size * leaf.dtype.itemsize for leaf in leaves))


def _mesh(name: str, sizes: MeshConfig | SamplingMeshConfig, count: int) -> Finding:
    try:
        shape = mesh_shape(sizes.data, sizes.fsdp, sizes.tensor, count)
    except ValueError as error:
        fix = f"--set {name}.data=-1 {name}.fsdp=F {name}.tensor=T, with F x T a divisor of {count}"
        return fail(name, str(error).removeprefix("mesh: "), fix)
    return ok(name, "data={} fsdp={} tensor={}".format(*shape))


def _memory(device: Any) -> str:
    """Where the device tells it."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return f", {limit / 1e9:,.1f} GB each" if limit else ""
