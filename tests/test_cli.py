"""The command line: exit codes, and one clear line for each mistake."""

import json
import pathlib

import pytest

from codegym_jax.cli import main

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
PUBLISHED = FIXTURES / "published"
PEEK = FIXTURES / "tiny" / "Test_1__PeekEnv.py"
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
    source = PEEK.read_text()
    path = tmp_path / PEEK.name
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
    (tmp_path / PEEK.name).write_text(PEEK.read_text())
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


def test_check_env_tells_an_author_what_to_look_at(capsys):
    """One tool of this environment never returns, and its step raises."""
    arguments = ("check-env", PEEK, "--config", '{"xs": [3, 9, 4]}')
    code, printed, complaint = run(capsys, *arguments)
    assert (code, complaint) == (0, "")
    assert "out_of_fuel after Spin()" in printed
    assert printed.endswith("Test_1__PeekEnv: accepted with warnings\n")
    assert run(capsys, *arguments)[1] == printed


def test_check_env_gives_the_same_as_json_and_exits_with_1_for_what_it_refuses(capsys, tmp_path):
    path = tmp_path / PEEK.name
    path.write_text(PEEK.read_text().replace("return max(self.xs)", "return min(self.xs) - 1"))
    code, printed, complaint = run(capsys, "check-env", path, "--json")
    assert (code, complaint) == (1, "")
    report = json.loads(printed)
    assert report["conclusion"] == "refused"
    assert report["env_id"] == "Test_1__PeekEnv"
    [failed] = [finding for finding in report["findings"] if finding["verdict"] == "fail"]
    assert failed["check"] == "oracle"
    assert failed["found"].startswith("oracle_fails: reward 0.0")
    assert run(capsys, "check-env", path)[1].endswith("Test_1__PeekEnv: refused\n")


def test_check_env_takes_its_configs_from_rows(capsys):
    environment = PUBLISHED / "Own_01_I__LargestGapEnv.py"
    code, printed, _ = run(capsys, "check-env", environment, "--tasks", PUBLISHED / "rows.jsonl", "--json")
    assert code == 0
    assert (json.loads(printed)["configs"], json.loads(printed)["conclusion"]) == (3, "accepted")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "no/such.py", "--run", "r"], "config file not found: no/such.py"),
        (["sft", CONFIG, "--run", "r", "--set", "sft.stepz=3"], "unknown setting sft.stepz; did you mean"),
        (["sft", CONFIG, "--run", "r", "--set", "sft.steps=many"], "sft.steps must be int, got 'many'"),
        (["reverify", "no/run"], "no/run is not a run folder"),
        (["report", "no/run"], "no/run is not a run folder"),
        (["control", CONFIG, "--run", "no/run"], "no/run holds no finished run"),
        (["verify", "no/such__Env.py"], "no/such__Env.py"),
        (["check-env", "no/such__Env.py"], "no/such__Env.py: No such file or directory"),
        (["check-env", PEEK, "--config", "{"], "the config is not JSON"),
        (["check-env", PEEK, "--config", "[]"], "the config is not a JSON object"),
        (["check-env", PEEK, "--tasks", "no/rows.jsonl"], "no/rows.jsonl: No such file or directory"),
        (["check-env", PEEK, "--tasks", PUBLISHED / "rows.jsonl"], "no row is of Test_1__PeekEnv"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, arguments, expected):
    code, _, complaint = run(capsys, *arguments)
    assert code == 2
    assert complaint.count("\n") == 1
    assert expected in complaint


@pytest.mark.parametrize(
    ("arguments", "example"),
    [
        (["--help"], "codegym run configs/smoke_cpu.py --run runs/smoke"),
        (["check-env", "--help"], "codegym check-env Own_1__MyEnv.py --tasks rows.jsonl"),
    ],
)
def test_help_shows_examples(capsys, arguments, example):
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    assert example in capsys.readouterr().out


def test_what_a_model_would_be_asked_is_told_before_it_is_asked(tmp_path, capsys):
    paths = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    endpoint = ["--base-url", "http://localhost:1/v1", "--model", "any", "--prices", "1", "10"]
    amount = ["--problems", "7", "--sources", "humaneval", "--hard"]
    assert main(["synth-llm", *endpoint, *paths, *amount, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "7 problems: at most 98 requests to http://localhost:1/v1 (any)" in told  # 1 + 2 + 10 + 1 each
    assert f"at most {98 * 8192} completion tokens, 8.03 at the price given" in told
    assert not list(tmp_path.iterdir())


def test_a_budget_without_prices_is_refused(tmp_path, capsys):
    paths = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    assert main(["synth-llm", "--base-url", "http://x/v1", "--model", "any", *paths, "--budget", "5"]) == 2
    assert "llm.budget.money must be given with prices" in capsys.readouterr().err
