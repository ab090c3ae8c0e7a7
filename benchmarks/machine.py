"""What a measurement needs to know of the machine: CPU clocks of processes, private memory, load, names."""

import os
import pathlib
import platform
import resource
import subprocess
import time
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

_CPUCLOCK_SCHED = 2  # Linux: the clock id of a process's CPU time is (~pid << 3) | 2


def cpu_s(children: Iterable[int] = ()) -> float:
    """CPU seconds of this process, of children it waited for, and of living children and their dead ones."""
    waited_for = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        time.process_time()
        + waited_for.ru_utime
        + waited_for.ru_stime
        + sum(_tree_cpu_s(child) for child in children)
    )


def private_bytes(pid: int | str = "self") -> int:
    """Anonymous memory that belongs to a process, pages shared with others counted by their share."""
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    line = next(line for line in rollup.splitlines() if line.startswith("Pss_Anon:"))
    return int(line.split()[1]) * 1024


def load_average() -> list[float]:
    """Runnable processes of the whole machine over 1, 5 and 15 minutes."""
    return [round(load, 2) for load in os.getloadavg()]


def describe(packages: Iterable[str] = ("wasmtime",)) -> dict[str, Any]:
    """CPU, cores, Python, commit, and the versions of packages."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "commit": _commit(),
    }


def _tree_cpu_s(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    of_dead_children = sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED) + of_dead_children


def _commit() -> str:
    root = pathlib.Path(__file__).resolve().parents[1]
    commands = (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    try:
        head, changes = (
            subprocess.run(["git", *command], cwd=root, check=True, capture_output=True, text=True).stdout
            for command in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.strip() + ("+changes" if changes.strip() else "")
