"""What the operating system grants this process: cores, open files, memory, and a clock."""

import os
import pathlib
import resource
from time import monotonic, sleep, time

from codegym_jax.pipelines.doctor.finding import Finding, fail, ok, warn

FEWEST_FILES, ENOUGH_FILES = 256, 4096
_SLEPT_S = 0.05
_CLOCK_OFF_S = 2.0
_CGROUP = pathlib.Path("/sys/fs/cgroup")


def check_open_files() -> Finding:
    """Checkpoints, the data set and the workers of a synthesis hold files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_it = f"ulimit -n {65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)}"
    if soft == resource.RLIM_INFINITY:
        return ok("open files", "unlimited")
    if soft < FEWEST_FILES:
        return fail("open files", f"{soft}, at least {FEWEST_FILES} are needed", raise_it)
    if soft < ENOUGH_FILES:
        return warn("open files", f"{soft}, of {hard} that are allowed", raise_it)
    return ok("open files", f"{soft:,}")


def check_cores(workers: int = 0) -> Finding:
    """Guests, the tokenizer and the policy's bookkeeping run on the host's cores.

    Args:
      workers: processes that a synthesis was told to use; 0: one per core.
    """
    cores = usable_cores()
    if workers > cores:
        return warn(
            "cores for guests", f"{cores:g}, for synthesis.workers = {workers}", "--set synthesis.workers=0"
        )
    if cores < 2:
        fix = "give this process two cores or more, or tools hold up the device"
        return warn("cores for guests", f"{cores:g}", fix)
    return ok("cores for guests", f"{cores:g}")


def usable_cores() -> float:
    """Cores that this process may use: by its affinity, and by the quota of its container."""
    allowed = float(len(os.sched_getaffinity(0)))
    quota = (_read(_CGROUP / "cpu.max") or "max").split()
    return allowed if quota[0] == "max" else min(allowed, int(quota[0]) / int(quota[1]))


def host_memory_bytes() -> int:
    """Memory that this process may use: of the machine, or of its container."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read(_CGROUP / "memory.max")
    return min(whole, int(limit)) if limit.isdecimal() else whole


def check_clock(newest_file_s: float) -> Finding:
    """Whether the clock goes on, at the right pace, and not before what it must be after.

    Args:
      newest_file_s: when a file of this program was written, which cannot lie ahead.
    """
    wall_s, steady_s = time(), monotonic()
    sleep(_SLEPT_S)
    return judge_clock(wall_s, newest_file_s, time() - wall_s, monotonic() - steady_s)


def judge_clock(now_s: float, newest_file_s: float, passed_s: float, truly_passed_s: float) -> Finding:
    """The same, from what was read.

    Args:
      now_s: seconds since 1970.
      newest_file_s: see `check_clock`.
      passed_s: by the clock that can be set.
      truly_passed_s: by the one that cannot.
    """
    fix = "set the clock, and keep it by NTP or chrony (timedatectl set-ntp true)"
    if newest_file_s > now_s + _CLOCK_OFF_S:
        return fail("clock", f"{newest_file_s - now_s:,.0f} s behind a file of this program", fix)
    if truly_passed_s <= 0:
        return fail("clock", "the monotonic clock stands still", "report this machine to whoever runs it")
    if abs(passed_s - truly_passed_s) > _CLOCK_OFF_S:
        return warn(
            "clock", f"it was set while it was looked at, by {passed_s - truly_passed_s:+,.1f} s", fix
        )
    return ok("clock", "goes on, and after this program's files")


def _read(path: pathlib.Path) -> str:
    return path.read_text().strip() if path.is_file() else ""
