"""The command: its table, JSON and exit codes; findings of several processes; and nothing secret in them."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from codegym_jax.cli import main
from codegym_jax.pipelines.doctor.examination import code_digest
from codegym_jax.pipelines.doctor.finding import (
    Finding,
    Row,
    Status,
    fail,
    ok,
    together,
    warn,
    without_secrets,
)
from codegym_jax.pipelines.doctor.table import as_json, conclusion, passed, show

ROOT = pathlib.Path(__file__).parents[3]
CONFIG = ROOT / "configs" / "smoke_cpu.py"
CHECKS = {
    "python", "jax", "wasmtime", "devices", "mesh", "memory plan", "guest artefact", "sandbox episode",
    "sandbox limit, fuel", "sandbox limit, memory", "cores for guests", "open files", "clock",
    "disk, run folder", "disk, cache", "run folder", "cache", "bucket", "tokenizer", "weights",
    "Hugging Face hub",
}  # fmt: skip


def doctor(capsys, *arguments):
    code = main(["doctor", *map(str, arguments)])
    return code, *capsys.readouterr()


def checks_of(text):
    """The rows of valid JSON, by check."""
    told = json.loads(text)
    assert told.keys() == {"ok", "checks"} and isinstance(told["ok"], bool)
    for row in told["checks"]:
        assert row.keys() == {"check", "status", "found", "fix", "processes"}
        assert row["status"] in [status.value for status in Status]
        assert all(isinstance(row[key], str) for key in ("check", "found", "fix"))
        assert all(isinstance(index, int) for index in row["processes"])
        assert row["fix"] or row["status"] not in ("FAIL", "WARN"), row
    assert told["ok"] == all(row["status"] != "FAIL" for row in told["checks"])
    return {row["check"]: row for row in told["checks"]}


def test_a_machine_and_a_config_that_go_together(capsys, tmp_path):
    code, printed, _ = doctor(capsys, CONFIG, "--run", tmp_path / "run", "--json", "--set", "mesh.data=-1")
    found = checks_of(printed)
    assert code == 0, [row for row in found.values() if row["status"] == "FAIL"]
    assert found.keys() >= CHECKS
    assert not list(tmp_path.iterdir())


def test_a_run_folder_on_a_bucket_is_tried_there(capsys, bucket):
    code, printed, _ = doctor(capsys, "--run", f"{bucket}/run", "--json")
    found = checks_of(printed)
    assert code == 0, [row for row in found.values() if row["status"] == "FAIL"]
    assert found["run folder"]["found"].startswith(f"{bucket}/run takes files")
    assert found["disk, run folder"]["status"] == Status.NOT_CHECKED.value


def test_without_a_config_the_machine_alone_is_looked_at_and_a_config_that_does_not_fit_fails(
    capsys, tmp_path
):
    code, printed, _ = doctor(capsys, "--run", tmp_path)
    assert code == 0 and "no CONFIG given" in printed
    assert printed.splitlines()[-1].endswith("OK: nothing stands in the way of a run")
    code, printed, _ = doctor(capsys, CONFIG, "--run", tmp_path, "--json", "--set", "mesh.data=3")
    found = checks_of(printed)
    assert (code, found["mesh"]["status"], found["memory plan"]["status"]) == (1, "FAIL", "FAIL")
    assert found["mesh"]["found"] == "data x fsdp x tensor = 3, but there are 8 devices"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["no/such.py"], "config file not found: no/such.py"),
        ([CONFIG, "--set", "mesh.dat=3"], "unknown setting mesh.dat"),
        (["--distributed"], "--distributed and --coordinator HOST:PORT|auto go together"),
        (["--coordinator", "localhost:1"], "--distributed and --coordinator"),
        (["--distributed", "--coordinator", "here", "--process-id", 0, "--process-count", 2], "got 'here'"),
        (["--distributed", "--coordinator", "a:1", "--process-id", 2, "--process-count", 2], "got 2 of 2"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, arguments, expected):
    code, _, complaint = doctor(capsys, *arguments)
    assert (code, complaint.count("\n")) == (2, 1)
    assert expected in complaint


class Doctors:
    """Real processes that look at each other."""

    def __init__(self, folder):
        with socket.create_server(("localhost", 0)) as free:
            self.address = f"localhost:{free.getsockname()[1]}"
        self.folder = folder

    def start(self, index, count, timeout_s, *more):
        command = [
            sys.executable,
            "-m",
            "codegym_jax.cli",
            "doctor",
            CONFIG,
            "--run",
            self.folder / "run",
            "--json",
        ]
        command += ["--set", "rollout.slots=64", "--distributed", "--coordinator", self.address]
        command += ["--process-id", index, "--process-count", count, "--timeout", timeout_s, *more]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([str(word) for word in command], cwd=ROOT, text=True, **pipes)


def test_two_processes_see_each_other(tmp_path):
    doctors = Doctors(tmp_path)
    started = [doctors.start(index, 2, 120) for index in range(2)]
    (printed, said), (nothing, told) = (one.communicate(timeout=240) for one in started)
    assert [one.returncode for one in started] == [0, 0], said + told
    found = checks_of(printed)
    assert found.keys() >= CHECKS | {"processes", "same code", "same config", "same guest", "ping", "clocks"}
    assert found["devices of all processes"]["found"] == "2, 1 on each of 2"
    assert found["all-reduce"]["found"].startswith("over 2 devices")
    assert found["one run folder"]["status"] == "OK"
    assert "all 2 came" in found["processes"]["found"]
    assert "the table is told by process 0" in told and nothing == ""
    assert not list(tmp_path.iterdir())


def test_a_process_that_does_not_come_is_named(capsys, tmp_path):
    place = ["--distributed", "--coordinator", Doctors(tmp_path).address, "--process-id", 0]
    code, printed, _ = doctor(capsys, *place, "--process-count", 2, "--timeout", 0.1, "--json")
    found = checks_of(printed)["processes"]
    assert (code, found["status"]) == (1, "FAIL")
    assert found["found"].startswith("process 1 of 2 did not come within 0.1 s; here: 0 (process id ")


def test_a_process_that_process_0_does_not_answer_says_so(capsys, tmp_path):
    address = Doctors(tmp_path).address
    place = ["--distributed", "--coordinator", address, "--process-id", 1]
    code, printed, _ = doctor(capsys, *place, "--process-count", 2, "--timeout", 0.1, "--json")
    found = checks_of(printed)["processes"]
    assert (code, found["status"]) == (1, "FAIL")
    assert found["found"].startswith(f"process 1 of 2: process 0 did not answer at {address}")


@pytest.mark.slow
def test_a_process_that_does_not_come_is_named_by_all_others(tmp_path):
    doctors = Doctors(tmp_path)
    started = [doctors.start(index, 3, 60) for index in (0, 2)]
    for one in started:
        printed, _ = one.communicate(timeout=240)
        assert one.returncode == 1
        found = checks_of(printed)
        assert found["processes"]["status"] == "FAIL"
        pids = [each.pid for each in started]
        assert "process 1 of 3 did not come within 60 s; here: 0 " in found["processes"]["found"]
        assert all(f"process id {pid}" in found["processes"]["found"] for pid in pids)


def test_findings_of_several_processes_come_together():
    """Process 1 has another disk; 2 did not look at it."""
    rows = together(
        [
            [ok("jax", "0.10.2"), warn("disk", "9 GB", "free some"), ok("clock", "fine")],
            [ok("jax", "0.10.2"), fail("disk", "0 GB", "free some"), ok("clock", "well")],
            [ok("jax", "0.10.2"), ok("clock", "fine")],
        ]
    )
    assert [(row.finding.check, row.finding.status, row.finding.found, row.processes) for row in rows] == [
        ("jax", Status.OK, "0.10.2", ()),
        ("disk", Status.FAIL, "0 GB", (1,)),
        ("disk", Status.WARN, "9 GB", (0,)),
        ("clock", Status.OK, "fine", ()),
    ]


def test_the_table_counts_names_and_does_not_read_markup(capsys):
    rows = [Row(ok("a", "[red]x[/red]")), Row(warn("b", "y", "do z"), (0, 1, 2, 5)), Row(ok("c", ""))]
    show(rows)
    printed = capsys.readouterr().out
    assert "[red]x[/red]" in printed and "b [process 0-2, 5]" in printed and "do z" in printed
    assert conclusion(rows) == "1 WARN, 2 OK: nothing stands in the way of a run"
    assert passed(rows)
    broken = [*rows, Row(fail("d", "v", "w"))]
    assert conclusion(broken) == "1 FAIL, 1 WARN, 2 OK: a run would not work"
    assert json.loads(as_json(broken))["ok"] is False


def test_nothing_secret_is_shown():
    environment = {
        "HF_TOKEN": "hf_abcdef",
        "WANDB_API_KEY": "k" * 40,
        "MY_PASSWORD": "hunter2!",
        "SHORT_TOKEN": "x",
        "HOME": "/folder/of/mine",
    }
    told = "http://me:hf_abcdef@hub/x?key=" + "k" * 40 + " hunter2! in /folder/of/mine, ftp://name@host"
    found = without_secrets(Finding("hub", Status.FAIL, told, "use hf_abcdef"), environment)
    assert found.found == "http://***@hub/x?key=*** *** in /folder/of/mine, ftp://***@host"
    assert found.fix == "use ***"
    assert len(without_secrets(ok("a", "z" * 5000), {}).found) == 400


def test_secrets_of_the_environment_do_not_reach_the_output(capsys, tmp_path, monkeypatch):
    """A run folder whose name is a token: the checks tell their folder."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret_token")
    code, printed, _ = doctor(capsys, "--run", tmp_path / "hf_secret_token", "--json")
    assert code == 0 and "hf_secret_token" not in printed and "***" in printed


def test_the_digest_of_code_is_of_names_and_contents(tmp_path):
    for name, text in (("a.py", "1"), ("b/c.py", "2")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = code_digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(os.urandom(9))
    assert code_digest(tmp_path) == before
    (tmp_path / "a.py").rename(tmp_path / "d.py")
    assert code_digest(tmp_path) != before
