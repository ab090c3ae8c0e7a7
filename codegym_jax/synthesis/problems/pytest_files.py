"""A pytest file as a `check(candidate)` module that makes the same calls and needs no pytest.

The file is rewritten as syntax and never run. Assertions become plain expressions, so that a failing one
hides no call behind it; blocks that expect an exception are dropped.
"""

import ast
import copy
from dataclasses import dataclass, field

from codegym_jax.synthesis.problems import syntax

SOLUTION = "solution"
"""The module that such files import what they test from."""
_EXPECT_FAILURE = {"raises", "warns", "deprecated_call", "assertRaises", "assertRaisesRegex", "assertWarns"}
_SKIPPED = {"skip", "skipif", "xfail"}
_FIXTURE_DEPTH = 5


def check_of(test_code: str, entry: str) -> str:
    """The `check(candidate)` module of a pytest file; "" when it cannot be read or never calls the entry."""
    tree = syntax.parse(test_code)
    if tree is None or not syntax.compiles(test_code):
        return ""
    try:
        body = _Suite(_solution_names(tree)).body(tree)
        if not any(entry in syntax.called(statement) or _passes(statement, entry) for statement in body):
            return ""
        return syntax.check_module([syntax.assign(entry, syntax.name("candidate")), *body])
    except syntax.UNREADABLE:
        return ""


def tested(test_code: str) -> list[str]:
    """The names of the solution's functions that a pytest file calls, in order and with repetitions."""
    tree = syntax.parse(test_code)
    if tree is None:
        return []
    try:
        return syntax.called(_Plain(_solution_names(tree)).visit(tree))
    except syntax.UNREADABLE:
        return []


def _passes(tree: ast.AST, entry: str) -> bool:
    """Whether the entry is handed on rather than called, as in `map(entry, values)`."""
    return any(isinstance(node, ast.Name) and node.id == entry for node in ast.walk(tree))


def _solution_names(tree: ast.Module) -> dict[str, str]:
    """What a file calls the solution's module ("") and the functions that it renames."""
    names = {SOLUTION: ""}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == SOLUTION:
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.Import):
            names |= {alias.asname: "" for alias in node.names if alias.name == SOLUTION and alias.asname}
    return names


class _Plain(ast.NodeTransformer):
    """Rewrites what pytest or unittest would have to be there for, and names of the solution's functions."""

    def __init__(self, solution_names: dict[str, str]):
        self._solution_names = solution_names

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return ast.Expr(self.visit(node.test))

    def visit_With(self, node: ast.With) -> ast.AST:
        for item in node.items:
            if (
                isinstance(item.context_expr, ast.Call)
                and _last_name(item.context_expr.func) in _EXPECT_FAILURE
            ):
                return ast.Pass()
        return self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.AST:
        node.names = [alias for alias in node.names if alias.name not in {SOLUTION, "pytest", "unittest"}]
        return syntax.suppressed([node], "ImportError") if node.names else ast.Pass()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        module = (node.module or "").partition(".")[0]
        dropped = module in {SOLUTION, "pytest", "unittest", "__future__", ""} or node.names[0].name == "*"
        return ast.Pass() if dropped or node.level else syntax.suppressed([node], "ImportError")

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._solution_names.get(node.id) or node.id, node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and self._solution_names.get(node.value.id) == "":
            return ast.Name(node.attr, node.ctx)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = _last_name(node.func)
        if name == "approx" and node.args:
            return node.args[0]
        owner = _last_name(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        if owner == "pytest":
            plain = node.args if name == "param" else []
            return plain[0] if len(plain) == 1 else ast.Tuple(plain, ast.Load())
        if owner == "self" and name.startswith("assert"):
            return ast.Tuple(node.args, ast.Load())
        return node


@dataclass
class _Suite:
    """The statements of a file and the calls of its tests."""

    solution_names: dict[str, str]
    _fixtures: dict[str, ast.FunctionDef] = field(default_factory=dict)

    def body(self, tree: ast.Module) -> list[ast.stmt]:
        """Definitions and set-up in their order, then one call for each test."""
        body, calls = [], []
        self._fixtures = {
            node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and _is_fixture(node)
        }
        for node in tree.body:
            if isinstance(node, ast.If) and any(
                _last_name(inner) == "__name__" for inner in ast.walk(node.test)
            ):
                continue
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                calls += self._calls(node, syntax.name(node.name), [])
            elif isinstance(node, ast.ClassDef) and "test" in node.name.lower():
                calls += self._calls_of_class(node)
            plain = self._plain(_undecorated(node))
            is_definition = isinstance(plain, (ast.FunctionDef, ast.AsyncFunctionDef))
            body.append(plain if is_definition else syntax.suppressed([plain]))
        return body + calls

    def _plain(self, node: ast.stmt) -> ast.stmt:
        return _Plain(self.solution_names).visit(copy.deepcopy(node))

    def _calls_of_class(self, node: ast.ClassDef) -> list[ast.stmt]:
        methods = {method.name: method for method in node.body if isinstance(method, ast.FunctionDef)}
        instance = syntax.name("instance")
        before: list[ast.stmt] = [
            syntax.assign(instance.id, ast.Call(syntax.name(node.name), [], [])),
            *(
                syntax.call(
                    ast.Attribute(instance, name, ast.Load()),
                    *[ast.Constant(None)] * (_width(methods[name]) - 1),
                )
                for name in ("setup_class", "setUpClass", "setup_method", "setUp")
                if name in methods
            ),
        ]
        calls = []
        for name, method in methods.items():
            if name.startswith("test"):
                calls += self._calls(method, ast.Attribute(instance, name, ast.Load()), before)
        return calls

    def _calls(self, test: ast.FunctionDef, function: ast.expr, before: list[ast.stmt]) -> list[ast.stmt]:
        """The statements that call a test with all its parameters; none when one of them is not known."""
        given: dict[str, ast.expr] = {}
        loops: list[tuple[str, ast.expr]] = []
        for decorator in test.decorator_list:
            marker = decorator.func if isinstance(decorator, ast.Call) else decorator
            if _last_name(marker) in _SKIPPED:
                return []
            if not isinstance(decorator, ast.Call) or _last_name(marker) != "parametrize":
                continue
            names, values = _parametrized(decorator)
            if not names or values is None:
                return []
            case = f"case_{len(loops)}"
            loops.append((case, values))
            for place, name in enumerate(names):
                item = ast.Subscript(syntax.name(case), ast.Constant(place), ast.Load())
                given[name] = syntax.name(case) if len(names) == 1 else item
        for argument in test.args.args[bool(before) :]:
            if argument.arg not in given:
                fixture = self._fixture(argument.arg, _FIXTURE_DEPTH)
                if fixture is None:
                    return []
                given[argument.arg] = fixture
        keywords = [ast.keyword(name, value) for name, value in given.items()]
        statement: ast.stmt = syntax.suppressed([*before, ast.Expr(ast.Call(function, [], keywords))])
        for case, values in loops:
            plain = self._plain(ast.Expr(values))
            assert isinstance(plain, ast.Expr)
            statement = ast.For(ast.Name(case, ast.Store()), plain.value, [statement], [])
        return [syntax.suppressed([statement])] if loops else [statement]

    def _fixture(self, name: str, depth: int) -> ast.expr | None:
        """What a fixture of the file gives, as an expression."""
        fixture = self._fixtures.get(name)
        if fixture is None or depth == 0:
            return None
        keywords = []
        for argument in fixture.args.args:
            value = self._fixture(argument.arg, depth - 1)
            if value is None:
                return None
            keywords.append(ast.keyword(argument.arg, value))
        made = ast.Call(syntax.name(name), [], keywords)
        yields = any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in ast.walk(fixture))
        return ast.Call(syntax.name("next"), [made], []) if yields else made


def _parametrized(decorator: ast.Call) -> tuple[list[str], ast.expr | None]:
    """The names and the values of `parametrize(names, values)`."""
    named = {keyword.arg: keyword.value for keyword in decorator.keywords}
    arguments = dict(zip(("argnames", "argvalues"), decorator.args, strict=False)) | named
    names = arguments.get("argnames")
    if isinstance(names, ast.Constant) and isinstance(names.value, str):
        listed = [name.strip() for name in names.value.split(",") if name.strip()]
    elif isinstance(names, (ast.List, ast.Tuple)):
        listed = [str(item.value) for item in names.elts if isinstance(item, ast.Constant)]
    else:
        listed = []
    return listed, arguments.get("argvalues")


def _undecorated(node: ast.stmt) -> ast.stmt:
    """A definition without decorators, and a class without the bases that unittest would give it."""
    node = copy.deepcopy(node)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        node.decorator_list = []
    elif isinstance(node, ast.ClassDef):
        node.bases = [base for base in node.bases if _last_name(base) != "TestCase"]
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name.startswith("test"):
                method.decorator_list = []
    return node


def _is_fixture(node: ast.FunctionDef) -> bool:
    decorators = (item.func if isinstance(item, ast.Call) else item for item in node.decorator_list)
    return any(_last_name(decorator) == "fixture" for decorator in decorators)


def _width(method: ast.FunctionDef) -> int:
    return len(method.args.args)


def _last_name(node: ast.AST) -> str:
    """`raises` of `pytest.raises`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
