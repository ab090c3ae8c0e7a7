"""The benchmark of synthesis runs and its lines are whole; how fast anything is, no test says."""

import json
from pathlib import Path

import pytest

from benchmarks import synthesis

SHELF = Path(__file__).parents[1] / "fixtures" / "shelf"


def test_a_run_prints_whole_lines_whose_stages_add_up(capsys):
    assert synthesis.main(["--sources", str(SHELF), "--problems", "2", "--runs", "2"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(line["benchmark"] == "synthesis" for line in lines)
    assert [line["measure"] for line in lines[:4]] == [
        "machine",
        "problems_of",
        "load_average",
        "load_average",
    ]
    assert len(lines[0]["guest_hash"]) == 64 and lines[1]["value"] == 2
    found = {line["measure"]: line for line in lines[4:]}
    assert found.keys() == synthesis.UNITS.keys()
    for line in found.values():
        assert line["runs"] == len(line["values"]) == 2 and line["unit"]
        assert min(line["values"]) <= line["value"] <= max(line["values"]) and line["value"] > 0
    assert found["tasks"]["value"] >= 10 * found["environments"]["value"]
    for number in range(2):
        one = {measure: line["values"][number] for measure, line in found.items()}
        made_ms = sum(one[stage] for stage in ("outline", "verify", "determinism", "shortcut", "features"))
        assert one["tasks_per_core"] == pytest.approx(1000 * one["tasks"] / (2 * made_ms), rel=1e-3)
