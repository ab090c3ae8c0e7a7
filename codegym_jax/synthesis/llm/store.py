"""Completions on disk, by what was asked: what was paid for once is never asked for again.

One append-only file, one JSON object a line, synced to the disk before anybody sees the completion. A
process killed while it writes leaves at most an unfinished last line, which the next one cuts off. Only what
was under way in the network at that moment can be lost.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codegym_jax.config import UserError
from codegym_jax.data.folder_lock import lock_folder

_FILE = "completions.jsonl"
TRUNCATED = "length"
"""The `finish_reason` of a completion that ran into its limit of tokens."""


class StoreError(UserError):
    """A store that is in use or damaged; the message says which and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion that is wanted."""

    prompt: str
    """The whole user message."""
    template: str
    """Name and hash of what the prompt was made from; for people."""
    model: str
    temperature: float
    max_tokens: int
    extra_json: str = "{}"
    """Further fields of the request's body."""
    index: int = 0
    """Which of several samples of the same prompt."""

    @property
    def prompt_sha256(self) -> str:
        return hashlib.sha256(self.prompt.encode("utf-8", "backslashreplace")).hexdigest()

    @property
    def sampling(self) -> dict[str, Any]:
        """All that decides how the model samples, and which sample this is."""
        return {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "extra": json.loads(self.extra_json),
            "index": self.index,
        }

    @property
    def key(self) -> str:
        """Of (prompt, model, sampling); requests with the same key are the same request."""
        parts = json.dumps([self.prompt_sha256, self.model, self.sampling], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the model wrote, and what it cost."""

    text: str
    finish_reason: str
    """As the endpoint said it: `stop`, `length`, `content_filter`."""
    prompt_tokens: int
    completion_tokens: int

    @property
    def is_truncated(self) -> bool:
        """Whether it ran into its limit of tokens."""
        return self.finish_reason == TRUNCATED


class CompletionStore:
    """The completions in a folder; one process at a time."""

    def __init__(self, folder: Path):
        """Opens a store, making it first where there is none.

        Raises:
          StoreError: when another process has it open, or a line of it is damaged.
        """
        self._path = folder / _FILE
        lock = lock_folder(folder)
        if lock is None:
            raise StoreError(f"{folder}: another run is using this store")
        self._lock = lock
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._place: dict[str, tuple[int, int]] = {}
        self.prompt_tokens = 0
        """Of all completions in the store."""
        self.completion_tokens = 0
        """Of all completions in the store."""
        try:
            self._end = self._scan()
            _sync_folder(folder)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._place)

    def get(self, request: Request) -> Completion | None:
        """The completion of a request, if it is here."""
        place = self._place.get(request.key)
        if place is None:
            return None
        row = json.loads(os.pread(self._file, place[1], place[0]))
        return Completion(**row["completion"])

    def put(self, request: Request, completion: Completion) -> None:
        """Keeps a completion; it is on the disk when this returns.

        Raises:
          ValueError: when the request has a completion already.
          OSError: when the disk refuses it.
        """
        if request.key in self._place:
            raise ValueError(f"{request.key} has a completion already")
        row = {
            "key": request.key,
            "template": request.template,
            "prompt_sha256": request.prompt_sha256,
            "model": request.model,
            "sampling": request.sampling,
            "completion": asdict(completion),
        }
        line = json.dumps(row).encode() + b"\n"
        written = 0
        while written < len(line):
            written += os.write(self._file, line[written:])
        os.fsync(self._file)
        self._remember(request.key, self._end, len(line), completion)
        self._end += len(line)

    def close(self) -> None:
        """Lets another process have it."""
        os.close(self._file)
        os.close(self._lock)

    def _scan(self) -> int:
        """Learns where every completion lies; returns the file's length after the repair of its end."""
        end = 0
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    os.ftruncate(self._file, end)
                    os.fsync(self._file)
                    break
                try:
                    row = json.loads(line)
                    self._remember(row["key"], end, len(line), Completion(**row["completion"]))
                except (ValueError, KeyError, TypeError) as error:
                    raise StoreError(
                        f"{self._path}:{number}: damaged ({error!r}); remove this line"
                    ) from error
                end += len(line)
        return end

    def _remember(self, key: str, start: int, length: int, completion: Completion) -> None:
        self._place[key] = (start, length)
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens


def _sync_folder(folder: Path) -> None:
    """Makes the names of new files last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
