"""How keys of dicts and values of sets are passed to tools."""

import ast

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.state_words import NotState


class Keys:
    """The keys of a dict or the values of a set: scalars, or tuples of one length, passed part by part."""

    def __init__(self, base: str, seen: list[ast.expr]):
        self.base = base
        self.parts: list[str] = []
        tuples = [key.elts for key in seen if isinstance(key, ast.Tuple)]
        if not tuples:
            return
        if len(tuples) < len(seen) or len({len(elements) for elements in tuples}) > 1:
            raise NotState("keys of several forms")
        named = next(
            (elements for elements in tuples if all(isinstance(e, ast.Name) for e in elements)), None
        )
        for number, element in enumerate(named or tuples[0], 1):
            part = names.of_expression(element) if named else f"part{number}"
            self.parts.append(names.snake(part, self.parts))

    @property
    def source(self) -> str:
        """The key inside a tool."""
        return f"({', '.join(self.parts)})" if len(self.parts) > 1 else self.base

    def arguments(self, key: ast.expr) -> dict[str, ast.expr]:
        """Parameter -> value for a key."""
        if not self.parts:
            return {self.base: key}
        if not isinstance(key, ast.Tuple):
            raise NotState("a tuple from elsewhere")
        return dict(zip(self.parts, key.elts, strict=True))
