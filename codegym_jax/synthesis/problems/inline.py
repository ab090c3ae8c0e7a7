"""A module with what it imports from its neighbors put in front of it, as text."""

import ast
import sys
from dataclasses import dataclass, field
from pathlib import Path

from codegym_jax.synthesis.problems import syntax


class CannotInlineError(Exception):
    """A module imports from its neighbors what cannot be put in front of it; its text is a reason."""


def inlined(path: Path, root: Path) -> str:
    """The source of a module, with its imports of modules under `root` replaced by their code.

    A module that imports none of them is given as it stands.

    Args:
      path: the module.
      root: the folder of all of them, which may be a package.

    Raises:
      CannotInlineError: on a syntax error, on an import of a whole module, or when two modules give one name
        two meanings.
    """
    tree = parsed(path)
    package = root.resolve().name
    if not any(_target(node, path, root, package) for node in ast.walk(tree) if _is_import(node)):
        return read(path)
    merger = _Merger(root, package)
    merger.add(path)
    future = ast.parse(
        "from __future__ import annotations"
    ).body  # the one that changes no behavior of theirs
    module = ast.Module([*future, *merger.body], [])
    try:
        return ast.unparse(ast.fix_missing_locations(module)) + "\n"
    except syntax.UNREADABLE as error:
        raise CannotInlineError("syntax_error") from error


def trimmed(source: str, entry: str, test: str) -> str:
    """A module without the functions and classes that neither its entry nor the test can reach.

    What stands at module level otherwise is kept, with all that it names.
    """
    tree = syntax.parse(source)
    if tree is None:
        return source
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = {node.name: node for node in tree.body if isinstance(node, kinds)}
    if len(defined) < sum(isinstance(node, kinds) for node in tree.body):
        return source  # a name defined twice
    waiting = [entry, *_names(syntax.parse(test) or ast.Module([], []))]
    waiting += [name for node in tree.body if not isinstance(node, kinds) for name in _names(node)]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in defined and name not in reached:
            reached.add(name)
            waiting += _names(defined[name])
    dropped = {line for name, node in defined.items() if name not in reached for line in _lines(node)}
    lines = source.splitlines(keepends=True)  # form feeds split lines here and not for the parser
    kept = "".join(line for number, line in enumerate(lines, start=1) if number not in dropped)
    rest = [
        ast.dump(node) for node in tree.body if getattr(node, "name", None) not in defined.keys() - reached
    ]
    shorter = syntax.parse(kept)
    return kept if shorter and [ast.dump(node) for node in shorter.body] == rest else source


@dataclass
class _Merger:
    root: Path
    package: str
    body: list[ast.stmt] = field(default_factory=list)
    _seen: set[Path] = field(default_factory=set)
    _meaning: dict[str, str] = field(default_factory=dict)

    def add(self, path: Path) -> None:
        """Appends the module's code after that of the modules it imports."""
        if path in self._seen:
            return
        self._seen.add(path)
        for node in parsed(path).body:
            if _is_import(node) and (target := _target(node, path, self.root, self.package)):
                self._import(node, target)
            elif not _is_idle(node):
                self._append(node)

    def _import(self, node: ast.stmt, target: Path) -> None:
        if not isinstance(node, ast.ImportFrom) or not target.is_file():
            raise CannotInlineError("imports_neighboring_module")
        self.add(target)
        for alias in node.names:
            if alias.name != "*" and alias.name not in self._meaning:
                raise CannotInlineError("imports_neighboring_module")
            if alias.asname and alias.asname != alias.name:
                self._append(syntax.assign(alias.asname, syntax.name(alias.name)))

    def _append(self, node: ast.stmt) -> None:
        for inner in ast.walk(node):
            if _is_import(inner) and inner is not node and _target(inner, self.root, self.root, self.package):
                raise CannotInlineError("imports_neighboring_module")
        text = ast.unparse(ast.fix_missing_locations(node))
        for name in _bound(node):
            if self._meaning.setdefault(name, text) != text:
                raise CannotInlineError("neighbors_share_a_name")
        self.body.append(node)


def _target(node: ast.AST, path: Path, root: Path, package: str) -> Path | None:
    """The file under `root` that an import names; the folder when it names one; None for any other import."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if found := _find(root, alias.name.split("."), package):
                return found.parent
        return None
    if not isinstance(node, ast.ImportFrom):
        return None
    parts = node.module.split(".") if node.module else []
    if node.level:
        base = path.parents[min(node.level, len(path.parents)) - 1]
        return _module(base, parts) or base
    return _find(root, parts, package)


def _find(root: Path, parts: list[str], package: str) -> Path | None:
    if parts[0] == package:
        return _module(root, parts[1:]) or root
    return None if parts[0] in sys.stdlib_module_names else _module(root, parts)


def _module(base: Path, parts: list[str]) -> Path | None:
    place = base.joinpath(*parts)
    for candidate in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


def _is_idle(node: ast.stmt) -> bool:
    """A docstring, `from __future__`, or what runs only when the module is a program."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "__future__"
    if isinstance(node, ast.If):
        return "__name__" in _names(node.test)
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _bound(node: ast.stmt) -> list[str]:
    """The names that a statement at module level gives a meaning."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    stored = (inner for inner in ast.walk(node) if isinstance(inner, ast.Name))
    return [inner.id for inner in stored if isinstance(inner.ctx, ast.Store) and inner.id != "__all__"]


def _names(tree: ast.AST) -> list[str]:
    """Every name in the tree."""
    return [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> range:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return range(first, (node.end_lineno or first) + 1)


def read(path: Path) -> str:
    """The text of a module.

    Raises:
      CannotInlineError: when it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CannotInlineError("not_utf8") from error


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a module.

    Raises:
      CannotInlineError: when it has none.
    """
    tree = syntax.parse(read(path))
    if tree is None:
        raise CannotInlineError("syntax_error")
    return tree
