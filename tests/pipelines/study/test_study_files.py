"""Every study loads and is a lab record; mistakes are told in one line, before any work."""

import ast
import pathlib

import pytest

from codegym_jax.cli import main
from codegym_jax.config.study import load_study

STUDIES = sorted((pathlib.Path(__file__).parents[3] / "configs" / "study").glob("*.py"))
TINY = str(next(path for path in STUDIES if path.stem == "tiny"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_loads_and_is_a_lab_record(path):
    study = load_study(path)
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert f"codegym study configs/study/{path.name} --out " in docstring
    assert "\nDevice: " in docstring
    assert {name for question in study.questions for name in question.arms} == set(study.arms)


def test_a_dry_run_tells_what_would_be_run(tmp_path, capsys):
    assert main(["study", TINY, "--out", str(tmp_path / "s"), "--dry-run", "--seeds", "3", "4"]) == 0
    told = capsys.readouterr().out
    assert "runs of seeds 3, 4" in told and "rl-filtered" in told and "warm-4-3" in told
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "rl", "magic"], "--only: the study has no arm 'magic'; it has rl, "),
        (["--workers", "0"], "--workers must be at least 1, got 0"),
        (["--one", "magic", "9"], "--one: this study has no run magic of seed 9"),
    ],
)
def test_mistakes_are_told(tmp_path, capsys, arguments, message):
    assert main(["study", TINY, "--out", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_file_without_a_study_is_named(tmp_path, capsys):
    (tmp_path / "none.py").write_text("def config(): return 1\n")
    assert main(["study", str(tmp_path / "none.py"), "--out", str(tmp_path)]) == 2
    assert "has no attribute 'study'" in capsys.readouterr().err
