"""One coding problem inside the guest: its reference solution, run on inputs that went through JSON."""

import ast
import copy
import inspect
import random
import re
from typing import Any

from codegym_jax.synthesis.outline import scalars, values
from codegym_jax.synthesis.outline.normalize import clean, normalize
from codegym_jax.synthesis.outline.returned import returns_key
from codegym_jax.synthesis.outline.scopes import functions
from codegym_jax.synthesis.outline.simplify import without_unused_imports

Inputs = dict[str, Any]
"""The inputs of one task, by parameter, as they come back from JSON."""


class Problem:
    """A reference solution and what is known of its inputs.

    Attributes:
      source: the solution as published, but for imports that it does not use and numpy's scalar functions.
      entry: the function that solves the problem.
      parameters: its parameters, in order.
      hidden: those that an environment hides; set once samples are known.
      projection: the key of the answer that is asked for when the solution returns a dict, or None.
      position: the visible input that says which element of the answer is asked for, or None.
      readings: what `trace` keeps of solvers that read hidden inputs; good for one choice of `hidden`.
      digits: decimals to which inputs, results of tools and the answer are rounded, or None.
    """

    def __init__(self, source: str, entry: str):
        """Runs the solution's module.

        Raises:
          Exception: whatever the module raises.
        """
        self.source = scalars.translated(without_unused_imports(source))
        self.entry = entry
        self.hidden: list[str] = []
        self.projection: str | None = None
        self.position: str | None = None
        self.digits: int | None = None
        self._namespace = self.fresh_namespace()
        exec(compile(self.source, "<solution>", "exec"), self._namespace)
        self._function = self._namespace[entry]
        self.parameters = list(inspect.signature(self._function).parameters)
        self._normalized = {}
        self._lifted = None
        self.readings = {}

    def fresh_namespace(self) -> dict[str, Any]:
        """The names that a solution may expect around it."""
        return {"__name__": "solution", "Random": random.Random, "random": random}

    def namespace(self) -> dict[str, Any]:
        """The solution's module, with what normalizing moved to module level."""
        namespace = self.fresh_namespace()
        exec(compile("\n".join([self.source, *self.lifted()]), "<solution>", "exec"), namespace)
        return namespace

    def lifted(self) -> list[str]:
        """Sources of the imports and functions that are nested in the published solution only."""
        if self._lifted is None:
            self._lifted = self._nested_only()
        return self._lifted

    def _nested_only(self) -> list[str]:
        published = {ast.unparse(node) for node in ast.parse(self.source).body}
        defined = {node.name for node in ast.parse(self.source).body if isinstance(node, ast.FunctionDef)}
        lifted = []
        for node in self.normalize(False).body:
            is_import = isinstance(node, (ast.Import, ast.ImportFrom)) and ast.unparse(node) not in published
            if is_import or (isinstance(node, ast.FunctionDef) and node.name not in defined):
                lifted.append(ast.unparse(node))
        return lifted

    def summaries(self) -> dict[str, str]:
        """Function -> the first sentence of its docstring, of those that have one worth showing."""
        found = {}
        for node in ast.walk(ast.parse(self.source)):
            if isinstance(node, ast.FunctionDef):
                first = re.split(r"(?<=[.!?])\s|\n\s*\n|\n\s*:|>>>", ast.get_docstring(node) or "")[0]
                sentence = " ".join(first.split())
                if len(sentence.split()) >= 3 and len(sentence) <= 160 and sentence.isascii():
                    found[node.name] = sentence[0].upper() + sentence[1:].rstrip(".") + "."
        return found

    def normalize(self, loops: bool) -> ast.Module:
        """The normalized module."""
        key = (loops, tuple(self.hidden), self.projection)
        if key not in self._normalized:
            projection = self.projection if self.returns_asked() else None
            self._normalized[key] = normalize(self.source, self.entry, self.hidden, loops, projection)
        return self._normalized[key]

    def returns_asked(self) -> bool:
        """Whether the normalized solution returns what the key asks for, and not the dict around it."""
        if self.projection is None:
            return False
        key = ("returns", self.projection)
        if key not in self._normalized:
            entry = [node for node in functions(clean(self.source)) if node.name == self.entry]
            self._normalized[key] = len(entry) == 1 and returns_key(entry[0], self.projection)
        return self._normalized[key]

    def given(self, inputs: Inputs) -> Inputs:
        """The inputs that the solution takes."""
        return {name: value for name, value in inputs.items() if name != self.position}

    def raw(self, inputs: Inputs) -> Any:
        """What the published solution returns; its inputs are its own copy."""
        return self._function(**copy.deepcopy(self.given(inputs)))

    def answer_of(self, raw: Any, inputs: Inputs, normalized: bool = False) -> Any:
        """The answer that is asked for, as it comes back from JSON, from what the solution returned."""
        whole = self.projection is None or (normalized and self.returns_asked())
        answer = values.round_trip(raw if whole else raw[self.projection])
        if self.position is not None:
            answer = answer[inputs[self.position]]
        return values.rounded(answer, self.digits)

    def asked(self, inputs: str, normalized: bool = False) -> str:
        """Source of the subscripts that take the answer from the returned value; `inputs` is source too."""
        whole = self.projection is None or (normalized and self.returns_asked())
        key = "" if whole else f"[{self.projection!r}]"
        return key if self.position is None else f"{key}[{inputs}[{self.position!r}]]"

    def answer(self, inputs: Inputs) -> Any:
        """The reference answer.

        Raises:
          Exception: whatever the solution raises, and ValueError or TypeError for an answer that is not JSON.
        """
        return self.answer_of(self.raw(inputs), inputs)
