"""What every source of problems offers to the loader."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from codegym_jax.records import Rejection
from codegym_jax.synthesis.problems.problem import Problem


@runtime_checkable
class Source(Protocol):
    """Problems by id. Naming them is cheap; a problem is built only when it is wanted."""

    @property
    def code_ids(self) -> Sequence[str]:
        """The ids of all that might be problems, each once."""
        ...

    def build(self, code_ids: Sequence[str]) -> Iterator[Problem | Rejection]:
        """Those problems, in the order asked; a rejection, whose subject is the id, where there is none."""
        ...


class Listed:
    """A source whose problems are all at hand."""

    def __init__(self, problems: Sequence[Problem]):
        self._problems = {problem.code_id: problem for problem in problems}

    @property
    def code_ids(self) -> Sequence[str]:
        return list(self._problems)

    def build(self, code_ids: Sequence[str]) -> Iterator[Problem | Rejection]:
        return (self._problems[code_id] for code_id in code_ids)
