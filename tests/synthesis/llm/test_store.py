"""A store survives whatever cuts a write short, and never gives a completion to another request."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.synthesis.llm.store import Completion, CompletionStore, Request, StoreError


def request(prompt: str, index: int = 0) -> Request:
    return Request(prompt=prompt, template="t", model="m", temperature=1.0, max_tokens=9, index=index)


def completion(text: str) -> Completion:
    return Completion(text=text, finish_reason="stop", prompt_tokens=3, completion_tokens=2)


def fill(folder: Path, prompts: list[str]) -> None:
    store = CompletionStore(folder)
    for prompt in prompts:
        store.put(request(prompt), completion(f"to {prompt}"))
    store.close()


def test_what_was_put_is_there_for_the_next_process(tmp_path: Path):
    fill(tmp_path, ["a", "b\n\u2028", "\ud800"])
    store = CompletionStore(tmp_path)
    for prompt in ("a", "b\n\u2028", "\ud800"):
        assert store.get(request(prompt)) == completion(f"to {prompt}")
    assert store.get(request("a", index=1)) is None
    assert (len(store), store.prompt_tokens, store.completion_tokens) == (3, 9, 6)
    store.close()


@settings(max_examples=25)
@given(cut=st.integers(min_value=0))
def test_a_write_cut_short_anywhere_loses_that_completion_only(cut: int, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    fill(folder, ["a", "b"])
    path = folder / "completions.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][: cut % len(lines[1])])
    store = CompletionStore(folder)
    assert store.get(request("a")) == completion("to a")
    assert store.get(request("b")) is None
    store.put(request("b"), completion("again"))
    store.close()
    store = CompletionStore(folder)
    assert store.get(request("b")) == completion("again") and len(store) == 2
    store.close()


def test_a_damaged_line_is_named_and_nothing_is_thrown_away(tmp_path: Path):
    fill(tmp_path, ["a", "b"])
    path = tmp_path / "completions.jsonl"
    damaged = path.read_bytes().replace(b'"key"', b'"kee"', 1)
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"completions\.jsonl:1: damaged"):
        CompletionStore(tmp_path)
    assert path.read_bytes() == damaged


def test_one_process_at_a_time(tmp_path: Path):
    store = CompletionStore(tmp_path)
    with pytest.raises(StoreError, match="another run"):
        CompletionStore(tmp_path)
    store.close()
    CompletionStore(tmp_path).close()


def test_no_second_completion_for_a_request(tmp_path: Path):
    store = CompletionStore(tmp_path)
    store.put(request("a"), completion("one"))
    with pytest.raises(ValueError, match="already"):
        store.put(request("a"), completion("two"))
    assert store.get(request("a")) == completion("one")
    store.close()


WRITER = """
import sys
from pathlib import Path
from codegym_jax.synthesis.llm.store import Completion, CompletionStore, Request
store = CompletionStore(Path(sys.argv[1]))
for number in range(10_000):
    asked = Request(prompt=str(number), template="t", model="m", temperature=1.0, max_tokens=9)
    store.put(asked, Completion(text="x" * 3000, finish_reason="stop", prompt_tokens=1, completion_tokens=1))
    print(number, flush=True)
"""


def test_a_killed_process_leaves_all_that_it_told_of(tmp_path: Path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(25)]
        os.kill(process.pid, signal.SIGKILL)
        told += process.stdout.readlines()
    numbers = [int(line) for line in told if line.endswith("\n")]
    store = CompletionStore(tmp_path)
    assert all(store.get(request(str(number))) for number in numbers)
    assert len(store) in (len(numbers), len(numbers) + 1)
    store.close()
    rows = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_bytes().splitlines()]
    assert {row["model"] for row in rows} == {"m"}
