"""Python code as syntax trees. Nothing here runs any of it."""

import ast
import warnings

UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What reading or writing a syntax tree may raise, whatever the code holds."""


def parse(source: str) -> ast.Module | None:
    """The syntax tree of a module, or None where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python no longer likes
        try:
            return ast.parse(source)
        except UNREADABLE:
            return None


def compiles(source: str) -> bool:
    """Whether the source is a module that Python would accept."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(source, "<module>", "exec", dont_inherit=True)
        except UNREADABLE:
            return False
    return True


def functions(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    """The functions of a module by name; of two with one name, the later."""
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def docstring(node: ast.Module | ast.FunctionDef) -> str:
    """The cleaned docstring, "" where there is none."""
    return ast.get_docstring(node) or ""


def parameters(function: ast.FunctionDef) -> list[ast.arg]:
    """The parameters that can be passed by name."""
    return [*function.args.args, *function.args.kwonlyargs]


def required(function: ast.FunctionDef) -> list[ast.arg]:
    """Those parameters that have no default."""
    arguments = function.args
    positional = arguments.args[: max(0, len(arguments.args) - len(arguments.defaults))]
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return [*positional, *(argument for argument, default in named if default is None)]


def called(tree: ast.AST) -> list[str]:
    """The names of the functions that are called by name, in order, repeated as often as called."""
    return [
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]


def suppressed(body: list[ast.stmt], error: str = "Exception") -> ast.With:
    """`with suppress(error): body`."""
    item = ast.withitem(ast.Call(name("suppress"), [name(error)], []))
    return ast.With([item], body or [ast.Pass()])


def name(text: str) -> ast.Name:
    """A name that is read."""
    return ast.Name(text, ast.Load())


def assign(target: str, value: ast.expr) -> ast.Assign:
    """`target = value`."""
    return ast.Assign([ast.Name(target, ast.Store())], value)


def call(function: ast.expr, *arguments: ast.expr) -> ast.Expr:
    """`function(arguments)` as a statement."""
    return ast.Expr(ast.Call(function, list(arguments), []))


def function(title: str, body: list[ast.stmt], *parameters: str) -> ast.FunctionDef:
    """`def title(parameters): body`."""
    arguments = ast.arguments([], [ast.arg(parameter) for parameter in parameters], None, [], [], None, [])
    return ast.FunctionDef(title, arguments, body or [ast.Pass()], [], None)


def check_module(body: list[ast.stmt]) -> str:
    """A module whose `check(candidate)` runs the body.

    Raises:
      UNREADABLE: when the body cannot be written as text, or cannot stand in a function.
    """
    imported = ast.ImportFrom("contextlib", [ast.alias("suppress")], 0)
    module = ast.Module([function("check", [imported, *body], "candidate")], [])
    text = ast.unparse(ast.fix_missing_locations(module)) + "\n"
    if not compiles(text):
        raise SyntaxError("its calls cannot stand in a function")
    return text
