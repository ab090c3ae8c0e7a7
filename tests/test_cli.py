"""The command line: exit codes, and one clear line for each mistake."""

import json
import pathlib

import pytest

from codegym_jax.cli import main

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
PUBLISHED = FIXTURES / "published"
CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "smoke_cpu.py"


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_verify_accepts_what_is_sound(capsys, tmp_path):
    rows, out = PUBLISHED / "rows.jsonl", tmp_path / "out.json"
    code, printed, complaint = run(capsys, "verify", PUBLISHED, "--tasks", rows, "--json", out)
    assert (code, complaint) == (0, "")
    report = json.loads(out.read_text())
    assert report["ok"]
    assert report["verified"] == len(rows.read_text().splitlines()) >= 12
    assert f"verified {report['verified']} tasks, rejected 0" in printed


def test_verify_names_an_environment_that_fails_and_exits_with_1(capsys, tmp_path):
    """Its reference answer is not what its oracle finds."""
    source = (FIXTURES / "tiny" / "Test_1__PeekEnv.py").read_text()
    path = tmp_path / "Test_1__PeekEnv.py"
    path.write_text(source)
    assert run(capsys, "verify", path)[0] == 0
    path.write_text(source.replace("return max(self.xs)", "return min(self.xs) - 1"))
    code, _, complaint = run(capsys, "verify", path)
    assert code == 1
    assert "Test_1__PeekEnv" in complaint


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("C_1__BrokenEnv.py", "class BrokenEnv(:\n", "C_1__BrokenEnv.py"),
        ("C_1__NoStepEnv.py", "class NoStepEnv:\n    pass\n", "C_1__NoStepEnv.py"),
    ],
)
def test_verify_goes_on_after_bad_input_and_exits_with_2(capsys, tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    (tmp_path / "Test_1__PeekEnv.py").write_text((FIXTURES / "tiny" / "Test_1__PeekEnv.py").read_text())
    code, printed, complaint = run(capsys, "verify", tmp_path)
    assert code == 2
    assert complaint.count("\n") == 1
    assert expected in complaint
    assert "verified 1 tasks, rejected 1" in printed


def test_verify_names_file_and_line_of_a_bad_row(capsys, tmp_path):
    rows = tmp_path / "rows.jsonl"
    good = (PUBLISHED / "rows.jsonl").read_text().splitlines()[0]
    rows.write_text(f"{good}\nnot json\n{good}\n")
    environment = PUBLISHED / "Own_01_I__LargestGapEnv.py"
    code, printed, complaint = run(capsys, "verify", environment, "--tasks", rows)
    assert code == 2
    assert "rows.jsonl:2" in complaint
    assert "verified 2 tasks, rejected 1" in printed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "no/such.py", "--run", "r"], "config file not found: no/such.py"),
        (["sft", CONFIG, "--run", "r", "--set", "sft.stepz=3"], "unknown setting sft.stepz; did you mean"),
        (["sft", CONFIG, "--run", "r", "--set", "sft.steps=many"], "sft.steps must be int, got 'many'"),
        (["replay", "no/run"], "no/run is not a run folder"),
        (["report", "no/run"], "no/run is not a run folder"),
        (["control", CONFIG, "--run", "no/run"], "no/run holds no finished run"),
        (["verify", "no/such__Env.py"], "no/such__Env.py"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, arguments, expected):
    code, _, complaint = run(capsys, *arguments)
    assert code == 2
    assert complaint.count("\n") == 1
    assert expected in complaint


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "codegym run configs/smoke_cpu.py --run runs/smoke" in capsys.readouterr().out
