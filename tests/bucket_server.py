"""Google's storage on this machine: `gcp-storage-emulator`, and the generations that it leaves out.

    python -m tests.bucket_server start --port=PORT --in-memory --default-bucket=NAME

TensorStore reads the generation of what it downloads, and writes on condition that it is still that one.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

Handler = Callable[..., None]


def _generation(storage: Any, bucket: str, name: str) -> str:
    try:
        return storage.get_file_obj(bucket, name)["generation"]
    except NotFound:
        return "0"


def _telling(read: Handler) -> Handler:
    """With the generation among the headers; nothing where the reader has that one already."""

    def handle(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:
        generation = _generation(storage, request.params["bucket_name"], request.params["object_id"])
        if request.query.get("ifGenerationNotMatch") == [generation]:
            response.status = HTTPStatus.NOT_MODIFIED
            return
        read(request, response, storage, *args, **kwargs)
        response["x-goog-generation"] = generation

    return handle


def _on_condition(write: Handler) -> Handler:
    """Not at all where the object is of another generation than the writer thinks."""

    def handle(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:
        name = request.query.get("name") or [(request.data or {}).get("meta", {}).get("name", "")]
        generation = _generation(storage, request.params["bucket_name"], name[0])
        if request.query.get("ifGenerationMatch", [generation]) != [generation]:
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
        write(request, response, storage, *args, **kwargs)

    return handle


def main() -> None:
    objects.get, objects.download = _telling(objects.get), _telling(objects.download)
    objects.insert = _on_condition(objects.insert)
    from gcp_storage_emulator.__main__ import main as serve  # its table takes the handlers as they are now

    serve()


if __name__ == "__main__":
    main()
