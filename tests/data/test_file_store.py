"""What the trouble of a bucket is called: a refusal is the user's to mend, an outage passes."""

import errno
import socket

import aiohttp
import pytest
import requests
from gcsfs.retry import ChecksumError, HttpError
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from codegym_jax.data.store import BucketOutage, Store, StoreError

OUTAGES = [
    *(HttpError({"code": code, "message": "later"}) for code in (408, 429, 500, 503, "502")),
    requests.exceptions.ProxyError(),
    requests.exceptions.ConnectionError("no route"),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientOSError(errno.ECONNRESET, "reset"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    TimeoutError(),
    socket.gaierror(socket.EAI_AGAIN, "no name server"),
    TransportError("no answer"),
    RefreshError("busy", retryable=True),
    ChecksumError(),
    ValueError("ABORTED: Error reading gs://bucket/x/.zarray: All 32 retry attempts failed: CURL error"),
    ValueError("UNAVAILABLE: Error writing gs://bucket/x"),
]
REFUSALS = [
    *(HttpError({"code": code, "message": "no"}) for code in (400, 401, 409)),
    OSError("Forbidden: https://storage"),
    DefaultCredentialsError("none"),
    RefreshError("expired"),
    ValueError("PERMISSION_DENIED: Error writing gs://bucket/x"),
]
OTHERS = [
    OSError(errno.ENOSPC, "No space left on device"),
    PermissionError(errno.EACCES, "Permission denied"),
    FileNotFoundError("gs://bucket/none"),
    ValueError("a defect"),
]
CASES = [(BucketOutage, OUTAGES), (StoreError, REFUSALS), (None, OTHERS)]


@pytest.mark.parametrize(
    ("error", "becomes"), [(error, becomes) for becomes, errors in CASES for error in errors], ids=repr
)
def test_who_is_to_do_something_about_it(error, becomes, bucket, monkeypatch):
    """Of a real store, whose client raises it."""
    store = Store(f"{bucket}/told")

    def fail(path: str) -> bytes:
        raise error

    monkeypatch.setattr(store._fs, "cat_file", fail)
    with pytest.raises(becomes or type(error)) as raised:
        store.read("file")
    if becomes:
        assert f"{bucket}/told" in str(raised.value) and raised.value.__cause__ is error
    else:
        assert raised.value is error


def test_on_a_disk_every_error_stays_as_it_is(tmp_path):
    with pytest.raises(IsADirectoryError):
        Store(tmp_path.parent).read(tmp_path.name)
