"""A folder of Python modules whose functions show example calls; the modules are read and never imported."""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from codegym_jax.records import Rejection
from codegym_jax.synthesis.problems import doctests, inline, prose, syntax, typed
from codegym_jax.synthesis.problems.problem import Problem, ProblemError, code_id_of, short_hash


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a function stands; a module that could not be read has no function."""

    path: Path
    function: str


class ModuleFolder:
    """A source: every public function at the top level of a module is a candidate.

    It becomes a problem when example calls of it are found in its own docstring, in its module's or in that
    of another function of the module, and the arguments of some can be JSON; or, without examples, when it is
    documented and its annotations say what JSON it takes.
    """

    def __init__(self, root: Path, *, title: str, origin: str, license: str):
        """Lists the functions under a folder.

        Args:
          root: the folder; packages are looked into, hidden folders and tests are not.
          title: what the problems' ids begin with.
          origin: as in `Problem`.
          license: of all of them.

        Raises:
          ProblemError: when no Python module lies under the folder.
        """
        self._root, self._origin, self._license = root, origin, license
        self._read = lru_cache(maxsize=64)(_read)
        paths = sorted(path for path in root.rglob("*.py") if _is_module(path.relative_to(root)))
        if not paths:
            raise ProblemError(
                f"{root} holds no Python modules; a source that is a folder needs .py files in it"
            )
        named = [(_code_id(title, place, root), place) for path in paths for place in self._listed(path)]
        shared = {code_id for code_id, count in Counter(code_id for code_id, _ in named).items() if count > 1}
        self._places = {
            f"{code_id}_{short_hash(f'{place.path.relative_to(root)}:{place.function}')}"
            if code_id in shared
            else code_id: place
            for code_id, place in named
        }

    @property
    def code_ids(self) -> Sequence[str]:
        """One for every public function, and one for every module that cannot be read."""
        return list(self._places)

    def build(self, code_ids: Sequence[str]) -> Iterator[Problem | Rejection]:
        """The problems of those ids, in that order, or why there is none."""
        return (self._build(code_id, self._places[code_id]) for code_id in code_ids)

    def _listed(self, path: Path) -> list[_Place]:
        try:
            tree, _ = self._read(path)
        except inline.CannotInlineError:
            return [_Place(path, "")]
        return [_Place(path, name) for name in syntax.functions(tree) if not name.startswith("_")]

    def _build(self, code_id: str, place: _Place) -> Problem | Rejection:
        try:
            tree, sessions = self._read(place.path)
            function = syntax.functions(tree)[place.function]
            examples = doctests.examples_of(function, sessions, tree)
            if reason := _unusable(function, examples, tree):
                return Rejection(reason=reason, subject=code_id)
            test = examples.test if examples and examples.usable else ""
            source = inline.trimmed(inline.inlined(place.path, self._root), place.function, test)
        except inline.CannotInlineError as error:
            return Rejection(reason=str(error), subject=code_id)
        except syntax.UNREADABLE as error:
            return Rejection(reason="unreadable_examples", detail=str(error)[:200], subject=code_id)
        return Problem(
            code_id=code_id,
            origin=self._origin,
            license=self._license,
            statement=prose.statement(syntax.docstring(function), syntax.docstring(tree)),
            source=source,
            entry=place.function,
            test=test,
        )


def _is_module(path: Path) -> bool:
    hidden = any(part.startswith((".", "__pycache__")) for part in path.parts)
    other = path.name in {"__init__.py", "__main__.py", "conftest.py", "setup.py"}
    return not hidden and not other and not path.name.startswith("test_") and "tests" not in path.parts


def _code_id(title: str, place: _Place, root: Path) -> str:
    """`Algorithms_array_two_sum`, for the function `two_sum` of `array/two_sum.py`."""
    parts = place.path.relative_to(root).with_suffix("").parts
    function = [place.function] if place.function != parts[-1] else []
    return code_id_of(title, *parts, *filter(None, function))


def _read(path: Path) -> tuple[ast.Module, list[doctests.Session]]:
    """A module's syntax tree and the examples in its docstrings.

    Raises:
      CannotInlineError: when it has none.
    """
    tree = inline.parsed(path)
    documented = [tree, *(node for node in tree.body if isinstance(node, ast.FunctionDef))]
    return tree, doctests.sessions(syntax.docstring(node) for node in documented)


def _unusable(function: ast.FunctionDef, examples: doctests.Examples | None, tree: ast.Module) -> str:
    """Why a function is no problem, "" when it is one."""
    arguments = function.args
    if not syntax.parameters(function) or arguments.posonlyargs:
        return "no_named_parameters"
    if examples and examples.usable:
        return ""
    required = syntax.required(function)
    drawn = [typed.strategy(argument.annotation, tree) for argument in required]
    drawable = all(strategy is not None for strategy in drawn)
    if required and drawable and syntax.docstring(function):
        return ""
    return "examples_are_no_json" if examples else "no_examples"
