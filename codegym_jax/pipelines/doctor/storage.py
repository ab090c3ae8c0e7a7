"""Whether there is room, and whether files can be written where a run and its caches write them."""

import os
import pathlib
import shutil
import threading
import uuid
from collections.abc import Callable
from time import time

from codegym_jax.config import Outage, UserError
from codegym_jax.data.store import Store, is_remote
from codegym_jax.pipelines.doctor.finding import Finding, fail, first_line, not_checked, ok, warn

LEAST_BYTES, ENOUGH_BYTES = 1e9, 10e9
_CLOCK_OFF_S = 2.0
_BUCKET_TIMEOUT_S = 30.0
_CONTENT = b"codegym doctor wrote this and removes it\n"


def check_disk(name: str, place: str, needed_bytes: float = 0.0) -> Finding:
    """Free space and free entries of the disk that a folder is on, or will be.

    Args:
      name: of the check.
      place: the folder; it need not be there.
      needed_bytes: what is known to be written there.
    """
    if is_remote(place):
        return not_checked(name, f"{place} is on a bucket, which has no end")
    folder = nearest_folder(pathlib.Path(place))
    free, status = shutil.disk_usage(folder).free, os.statvfs(folder)
    least, enough = LEAST_BYTES + needed_bytes, ENOUGH_BYTES + needed_bytes
    told = f"{free / 1e9:,.1f} GB free on {folder}"
    if needed_bytes:
        told += f", {needed_bytes / 1e9:,.2f} GB for checkpoints"
    fix = "free some, or name another folder"
    if free < least or (status.f_files and not status.f_favail):
        entries = "" if free < least else "; it has no entries (inodes) left"
        return fail(name, f"{told}, at least {least / 1e9:,.1f} GB are needed{entries}", fix)
    return ok(name, told) if free >= enough else warn(name, told, fix)


def check_writable(name: str, place: str) -> list[Finding]:
    """Writes, reads, renames and removes a small file; nothing of it stays. A disk's clock is told, too."""
    if is_remote(place):
        return [_in_time(name, place, lambda: _try_bucket(name, place))]
    folder = nearest_folder(pathlib.Path(place))
    trial = folder / f".codegym-doctor-{uuid.uuid4().hex}"
    fix = f"chown or chmod {folder}, mount it for writing, or name another folder"
    try:
        trial.mkdir()
        try:
            written_s = _try_folder(trial)
        finally:
            shutil.rmtree(trial, ignore_errors=True)
    except OSError as error:
        return [fail(name, f"{place}: {error.strerror or first_line(error)}", fix)]
    there = "" if folder == pathlib.Path(place) else f"{folder}, where {place} will be, "
    return [ok(name, f"{there or f'{place} '}takes files"), _file_clock(f"{name}, clock", written_s - time())]


def nearest_folder(place: pathlib.Path) -> pathlib.Path:
    """The folder itself, or the nearest above it that is there."""
    place = place.absolute()
    return next(folder for folder in (place, *place.parents) if folder.exists())


def _try_folder(trial: pathlib.Path) -> float:
    """When the disk says that the file was written."""
    first, second = trial / "written", trial / "renamed"
    first.write_bytes(_CONTENT)
    first.replace(second)
    if second.read_bytes() != _CONTENT or first.exists():
        raise OSError(None, "what is read back is not what was written")
    written_s = second.stat().st_mtime
    second.unlink()
    return written_s


def _try_bucket(name: str, place: str) -> Finding:
    try:
        store, file = Store(place), f".codegym-doctor-{uuid.uuid4().hex}"
    except UserError as error:
        return not_checked(name, f"{place}: {error}", "pip install 'codegym-jax[gcs]'")
    try:
        store.write(file, _CONTENT)
        same = store.read(file) == _CONTENT
        store.remove(file)
    except FileNotFoundError:
        return fail(
            name,
            f"{place}: there is no such bucket",
            "mend the name; gcloud storage buckets create makes one",
        )
    except Outage as error:
        return fail(name, first_line(error), "check the network of this machine, and try again")
    except (UserError, OSError) as error:
        fix = (
            "gcloud auth application-default login, or give this machine's account roles/storage.objectAdmin"
        )
        return fail(name, f"{place}: {first_line(error)}", fix)
    if not same:
        return fail(name, f"{place}: what is read back is not what was written", "use another bucket")
    return ok(name, f"{place} takes files; a bucket has no renaming, and none is needed there")


def _in_time(name: str, place: str, look: Callable[[], Finding]) -> Finding:
    """What `look` finds, unless it takes too long: clients of buckets try again for minutes."""
    found: list[Finding] = []
    thread = threading.Thread(target=lambda: found.append(look()), daemon=True)
    thread.start()
    thread.join(_BUCKET_TIMEOUT_S)
    if found:
        return found[0]
    return fail(
        name,
        f"{place}: no answer in {_BUCKET_TIMEOUT_S:.0f} s",
        "check the network, and that the bucket is there: gcloud storage ls",
    )


def _file_clock(name: str, ahead_s: float) -> Finding:
    """Whether the disk's clock is this machine's: a file server has its own."""
    if abs(ahead_s) > _CLOCK_OFF_S:
        fix = "keep the clocks of this machine and of the file server by NTP"
        return warn(name, f"the disk's clock is {ahead_s:+,.1f} s off this machine's", fix)
    return ok(name, "the disk's clock is this machine's")
