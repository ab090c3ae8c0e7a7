"""Sources that a model wrote, read and rewritten as syntax trees. They are parsed here and never executed."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass

from codegym_jax.envs.environment_source import MAX_SOURCE_CHARS
from codegym_jax.synthesis.llm.reading import Unusable
from codegym_jax.synthesis.problems import Problem

MODULES_OF_A_SOLVER = frozenset(
    {"json", "re", "math", "collections", "itertools", "functools", "heapq", "bisect", "string", "ast"}
)
"""None of them leads to the environment's state."""
_FORBIDDEN_NAMES = frozenset(
    {"eval", "exec", "compile", "open", "input", "globals", "locals", "vars", "dir", "getattr", "setattr",
     "delattr", "super", "breakpoint"}
)  # fmt: skip
_FRAMES = ("gi_", "cr_", "ag_", "tb_", "f_")  # attributes that lead from a generator or traceback to callers
_SECTIONS = ("Args", "Returns", "Example")


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a problem's own solution."""

    names: tuple[str, ...]
    required: frozenset[str]

    def takes(self, keys: set[str]) -> bool:
        """Whether arguments of these names can be given."""
        return self.required <= keys <= set(self.names)


def signature_of(problem: Problem) -> Signature | None:
    """What the solution takes, by name; None where that cannot be told or arguments have no names."""
    try:
        tree = ast.parse(problem.source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == problem.entry]
    if not found:
        return None
    arguments = found[-1].args
    if arguments.vararg or arguments.kwarg or arguments.posonlyargs:
        return None
    optional = len(arguments.defaults)
    plain = [argument.arg for argument in arguments.args]
    required = set(plain[: len(plain) - optional])
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        plain.append(argument.arg)
        if default is None:
            required.add(argument.arg)
    return Signature(tuple(plain), frozenset(required))


def documented_tools(source: str, class_name: str) -> str:
    """Signature and whole docstring of every tool, example outputs included: all that a solver may know."""
    return "\n".join(
        f'def {tool.name}({", ".join(_parameters(tool))}):\n    """\n{_indented(tool)}\n    """\n'
        for tool in _tools(source, class_name)
    )


def documentation_fault(source: str, class_name: str) -> str:
    """What a docstring lacks of Args (where there are parameters), Returns and Example; "" if nothing."""
    for tool in _tools(source, class_name):
        doc = ast.get_docstring(tool) or ""
        wanted = _SECTIONS if _parameters(tool) else _SECTIONS[1:]
        lacking = [section for section in wanted if section not in doc]
        if lacking:
            return f"the docstring of {tool.name} lacks {', '.join(lacking)}"
    return ""


def solve_fault(source: str, class_name: str) -> str:
    """Why the class's `solve` cannot be replaced; "" when its one definition stands in the class itself."""
    count = sum(_is_solve(node) for node in _class(source, class_name).body)
    if count != 1:
        return f"the class itself defines solve {count} times"
    for node in ast.walk(ast.parse(source)):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name == "solve" and isinstance(getattr(node, "ctx", None), ast.Store):
            return "solve is assigned to"
    return ""


def with_solver(source: str, class_name: str, answer: str) -> str:
    """The environment's source with its `solve` replaced by the one in an answer.

    Raises:
      Unusable: `does_not_parse`, `lacks_solve`, or `reaches_beyond_tools` when the function does more than
        call `self.step`, or could.
    """
    solver = _solver(answer)
    method = next(node for node in _class(source, class_name).body if _is_solve(node))
    assert isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
    lines = source.split("\n")
    start = min([method.lineno, *(decorator.lineno for decorator in method.decorator_list)]) - 1
    inside = ast.ClassDef(name="_", bases=[], keywords=[], body=[solver], decorator_list=[])
    written = ast.unparse(inside).split("\n")[1:]
    indentation = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
    if indentation == "    ":
        lines[start : method.end_lineno] = written
        return "\n".join(lines)
    tree = ast.parse(source)
    owner = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    owner.body = [solver if _is_solve(node) else node for node in owner.body]
    return ast.unparse(tree) + "\n"


def _solver(answer: str) -> ast.FunctionDef:
    if len(answer) > MAX_SOURCE_CHARS:
        raise Unusable("does_not_parse", "too long")
    try:
        tree = ast.parse(inspect.cleandoc("\n" + answer) + "\n")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unusable("does_not_parse", str(error)[:200]) from error
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    found = [node for body in bodies for node in body if _is_solve(node)]
    if len(found) != 1 or not isinstance(found[0], ast.FunctionDef):
        raise Unusable("lacks_solve", f"{len(found)} functions are named solve")
    solver = found[0]
    arguments = solver.args
    if [argument.arg for argument in arguments.args] != ["self"] or arguments.vararg or arguments.kwonlyargs:
        raise Unusable("lacks_solve", "it must take self and nothing else")
    solver.decorator_list, solver.returns = [], None
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    solver.body = [*imports, *solver.body]  # a module's imports go along
    fault = next(_reaches(solver), "")
    if fault:
        raise Unusable("reaches_beyond_tools", fault)
    return solver


def _reaches(solver: ast.FunctionDef) -> Iterator[str]:
    """Where a solver could get at more than the tools' texts."""
    called = {
        id(node.func.value)
        for node in ast.walk(solver)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "step"
    }
    for node in ast.walk(solver):
        if isinstance(node, ast.Name) and node.id == "self" and id(node) not in called:
            yield f"line {node.lineno}: self is used for more than self.step(...)"
        elif isinstance(node, ast.Name) and (node.id in _FORBIDDEN_NAMES or node.id.startswith("__")):
            yield f"line {node.lineno}: {node.id}"
        elif isinstance(node, ast.Attribute) and node.attr.startswith(("__", *_FRAMES)):
            yield f"line {node.lineno}: .{node.attr}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] not in MODULES_OF_A_SOLVER:
                    yield f"line {node.lineno}: import {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            inner = [alias.name for alias in node.names]
            if node.level or node.module not in MODULES_OF_A_SOLVER or "*" in inner:
                yield f"line {node.lineno}: from {node.module} import {', '.join(inner)}"
        elif isinstance(node, ast.Global):
            yield f"line {node.lineno}: global {', '.join(node.names)}"


def _class(source: str, class_name: str) -> ast.ClassDef:
    tree = ast.parse(source)
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)


def _is_solve(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "solve"


def _tools(source: str, class_name: str) -> list[ast.FunctionDef]:
    """The class's methods that `func_mapping` names, in its order."""
    owner = _class(source, class_name)
    methods = {node.name: node for node in owner.body if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(owner):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            target = node.targets[0]
            if isinstance(target, ast.Attribute) and target.attr == "func_mapping":
                names = [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
                return [methods[name] for name in names if name in methods]
    return []


def _parameters(tool: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in [*tool.args.args[1:], *tool.args.kwonlyargs]]


def _indented(tool: ast.FunctionDef) -> str:
    lines = (ast.get_docstring(tool) or "").splitlines()
    return "\n".join(f"    {line}" if line.strip() else "" for line in lines)
