"""The source of a published environment, read without executing it.

Takes a file `<code_id>__<Class>.py`, gives an `EnvSpec`: the tools are the keys of `func_mapping`, and
their signatures and docstrings those of the methods of the same names.
"""

import ast
import inspect
import pathlib
import re
import warnings
from collections.abc import Iterator

from codegym_jax.config import UserError
from codegym_jax.records import EnvSpec, ParameterSpec, ToolSpec

REQUIRED_METHODS = ("reset", "step", "finished", "reward", "Observe", "Done", "get_ref_answer", "solve")
MAX_SOURCE_CHARS = 500_000

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_EXAMPLE = re.compile(r"^[ \t]*Examples?( Outputs?)?\b.*\Z", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^[ \t]*(Args|Arguments|Parameters|Returns?|Raises|Notes?)\s*:", re.MULTILINE)
_PARAMETER = re.compile(r"^\s*\*{0,2}(\w+)\s*(?:\(([^)]*)\))?\s*:\s*(.*)$")


class FormatError(UserError):
    """A file, string or row is not in the published format; the message names it and what is expected."""


def load_environment(path: str | pathlib.Path) -> EnvSpec:
    """Reads an environment file.

    Raises:
      FormatError: when the file is missing, misnamed, or not an environment.
    """
    path = pathlib.Path(path)
    code_id, separator, class_name = path.stem.rpartition("__")
    if path.suffix != ".py" or not separator or not code_id or not class_name.isidentifier():
        raise FormatError(f"{path}: an environment file is named <code_id>__<Class>.py")
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 text: {error}") from error
    return parse_source(source, code_id=code_id, class_name=class_name, origin=path.name, path=str(path))


def parse_source(
    source: str,
    *,
    code_id: str,
    class_name: str = "",
    statement: str = "",
    license: str = "",
    origin: str = "",
    path: str = "",
) -> EnvSpec:
    """Reads an environment's source; nothing of it is executed.

    Args:
      source: the whole file.
      code_id: of the coding problem; with the class name it identifies the environment.
      class_name: the environment's class; unless given, the one class that has a `func_mapping`.
      path: names the source in error messages.

    Raises:
      FormatError: when the source does not parse, or the class or something it needs is missing.
    """
    where = path or code_id
    classes = _classes(source, where)
    name = class_name or _only_environment(classes, where)
    if name not in classes:
        raise FormatError(f"{where}: has no class {name}")
    methods = _methods(name, classes)
    missing = [method for method in REQUIRED_METHODS if method not in methods]
    if missing:
        raise FormatError(f"{where}: class {name} lacks {', '.join(missing)}")
    names = _tool_names(name, classes)
    if not names:
        raise FormatError(f'{where}: class {name} needs self.func_mapping = {{"ToolName": ..., ...}}')
    missing = [tool for tool in names if tool not in methods]
    if missing:
        raise FormatError(f"{where}: class {name} lacks {', '.join(missing)}, named in func_mapping")
    tools = tuple(_tool(tool, methods[tool], where) for tool in names)
    return EnvSpec(
        code_id=code_id,
        class_name=name,
        source=source,
        tools=tools,
        statement=statement,
        license=license,
        origin=origin,
    )


def parse_tree(source: str) -> ast.Module:
    """The syntax tree, without Python's remarks on how the source is written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _classes(source: str, where: str) -> dict[str, ast.ClassDef]:
    if len(source) > MAX_SOURCE_CHARS:
        raise FormatError(f"{where}: longer than {MAX_SOURCE_CHARS} characters")
    try:
        tree = parse_tree(source)
    except SyntaxError as error:
        raise FormatError(f"{where}: line {error.lineno}: does not parse: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise FormatError(f"{where}: does not parse: {error or type(error).__name__}") from error
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _only_environment(classes: dict[str, ast.ClassDef], where: str) -> str:
    found = [name for name, node in classes.items() if _func_mapping(node) is not None]
    if len(found) != 1:
        raise FormatError(
            f"{where}: expected one class with self.func_mapping, found {', '.join(found) or 'none'}"
        )
    return found[0]


def _lineage(name: str, classes: dict[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    """The class and those of its bases that the same file defines, nearest first."""
    queue, seen = [name], set()
    while queue:
        current = queue.pop(0)
        if current in classes and current not in seen:
            seen.add(current)
            yield classes[current]
            queue += [base.id for base in classes[current].bases if isinstance(base, ast.Name)]


def _methods(name: str, classes: dict[str, ast.ClassDef]) -> dict[str, _Function]:
    methods: dict[str, _Function] = {}
    for node in _lineage(name, classes):
        for item in node.body:
            if isinstance(item, _Function):
                methods.setdefault(item.name, item)
    return methods


def _tool_names(name: str, classes: dict[str, ast.ClassDef]) -> list[str]:
    for node in _lineage(name, classes):
        mapping = _func_mapping(node)
        if mapping is not None:
            return [
                key.value
                for key in mapping.keys
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            ]
    return []


def _func_mapping(node: ast.ClassDef) -> ast.Dict | None:
    for item in ast.walk(node):
        targets = item.targets if isinstance(item, ast.Assign) else []
        if isinstance(item, ast.AnnAssign):
            targets = [item.target]
        for target in targets:
            named = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", None)
            value = item.value if isinstance(item, (ast.Assign, ast.AnnAssign)) else None
            if named == "func_mapping" and isinstance(value, ast.Dict):
                return value
    return None


def _tool(name: str, node: _Function, where: str) -> ToolSpec:
    arguments = node.args
    if arguments.vararg or arguments.kwarg:
        raise FormatError(f"{where}: tool {name} takes * or ** parameters; a tool's parameters have names")
    doc = ast.get_docstring(node) or ""
    described = _described_parameters(doc)
    positional = [*arguments.posonlyargs, *arguments.args][1:]  # without self
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += [*arguments.defaults, *arguments.kw_defaults]
    parameters = []
    for argument, default in zip([*positional, *arguments.kwonlyargs], defaults, strict=True):
        type_name, description = described.get(argument.arg, ("", ""))
        if not type_name and argument.annotation is not None:
            type_name = ast.unparse(argument.annotation)
        parameters.append(
            ParameterSpec(
                name=argument.arg,
                type_name=type_name,
                description=description,
                required=default is None,
            )
        )
    shown = inspect.cleandoc(_EXAMPLE.sub("", doc)) if doc else ""
    return ToolSpec(name=name, parameters=tuple(parameters), doc=shown.strip())


def _described_parameters(doc: str) -> dict[str, tuple[str, str]]:
    """Parameter -> (type, description), from the lines `name (type): description` under `Args:`."""
    sections = list(_SECTION.finditer(doc))
    for index, section in enumerate(sections):
        if section.group(1) in ("Args", "Arguments", "Parameters"):
            end = sections[index + 1].start() if index + 1 < len(sections) else len(doc)
            lines = doc[section.end() : end].splitlines()
            matches = [match for match in map(_PARAMETER.match, lines) if match]
            return {match[1]: ((match[2] or "").strip(), match[3].strip()) for match in matches}
    return {}
