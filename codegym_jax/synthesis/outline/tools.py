"""A tool of a synthesized environment: its name, parameters, what it does and what it returns."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Tool:
    """One tool.

    Attributes:
      name: in PascalCase, unique in its environment.
      kind: `access` reads hidden input, `operation` computes an expression, `helper` calls a function of
        the reference solution, `state` reads or changes what the environment remembers, `frame` is
        `Observe` or `Done`.
      parameters: names, in order.
      expression: Python source over the parameters and `self.inputs`.
      summary: what it does, as a sentence.
      details: parameter name -> what it means.
      defaults: parameter name -> source of its default value.
      statements: Python source, one statement each, that runs before the expression.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        parameters: Sequence[str],
        expression: str,
        summary: str,
        details: Mapping[str, str] | None = None,
        defaults: Mapping[str, str] | None = None,
        statements: Sequence[str] = (),
    ):
        self.name = name
        self.kind = kind
        self.parameters = list(parameters)
        self.expression = expression
        self.summary = summary
        self.details = dict(details or {})
        self.defaults = dict(defaults or {})
        self.statements = list(statements)

    def signature(self) -> str:
        """The parameters as in a definition, `self` first."""
        optional = [
            f"{name}={self.defaults[name]}" if name in self.defaults else name for name in self.parameters
        ]
        return ", ".join(["self", *optional])

    def compiled(self, namespace: dict[str, Any]) -> Callable[..., Any]:
        """A function of `self` and the parameters, evaluated in the namespace of the reference solution."""
        body = "\n    ".join([*self.statements, f"return {self.expression}"])
        defined: dict[str, Any] = {}
        exec(f"def tool({self.signature()}):\n    {body}\n", namespace, defined)
        return defined["tool"]
