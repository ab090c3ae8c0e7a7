"""Code without its names: one text for code that differs in identifiers, docstrings and annotations alone.

Parameters and local names are numbered as they come, attributes of `self` and keys of its inputs likewise; a
function or class of the same file stands as the hash of its own canonical text. Constants stay.
"""

import ast
import hashlib
from collections.abc import Mapping

from codegym_jax.synthesis.filters.methods import attribute_of_self

_HASH_CHARS = 12
_ROUNDS = 4
"""Functions are told apart by what they call so many levels down."""
_LEFT_OUT = frozenset({"annotation", "ctx", "decorator_list", "kind", "returns", "type_comment"})

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def digest(text: str) -> str:
    """A short hash that is the same everywhere."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]


class Canon:
    """The canonical texts of one file's code."""

    def __init__(self, definitions: Mapping[str, Definition]):
        """Hashes a file's own functions and classes, given by name.

        Which of them another one uses is told by the hashes of the round before, so that functions which call
        one another need no order.
        """
        self._definitions = definitions
        self._digests = dict.fromkeys(definitions, "")
        for _ in range(_ROUNDS):
            before = self._digests
            self._digests = {name: digest(self.text(node)) for name, node in definitions.items()}
            if self._digests == before:
                break

    def text(self, node: ast.AST) -> str:
        """The canonical text of a function, or of any other piece of code."""
        try:
            return _Writer(self, _bound(node)).write(node)
        except RecursionError:  # hundreds of levels, as long sums have; then their parts must do
            return " ".join(type(part).__name__ for part in ast.walk(node))

    def digest_of(self, name: str) -> str:
        """The hash of a definition of this file."""
        return self._digests[name]

    def reached(self, node: ast.AST) -> set[str]:
        """The definitions of this file that a piece of code uses, directly or through others."""
        found: set[str] = set()
        waiting = [node]
        while waiting:
            for part in ast.walk(waiting.pop()):
                if isinstance(part, ast.Name) and part.id in self._definitions and part.id not in found:
                    found.add(part.id)
                    waiting.append(self._definitions[part.id])
        return found

    def definition(self, name: str) -> Definition:
        """The definition of that name."""
        return self._definitions[name]

    def defines(self, name: str) -> bool:
        """Whether this file defines a function or class of that name."""
        return name in self._definitions

    def position(self, function: str, keyword: str) -> str:
        """Where a function of this file has a parameter; its name where that is unknown."""
        definition = self._definitions.get(function)
        if isinstance(definition, ast.FunctionDef):
            names = [argument.arg for argument in [*definition.args.args, *definition.args.kwonlyargs]]
            if keyword in names:
                return str(names.index(keyword))
        return keyword


class _Writer:
    """Writes one piece of code, numbering its names as they come."""

    def __init__(self, canon: Canon, bound: frozenset[str]):
        self._canon = canon
        self._bound = bound
        self._numbers: dict[str, str] = {}

    def write(self, node: object) -> str:
        match node:
            case list():
                return f"[{' '.join(map(self.write, node))}]"
            case ast.Constant(value=value):
                return repr(value)
            case ast.alias(name=name):
                return name
            case ast.Name(id=name):
                return self._name(name)
            case ast.arg(arg=name):
                return self._name(name)
            case ast.Attribute() if attribute_of_self(node):
                return f"self.{self._numbered('.' + node.attr)}"
            case ast.Subscript(value=owner, slice=ast.Constant(value=str(key))) if attribute_of_self(owner):
                return f"{self.write(owner)}[{self._numbered('[' + key)}]"
            case ast.Call(func=ast.Name(id=name), keywords=[_, *_]) if self._canon.defines(name):
                given = sorted(
                    f"{self._canon.position(name, one.arg or '**')}={self.write(one.value)}"
                    for one in node.keywords
                )
                return f"(Call {self._name(name)} {self.write(node.args)} {' '.join(given)})"
            case ast.AST():
                return self._node(node)
        return repr(node)

    def _node(self, node: ast.AST) -> str:
        parts = [type(node).__name__]
        for field, value in ast.iter_fields(node):
            if field in _LEFT_OUT:
                continue
            if value is None:  # x[:1] is not x[1:]
                parts.append("-")
                continue
            if field == "body" and isinstance(value, list):
                value = [part for part in value if not _is_docstring(part)]
            if field == "name" and isinstance(value, str):
                value = self._name(value) if value in self._bound else "_"
            if field == "names" and isinstance(node, ast.Global | ast.Nonlocal):
                value = []
            parts.append(value if isinstance(value, str) else self.write(value))
        return f"({' '.join(parts)})"

    def _name(self, name: str) -> str:
        if name == "self":
            return name
        if name in self._bound:
            return self._numbered(name)
        return f"@{self._canon.digest_of(name)}" if self._canon.defines(name) else name

    def _numbered(self, name: str) -> str:
        return self._numbers.setdefault(name, f"%{len(self._numbers)}")


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _bound(node: ast.AST) -> frozenset[str]:
    """The names that a piece of code binds, those of functions inside it included; its own is not one."""
    found = set()
    for part in ast.walk(node):
        match part:
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.ExceptHandler(name=str(name)):
                found.add(name)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) if part is not node:
                found.add(name)
    return frozenset(found - {"self"})
