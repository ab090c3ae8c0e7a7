"""No command that a document shows is wrong: each is parsed as it would be, and launch scripts plan it."""

import argparse
import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest

from codegym_jax.cli import _parser
from tests.docs.commands import logical_lines, mistakes, shown
from tests.docs.tutorial import ROOT, steps, tutorials

PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", ROOT / "BUILD.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
_LAUNCH = re.compile(r"launch/[\w/]+\.(sh|sbatch)")


def wrong(lines: list[str]) -> list[str]:
    return [f"{line}: {mistake}" for line in lines for mistake in mistakes(line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_command_of_a_page_is_wrong(page):
    assert wrong(shown(page.read_text())) == []


def test_the_readme_shows_many_commands():
    assert len(shown((ROOT / "README.md").read_text())) > 30


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_no_command_of_a_config_is_wrong(path):
    lines = shown(ast.get_docstring(ast.parse(path.read_text())) or "")
    assert lines
    assert wrong(lines) == []


def test_no_example_of_the_help_is_wrong():
    parser = _parser()
    [commands] = [one.choices for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    texts = [one.epilog or "" for one in (parser, *commands.values())]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.startswith("  codegym ")]
    assert len(lines) > 20
    assert wrong(lines) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("codegym learn configs/smoke_cpu.py", "codegym has no command learn"),
        ("codegym run", ""),
        ("codegym run configs/smoke_cpu.py ...", ""),
        ("codegym run --run runs/a", "the following arguments are required: config"),
        ("codegym run configs/none.py", "there is no configs/none.py"),
        ("codegym run configs/smoke_cpu.py --set train.stepz=3 > out.txt", "unknown setting train.stepz"),
        ("codegym run configs/smoke_cpu.py --preset best", "best"),
        ("RUN=1 codegym status runs/a | grep step && codegym tip runs/a", "codegym has no command tip"),
        ("codegym export a --format csv --out b", "invalid choice: 'csv'"),
        ("--set sft.source=runs/teacher", ""),
        ("train.optimiser=muon", "unknown setting train.optimiser"),
        ("make smok", "make has no target smok"),
        ("python -m benchmarks.none --runs 5", "there is no module benchmarks.none"),
        ("launch/none.sh --dry-run", "there is no launch/none.sh"),
        ("ls runs/any", ""),
    ],
)
def test_what_is_wrong_is_found(line, expected):
    told = "\n".join(mistakes(line))
    assert expected in told
    assert bool(expected) == bool(told)


def planned(page: pathlib.Path) -> list[str]:
    """Scripts that print what the launch commands of a page would run, with what was exported before each."""
    exports: list[str] = []
    scripts: list[str] = []
    for step in steps(page.read_text()):
        for line in [] if step.file else logical_lines(step.text):
            if line.startswith("export "):
                exports.append(line)
            elif step.not_run and (match := _LAUNCH.search(line)) and "--help" not in line:
                words = re.sub(r"\bsbatch\b[^|&;]*?(?=launch/)", "", line)
                dry = words if "--dry-run" in words else words.replace(match[0], f"{match[0]} --dry-run", 1)
                scripts.append("\n".join([*exports, dry]))
    return scripts


@pytest.mark.parametrize("page", tutorials(), ids=lambda page: page.stem)
def test_launch_scripts_plan_what_a_tutorial_cannot_run(page):
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    for script in planned(page):
        told = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=ROOT,
            env={"PATH": path, "HOME": os.environ["HOME"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert told.returncode == 0, f"{script}\n{told.stdout}{told.stderr}"
