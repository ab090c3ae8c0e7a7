"""The prompts: templates beside this package, with a version that changes with every word of them."""

import functools
import hashlib
import importlib.resources
from dataclasses import dataclass
from typing import Any

import jinja2

from codegym_jax.synthesis.llm.reading import encodable
from codegym_jax.synthesis.llm.source import documented_tools

ENVIRONMENT, TESTS, HARD_TESTS, SOLVE = NAMES = ("environment", "tests", "hard_tests", "solve")
_FOLDER = importlib.resources.files("codegym_jax.synthesis") / "prompts"
_EXAMPLES = ("environment.py.txt", "problem.txt", "solution.py.txt", "solve.py.txt", "task.txt", "tests.txt")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as it is sent."""

    text: str
    template: str
    """`<name>@<sha256 of the template and the example>`."""


def prompt(name: str, **values: Any) -> Prompt:
    """Fills a template in.

    Args:
      name: one of `NAMES`.
      values: all that the template names.

    Raises:
      jinja2.UndefinedError: when one is missing.
    """
    if name == SOLVE:
        values["example_tools"] = documented_tools(example("environment.py.txt"), "WarmSpellEnv")
    text = _templates().get_template(f"{name}.j2").render(values)
    return Prompt(text=encodable(text), template=f"{name}@{versions()[name]}")


def example(file: str) -> str:
    """A file of the one example that all prompts share."""
    return _read(f"example/{file}")


@functools.cache
def versions() -> dict[str, str]:
    """Name of each prompt -> sha256 of its template and of the example."""
    shared = hashlib.sha256(repr([example(file) for file in _EXAMPLES]).encode()).hexdigest()
    return {name: hashlib.sha256((_read(f"{name}.j2") + shared).encode()).hexdigest() for name in NAMES}


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _read(file: str) -> str:
    return (_FOLDER / file).read_text(encoding="utf-8")
