"""Rewrites a reference solution into plain loops, which outline into small tools.

`sum`, `max`, `min`, `any`, `all`, `len` of a comprehension, comprehensions themselves, and membership in a
hidden input become loops with an accumulator; constants move to where they are used; closed nested
functions move to module level. What the rewriting gets wrong is caught later: every environment must
reproduce the answers of the solution as published.
"""

import ast
import builtins
import copy
from collections.abc import Collection

from codegym_jax.synthesis.outline.branches import Branches
from codegym_jax.synthesis.outline.classes import free_methods
from codegym_jax.synthesis.outline.copies import inline_copies
from codegym_jax.synthesis.outline.loops import Loops
from codegym_jax.synthesis.outline.returned import unwrap
from codegym_jax.synthesis.outline.scopes import bound_names, functions, loaded_names
from codegym_jax.synthesis.outline.simplify import simplify


def clean(source: str) -> ast.Module:
    """The module without docstrings, without what runs only as a script, and simplified."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not _is_main_guard(node)]
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    tree = _WithoutFormattedStrings().visit(tree)
    free_methods(tree)
    simplify(tree)
    return tree


class _WithoutFormattedStrings(ast.NodeTransformer):
    """f-strings as `format` calls: the source of an f-string does not parse under every Python."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        template, arguments = "", []
        for part in node.values:
            match part:
                case ast.Constant(value=str() as text):
                    template += text.replace("{", "{{").replace("}", "}}")
                case ast.FormattedValue(value=value, conversion=conversion, format_spec=spec):
                    format_spec = _plain_text(spec)
                    if format_spec is None:
                        return self.generic_visit(node)
                    template += "{" + (f"!{chr(conversion)}" if conversion > 0 else "")
                    template += (f":{format_spec}" if format_spec else "") + "}"
                    arguments.append(self.visit(value))
        if not arguments:
            return ast.Constant(template.replace("{{", "{").replace("}}", "}"))
        return ast.Call(ast.Attribute(ast.Constant(template), "format", ast.Load()), arguments, [])


def _plain_text(spec: ast.AST | None) -> str | None:
    """The text of a format specification; None when parts of it are computed."""
    match spec:
        case None | ast.JoinedStr(values=[]):
            return ""
        case ast.JoinedStr(values=[ast.Constant(value=str() as text)]):
            return text
    return None


def normalize(
    source: str, entry: str, hidden: Collection[str], loops: bool = True, projection: str | None = None
) -> ast.Module:
    """The normalized module.

    Args:
      source: the reference solution as published.
      entry: the function that solves the problem.
      hidden: its parameters that will be reached through tools only.
      loops: whether comprehensions and reductions become loops.
      projection: the key of the returned dict whose value is to be returned alone.
    """
    tree = clean(source)
    if projection is not None:
        unwrap(next(node for node in functions(tree) if node.name == entry), projection)
    _lift_nested_functions(tree)
    methods = [
        part
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.FunctionDef)
    ]
    for function in [*functions(tree), *methods]:
        _inline_constants(tree, function)
        if loops:
            of_interest = hidden if function.name == entry else ()
            if function.name == entry:
                inline_copies(function, hidden)
            function.body = _in_steps(function)
            function.body = Loops(function, of_interest).block(function.body)
            function.body = _in_steps(function)
    return ast.parse(ast.unparse(ast.fix_missing_locations(tree)))


def _in_steps(function: ast.FunctionDef) -> list[ast.stmt]:
    return Branches(bound_names(function) | loaded_names(function)).block(function.body)


def _is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in loaded_names(node.test)


def _lift_nested_functions(tree: ast.Module) -> None:
    """Moves imports and closed nested functions of top-level functions to module level."""
    lifted = []
    for function in functions(tree):
        outside = bound_names(ast.Module([n for n in tree.body if n is not function], [])) | set(
            dir(builtins)
        )
        module = set()
        for node in tree.body:
            module |= {node.name} if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else bound_names(node)
        known = module | set(dir(builtins))
        kept = []
        for node in function.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                lifted.append(node)
                known |= bound_names(node)
            elif (
                isinstance(node, ast.FunctionDef)
                and not node.decorator_list
                and node.name not in outside
                and not any(isinstance(part, (ast.Nonlocal, ast.Global)) for part in ast.walk(node))
                and loaded_names(node) - bound_names(node) <= known
            ):
                lifted.append(node)
                known.add(node.name)
            else:
                kept.append(node)
        function.body = kept or [ast.Pass()]
    imports = [node for node in lifted if not isinstance(node, ast.FunctionDef)]
    helpers = [node for node in lifted if isinstance(node, ast.FunctionDef)]
    first = next((i for i, n in enumerate(tree.body) if isinstance(n, (ast.FunctionDef, ast.ClassDef))), 0)
    tree.body = [*imports, *tree.body[:first], *helpers, *tree.body[first:]]


def _inline_constants(tree: ast.Module, function: ast.FunctionDef) -> None:
    """Replaces names that are bound once, to a constant, by the constant."""
    stores = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            stores[node.id] = stores.get(node.id, 0) + 1
    parameters = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    constants = {}
    for node in [*tree.body, *function.body]:
        if not (
            isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
        ):
            continue
        name = node.targets[0].id
        here = node in function.body
        if _is_constant(node.value) and name not in parameters and stores.get(name, 0) == int(here):
            constants[name] = node
    members = _membership_only(function)
    for name, node in list(constants.items()):
        if not isinstance(node.value, ast.Constant) and name not in members:
            del constants[name]

    class Inline(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            if isinstance(node.ctx, ast.Load) and node.id in constants:
                return ast.copy_location(copy.deepcopy(constants[node.id].value), node)
            return node

    function.body = [Inline().visit(node) for node in function.body if node not in constants.values()] or [
        ast.Pass()
    ]


def _is_constant(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (str, int, float))
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return len(node.elts) <= 12 and all(isinstance(item, ast.Constant) for item in node.elts)
    return False


def _membership_only(function: ast.FunctionDef) -> set[str]:
    """Names whose every reading is the right side of `in` or `not in`."""
    sides = {
        id(node.comparators[0])
        for node in ast.walk(function)
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn))
    }
    reads = [
        node for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    ]
    return {node.id for node in reads} - {node.id for node in reads if id(node) not in sides}
