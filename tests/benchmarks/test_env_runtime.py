"""The benchmark runs, its variants agree, and its lines are whole; how fast anything is, no test says."""

import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks import env_runtime, report
from benchmarks.machine import cpu_s
from benchmarks.measures import unit_of
from benchmarks.variants import VARIANTS, missing_packages
from benchmarks.warehouse import CALLS, make_workload

OURS = "codegym,codegym_guest,native,native_guest,by_image,by_replay,oracle,verify_task"
OWN = f"{OURS},in_process,subprocess,process_forked_warm"


def lines_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    assert env_runtime.main(arguments) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_quick_run_agrees_and_prints_whole_lines(capsys):
    """Every variant compares its observations with those of the class in plain CPython, or fails."""
    lines = lines_of(capsys, "--quick", "--runs", "2", "--only", f"step,step_many,cold,fork,verify,{OWN}")
    first, loads = lines[0], [line for line in lines if line["measure"] == "load_average"]
    assert first["measure"] == "machine" and len(first["guest_hash"]) == 64
    assert {"cpu", "cores", "python", "wasmtime", "commit"} <= first.keys()
    assert [line["round"] for line in loads] == [0, 1] and all(len(line["value"]) == 3 for line in loads)
    measured = [line for line in lines if "variant" in line]
    assert {line["variant"] for line in measured} == set(OWN.split(","))
    for line in measured:
        assert line["benchmark"] == "env_runtime" and line["unit"]
        assert line["runs"] == len(line["values"]) == 2
        assert min(line["values"]) <= line["value"] <= max(line["values"]) and line["value"] > 0
    compared = {(line["of"], line["variant"]) for line in measured if line["measure"] == "ratio"}
    assert {
        ("step_p50", "subprocess"),
        ("cold_episode", "in_process"),
        ("verify_cpu", "verify_task"),
    } <= compared
    assert not any(variant in ("codegym", "oracle") for _, variant in compared)


def test_memory_is_counted_in_a_fresh_process(capsys):
    (ours,) = [
        line
        for line in lines_of(capsys, "--quick", "--runs", "1", "--only", "memory,codegym")
        if line["measure"] == "memory_6"
    ]
    assert ours["unit"] == "MB" and 0.1 < ours["value"] < 64


def test_servers_agree_and_are_gone_when_closed():
    names = ["http", "http_httpx", "snapshot_server"]
    if missing_packages(names):
        pytest.skip("needs the extra `bench`")
    workload = make_workload(1)
    for name in names:
        variant = VARIANTS[name](workload)
        try:
            (pid,) = variant.children
            episode = variant.open()
            before = cpu_s(variant.children)
            results = [episode.step(action) for action in workload.actions[:3]]
            assert cpu_s(variant.children) > before
            assert tuple(map(episode.text, results)) == workload.observations[:3]
            episode.close()
        finally:
            variant.close()
        assert not pathlib.Path(f"/proc/{pid}").exists()


def test_a_missing_package_is_named_before_anything_runs(capsys, monkeypatch):
    for package in ("dill", "httpx"):
        monkeypatch.setitem(sys.modules, package, None)  # cannot be imported
    assert env_runtime.main(["--quick"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(word in captured.err for word in ("dill", "httpx", "[bench]"))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(SystemExit, match="no measure or variant stpe; there are by_image"):
        env_runtime.main(["--only", "stpe"])


def test_a_script_is_a_function_of_its_seed():
    workloads = [make_workload(seed) for seed in (3, 3, 4)]
    assert workloads[0] == workloads[1] and workloads[0].actions != workloads[2].actions
    names = [json.loads(action)["name"] for action in workloads[0].actions]
    assert len(names) == CALLS and names[-1] == "Done" and len(set(names)) == 6


def test_ratios_are_medians_of_rounds_and_say_how_much_better_ours_is():
    """Times: 20/10, 90/30, 40/10 have the median 3. Rates: 100/10, 100/50 have the median 6."""
    values = {
        ("step_p50", "codegym"): {0: 10.0, 1: 30.0, 2: 10.0},
        ("step_p50", "http"): {0: 20.0, 1: 90.0, 2: 40.0},
        ("verify", "oracle"): {0: 100.0, 1: 100.0},
        ("verify", "process_spawned"): {0: 10.0, 1: 50.0, 2: 1.0},
    }
    lines = report.lines(values, {"step_p50": "us", "verify": "tasks/s"})
    ratios = {line["variant"]: line for line in lines if line["measure"] == "ratio"}
    assert ratios["http"]["values"] == [2.0, 3.0, 4.0] and ratios["http"]["value"] == 3.0
    assert ratios["process_spawned"]["values"] == [10.0, 2.0] and ratios["process_spawned"]["value"] == 6.0
    assert ratios["http"]["goal"] == 25.0 and ratios["http"]["met"] is False
    assert lines[0]["value"] == 10.0 and lines[0]["goal"] == 30.0 and lines[0]["met"] is True


def test_the_table_shows_goals_and_ratios(tmp_path, capsys):
    values = {
        ("step_p50", "codegym"): {0: 25.0},
        ("step_p50", "http"): {0: 500.0},
        ("memory_100", "codegym"): {0: 2.0},
        ("memory_1000", "codegym"): {0: 2.5},
        ("memory_20", "subprocess"): {0: 20.0},
    }
    path = tmp_path / "results.jsonl"
    units = {name: unit_of(name) for name, _ in values}
    rows = [{"measure": "machine", "cpu": "any"}, *report.lines(values, units)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert env_runtime.main(["--table", str(path)]) == 0
    table = capsys.readouterr().out
    assert "| step, p50 | 25 us | ≤ 30 us | yes |" in table
    assert "| step, against a plain HTTP server | 20x | ≥ 25x | no |" in table
    assert "| `codegym` | 25 us |  |  |  |  | 2.5 MB |" in table
    assert "| `http` | 500 us (20x) |  |  |  |  |  |" in table
    assert "| `subprocess` |  |  |  |  |  | 20 MB |" in table


def test_a_process_that_is_gone_counts_with_those_waited_for():
    """CPU time of a child is in the sum while it lives, by its clock, and after it was waited for."""
    before = cpu_s()
    child = subprocess.Popen(
        [sys.executable, "-c", "sum(range(3_000_000)); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout and child.stdout.readline() == "\n"
    living = cpu_s([child.pid])
    child.communicate("\n")
    assert living > before and cpu_s() >= living
