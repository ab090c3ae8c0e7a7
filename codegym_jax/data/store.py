"""A folder of files, on this machine or on a bucket (`gs://bucket/folder`), by the same few calls.

A bucket has no folders, no appending, no renaming and no locks: it has whole objects, each of which appears
at once and is seen by everybody from then on. So nothing here offers more than that, on a local disk either.
Credentials are found the way Google's own tools find them. Reading back gigabytes to see whether they are
whole would cost as much as writing them: a bucket keeps a checksum of every object, which `digests` gives.
"""

import contextlib
import hashlib
import logging
import os
import pathlib
import shutil
import socket
from collections.abc import Iterator
from typing import Any

from etils import epath
from fsspec.implementations.local import LocalFileSystem

from codegym_jax.config import Outage, UserError
from codegym_jax.data.atomic import replacing

REMOTE = "gs://"
_FAILED_FOR_NOW = {408, 429, *range(500, 600)}
"""Status codes of HTTP: too slow, too many, and what the service itself got wrong."""
_TENSORSTORE_GAVE_UP = ("ABORTED: ", "DEADLINE_EXCEEDED: ", "UNAVAILABLE: ")
_TENSORSTORE_REFUSED = ("PERMISSION_DENIED: ", "UNAUTHENTICATED: ")
"""How the messages of its errors begin, which are all of one type, `ValueError`."""

Place = pathlib.Path | epath.Path
"""A local path, or one on a bucket, which keeps its two slashes."""


class StoreError(UserError):
    """A bucket that cannot be used: the package for it is missing, there is no access, or no such bucket."""


def is_remote(place: str | os.PathLike[str]) -> bool:
    """Whether it is on a bucket.

    Raises:
      StoreError: when it is an address of another kind; TensorStore, which writes the checkpoints, would take
        it for a local path.
    """
    text = os.fspath(place)
    if "://" in text and not text.startswith(REMOTE):
        raise StoreError(f"{text} is neither a local path nor {REMOTE}BUCKET/FOLDER")
    return text.startswith(REMOTE)


class BucketOutage(Outage):
    """A bucket that does not answer, or cannot for now, however often it was asked."""


class Store:
    """The files below one folder. Names are relative to it, with slashes, on a bucket and elsewhere.

    Args:
      place: the folder; made when something is first written.

    Every call raises `StoreError` where the bucket refuses it, and `BucketOutage` where it does not answer.

    Raises:
      StoreError: for an address of another kind, or where the package for buckets is missing.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.is_remote = is_remote(place)
        self.place: Place = epath.Path(place) if self.is_remote else pathlib.Path(place).absolute()
        self._fs: Any = _google_storage() if self.is_remote else LocalFileSystem(auto_mkdir=True)
        self._root = os.fspath(self.place).removeprefix(REMOTE).rstrip("/")

    def require_bucket(self) -> None:
        """Checks that the bucket is there and answers; a local disk always is.

        Raises:
          StoreError: when it is not, or does not let this machine's account read.
        """
        if not self.is_remote:
            return
        bucket = self._root.partition("/")[0]
        with told(self.place):
            try:
                self._fs.ls(bucket)
            except FileNotFoundError as error:
                raise StoreError(f"{self.place}: there is no bucket {bucket}") from error

    def names(self, under: str = "") -> list[str]:
        """Every file below a folder, by name in order; none where there is no such folder."""
        return sorted(self._found(under))

    def folders(self) -> list[str]:
        """The folders directly below, by name in order; an empty one is there only on a local disk."""
        with told(self.place):
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        return sorted(
            pathlib.PurePosixPath(each["name"]).name for each in found if each["type"] == "directory"
        )

    def digests(self, under: str = "") -> dict[str, str]:
        """Name -> digest of what each file holds: its sha256; on a bucket, the bucket's own checksum."""
        found = self._found(under)
        if self.is_remote:
            return {name: _checksum(found[name]) for name in sorted(found)}
        return {name: _sha256(pathlib.Path(found[name]["name"])) for name in sorted(found)}

    def read(self, name: str) -> bytes:
        """A whole file.

        Raises:
          FileNotFoundError: when it is not there.
        """
        with told(self.place):
            return self._fs.cat_file(self._path(name))

    def write(self, name: str, data: bytes) -> None:
        """Writes a file, whole or not at all."""
        if self.is_remote:
            with told(self.place):
                self._fs.pipe_file(self._path(name), data)
            return
        with replacing(pathlib.Path(self._path(name))) as partial:
            partial.write_bytes(data)

    def download(self, name: str, file: pathlib.Path) -> None:
        """Copies a file to a local one, whole or not at all.

        Raises:
          FileNotFoundError: when it is not there.
        """
        with told(self.place), replacing(file) as partial:
            self._fs.get_file(self._path(name), os.fspath(partial))

    def remove(self, name: str) -> None:
        """Removes a file, or a folder and all below it; what is not there stays so."""
        path = self._path(name)
        if not self.is_remote:
            shutil.rmtree(path, ignore_errors=True)
            pathlib.Path(path).unlink(missing_ok=True)
            return
        with told(self.place):
            names = [name] if name in self._found("") else self.names(name)
            if names:
                self._fs.rm([self._path(each) for each in names])

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _found(self, under: str) -> dict[str, Any]:
        """Name -> what the file system knows of it."""
        with told(self.place):
            self._fs.invalidate_cache()  # other processes, and TensorStore, write there, too
            found = self._fs.find(self._path(under), detail=True)
        start = len(self._root) + 1
        return {path[start:]: info for path, info in found.items() if not path.endswith("/")}


def _google_storage() -> Any:
    try:
        import gcsfs
    except ImportError as error:
        raise StoreError(
            f"a folder at {REMOTE}... needs the package gcsfs: pip install 'codegym-jax[gcs]'"
        ) from error
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # what it gives up on is raised, and told once
    return gcsfs.GCSFileSystem(use_listings_cache=False)


@contextlib.contextmanager
def told(place: Place) -> Iterator[None]:
    """What goes wrong with a bucket in a `with` block, told in one line; what the local disk refuses stays.

    It comes after gcsfs or TensorStore, which checkpoints are written with, has tried for a while.

    Raises:
      StoreError: when the bucket refuses.
      BucketOutage: when it does not answer.
    """
    try:
        yield
    except (FileNotFoundError, StoreError):
        raise
    except Exception as error:
        if is_remote(place) and _is_outage(error):
            raise BucketOutage(f"{place} does not answer ({type(error).__name__}: {error})") from error
        if not is_remote(place) or not _is_refusal(error):
            raise
        raise StoreError(
            f"{place} cannot be used ({type(error).__name__}: {error}); may this machine's account read and"
            " write it (`gcloud auth application-default login`, or the role Storage Object Admin for the"
            " service account of the machine)?"
        ) from error


def _is_outage(error: Exception) -> bool:
    """Whether the network or the service failed; by what gcsfs raises when it has asked often enough."""
    import aiohttp
    import requests
    from gcsfs.retry import ChecksumError, HttpError
    from google.auth.exceptions import GoogleAuthError, TransportError

    if isinstance(error, HttpError):
        return int(error.code or 0) in _FAILED_FOR_NOW
    if isinstance(error, GoogleAuthError):
        return isinstance(error, TransportError) or error.retryable
    if isinstance(error, ValueError):
        return str(error).startswith(_TENSORSTORE_GAVE_UP)
    network = ConnectionError | TimeoutError | socket.gaierror | aiohttp.ClientError
    return isinstance(error, network | requests.RequestException | ChecksumError)


def _is_refusal(error: Exception) -> bool:
    """Whether the service said no: then an `OSError` has no number, as those of the disk have."""
    from gcsfs.retry import HttpError
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, OSError):
        return error.errno is None
    if isinstance(error, ValueError):
        return str(error).startswith(_TENSORSTORE_REFUSED)
    return isinstance(error, HttpError | GoogleAuthError)


def _checksum(info: dict[str, Any]) -> str:
    """An object that was put together of parts has no MD5."""
    return f"md5 {info['md5Hash']}" if info.get("md5Hash") else f"crc32c {info['crc32c']}"


def _sha256(file: pathlib.Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
