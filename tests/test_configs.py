"""Every experiment loads, and the plan in its docstring is the plan that it has."""

import ast
import re
import shlex
import textwrap
from pathlib import Path

import pytest

from codegym_jax.config import load
from codegym_jax.pipelines.plan import make_plan, render

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


def planned(docstring: str) -> tuple[list[str], str] | None:
    """The `codegym plan` that a docstring shows, in words, and what it shows below; None: it shows none."""
    match = re.search(r"^    (codegym plan .*)\n\n((?:(?:    .*)?\n)+)", docstring + "\n", re.MULTILINE)
    if match is None:
        return None
    return shlex.split(match[1]), textwrap.dedent(match[2]).strip("\n")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_loads_and_is_a_lab_record(path):
    load(path)
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert f"codegym run configs/{path.name}" in docstring or f"configs/{path.name}" in docstring
    assert "\nDevice: " in docstring


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if "codegym plan" in path.read_text()], ids=lambda path: path.stem
)
def test_the_plan_in_a_docstring_is_true(path):
    """To renew it: run the command that it shows, and paste what that prints."""
    found = planned(ast.get_docstring(ast.parse(path.read_text())) or "")
    assert found is not None
    command, shown = found
    assert command[:4] == ["codegym", "plan", f"configs/{path.name}", "--devices"]
    plan = make_plan(load(path), command[4])
    assert shown == render(plan)
    assert plan.fits


def test_most_configs_show_their_plan():
    assert sum("codegym plan" in path.read_text() for path in CONFIGS) >= 8
