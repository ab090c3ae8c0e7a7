"""What the journal held is there again, whatever the end of its file looks like."""

from pathlib import Path

import pytest

from codegym_jax.pipelines.journal import Journal, JournalError

RESULTS = {"make P_1": b"one", "make P_2": b"", "extend P_1__Env": bytes(range(64))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Journal(tmp_path / "partial") as journal:
        assert journal.results == {}
        for key, result in RESULTS.items():
            journal.put(key, result)
    return tmp_path / "partial"


def found(folder: Path) -> dict[str, bytes]:
    with Journal(folder) as journal:
        return journal.results


def test_what_was_put_is_there_again(folder):
    assert found(folder) == RESULTS


def test_a_record_cut_anywhere_costs_that_record_only(folder):
    path = folder / "journal"
    whole = path.read_bytes()
    kept = []
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        held = found(folder)
        assert held == dict(list(RESULTS.items())[: len(held)])
        kept.append(len(held))
    assert kept == sorted(kept) and set(kept) == {0, 1, 2}


def test_what_follows_a_damaged_record_is_cut_off_and_written_again(folder):
    path = folder / "journal"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with Journal(folder) as journal:
        assert list(journal.results) == list(RESULTS)[:2]
        journal.put("extend P_1__Env", RESULTS["extend P_1__Env"])
    assert found(folder) == RESULTS


def test_one_process_at_a_time(folder):
    with Journal(folder), pytest.raises(JournalError, match="another process"):
        Journal(folder)
    assert found(folder) == RESULTS


def test_a_removed_journal_is_gone(folder):
    with Journal(folder) as journal:
        journal.remove()
    assert not folder.exists()
