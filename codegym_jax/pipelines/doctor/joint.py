"""What processes that JAX has joined find out together: their devices, a sum over all of them, one folder."""

import pathlib
import uuid
from collections.abc import Sequence
from time import monotonic

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from codegym_jax.data.store import is_remote
from codegym_jax.pipelines.doctor.finding import Finding, fail, first_line, ok
from codegym_jax.pipelines.doctor.storage import nearest_folder
from codegym_jax.pipelines.processes import Processes


def check_joint(processes: Processes, run: str) -> list[Finding]:
    """Every process must call it, and gets the same findings.

    Args:
      processes: that are joined.
      run: the run folder, which all of them must see.
    """
    counts = [int(text) for text in processes.gather(str(jax.local_device_count()).encode())]
    return [judge_devices(counts, jax.device_count()), _check_sum(), _check_folder(processes, run)]


def judge_devices(local_counts: Sequence[int], count: int) -> Finding:
    """Whether the processes' devices are all of them, as many on each.

    Args:
      local_counts: of each process.
      count: all, as a process sees them.
    """
    check = "devices of all processes"
    told = ", ".join(f"{number} on process {index}" for index, number in enumerate(local_counts))
    if sum(local_counts) != count:
        fix = "end what is left of an earlier start, and start all processes again"
        return fail(check, f"{count} are seen, but {told}", fix)
    if len(set(local_counts)) > 1:
        return fail(
            check, told, "give each process as many devices as the others: each samples on a mesh alike"
        )
    return ok(check, f"{count}, {local_counts[0]} on each of {len(local_counts)}")


def _check_sum() -> Finding:
    """Adds up ones, one on each device, over the network that collectives take."""
    count = jax.device_count()
    mesh = Mesh(np.array(jax.devices()), ("all",))
    ones = jax.make_array_from_callback(
        (count,), NamedSharding(mesh, PartitionSpec("all")), lambda index: np.ones(1, np.float32)
    )
    total = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))
    try:
        total(ones).block_until_ready()
        start_s = monotonic()
        found = float(np.asarray(total(ones).addressable_data(0)))
        took_s = monotonic() - start_s
    except jax.errors.JaxRuntimeError as error:
        return fail(
            "all-reduce", first_line(error), "open the network between the hosts to all ports of each other"
        )
    if found != count:
        return fail("all-reduce", f"{count} ones add up to {found:g}", "do not train here; report it")
    return ok("all-reduce", f"over {count} devices in {took_s * 1e3:.1f} ms")


def _check_folder(processes: Processes, run: str) -> Finding:
    """Process 0 writes a file, and each says whether it sees it."""
    check = "one run folder"
    if is_remote(run):
        return ok(check, f"{run} is on a bucket, which all see")
    mark = nearest_folder(pathlib.Path(run)) / f".codegym-doctor-{uuid.uuid4().hex}"
    told = processes.from_first(lambda: _marked(mark)).decode()
    if not told:
        return fail(check, f"process 0 cannot write to {mark.parent}", "see the row `run folder`")
    seen = processes.gather(b"1" if pathlib.Path(told).is_file() else b"")
    processes.once(lambda: pathlib.Path(told).unlink(missing_ok=True))
    blind = [str(index) for index, one in enumerate(seen) if not one]
    if blind:
        return fail(
            check,
            f"process {', '.join(blind)} does not see what process 0 writes to {pathlib.Path(told).parent}",
            "put --run on a path that all hosts share (NFS, Filestore, gs://)",
        )
    return ok(check, f"all {len(seen)} see {pathlib.Path(told).parent}")


def _marked(mark: pathlib.Path) -> bytes:
    try:
        mark.write_bytes(b"")
    except OSError:
        return b""
    return str(mark).encode()
