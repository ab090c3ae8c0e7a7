"""A bucket on this machine that answers as Google's does (`bucket_server`); no account, no network."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from time import sleep
from unittest import mock

NAME = "bucket"
ROOT = pathlib.Path(__file__).parents[1]


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Serves one empty bucket until the block ends, to this process and those that it starts; its address."""
    with serving() as (url, _):
        yield url


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The same, and the process that serves it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    host = f"http://127.0.0.1:{port}"
    leads_there = {
        "STORAGE_EMULATOR_HOST": host,
        "TENSORSTORE_GCS_HTTP_URL": host,
        "NO_GCE_CHECK": "true",  # no machine of Google's answers with credentials
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks by gRPC what kind of bucket it is
    }
    told = ["start", "--host=127.0.0.1", f"--port={port}", "--in-memory", f"--default-bucket={NAME}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bucket_server", *told],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(host, process)
        with mock.patch.dict(os.environ, leads_there):
            yield f"gs://{NAME}", process
    finally:
        process.terminate()
        process.wait()


def _await(host: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(urllib.error.URLError):
            urllib.request.urlopen(f"{host}/storage/v1/b/{NAME}").close()
            return
        sleep(0.02)
    raise RuntimeError(f"the bucket's server ended with code {process.returncode}")
