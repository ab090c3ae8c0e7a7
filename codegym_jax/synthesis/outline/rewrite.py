"""The pass that turns a solver's helper calls and expressions into tool calls."""

import ast
import copy
from collections.abc import Sequence
from typing import Any

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.expressions import Extraction, with_names
from codegym_jax.synthesis.outline.tools import Tool

_STRUCTURAL = {
    "range",
    "enumerate",
    "zip",
    "isinstance",
    "print",
    "list",
    "set",
    "dict",
    "tuple",
    "reversed",
    "call",
}
_CANDIDATES = (ast.BinOp, ast.Compare, ast.BoolOp, ast.Call, ast.UnaryOp, ast.IfExp)


class Outliner(ast.NodeTransformer):
    """Rewrites a solver in place.

    Attributes:
      tools: tool name -> `Tool`, in order of first use.
      sites: tool name -> keys of the expressions it stands for, as bans name them.
    """

    def __init__(
        self, helpers: dict[str, ast.FunctionDef], bans: set[str], everywhere: bool, taken: set[str]
    ):
        """
        Args:
          helpers: functions that become tools.
          bans: keys of expressions that must stay in the solver.
          everywhere: outline outside loops too.
          taken: names that no tool may have.
        """
        self.helpers = helpers
        self.bans = bans
        self.everywhere = everywhere
        self.taken = set(taken)
        self.tools = {}
        self.sites = {}
        self._bodies = {}
        self._function = None
        self._loops = 0
        self._quiet = 0  # inside index arithmetic, loop bounds, and other places not worth a tool
        self._accumulating = None  # the expression made from the last `x += e`
        self._hint = None  # the name that the expression's value will be bound to

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        outer = self._function, self._loops, self._quiet
        self._function, self._loops, self._quiet = node.name, 0, 0
        node.body = [self.visit(statement) for statement in node.body]
        self._function, self._loops, self._quiet = outer
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [self.visit(part) if isinstance(part, ast.FunctionDef) else part for part in node.body]
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        node.iter = self.visit(node.iter)
        node.body = self._in_loop(node.body)
        node.orelse = [self.visit(statement) for statement in node.orelse]
        return node

    def visit_While(self, node: ast.While) -> ast.AST:
        [node.test] = self._in_loop([node.test])
        node.body = self._in_loop(node.body)
        node.orelse = [self.visit(statement) for statement in node.orelse]
        return node

    def _in_loop(self, nodes: Sequence[Any]) -> list[Any]:
        self._loops += 1
        hint, self._hint = self._hint, None
        result = [self.visit(node) for node in nodes]
        self._hint = hint
        self._loops -= 1
        return result

    def _comprehension(self, node: Any) -> ast.AST:
        for number, part in enumerate(node.generators):
            [part.iter] = self._in_loop([part.iter]) if number else [self.visit(part.iter)]
            part.ifs = self._in_loop(part.ifs)
        if isinstance(node, ast.DictComp):
            node.key, node.value = self._in_loop([node.key, node.value])
        else:
            [node.elt] = self._in_loop([node.elt])
        return node

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _comprehension

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        [node.body] = self._in_loop([node.body])
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        target = node.targets[0]
        hint = self._hint
        self._hint = (
            names.of_expression(target)
            if isinstance(target, (ast.Name, ast.Attribute, ast.Subscript))
            else None
        )
        node.value = self.visit(node.value)
        self._hint = hint
        node.targets = self._quietly(node.targets)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """`x += e` as `x = x + e`, so that accumulators are tools."""
        if isinstance(node.target, ast.Name) and self._function is not None:
            whole = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, copy.deepcopy(node.value))
            if self._extraction(whole, accumulates=True) is not None:
                self._accumulating = whole
                return self.visit_Assign(ast.copy_location(ast.Assign([node.target], whole), node))
        node.value = self.visit(node.value)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        node.value, node.slice = self._quietly([node.value, node.slice])
        return node

    def _quietly(self, nodes: Sequence[Any]) -> list[Any]:
        self._quiet += 1
        result = [self.visit(node) for node in nodes]
        self._quiet -= 1
        return result

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in self.helpers and self._function is not None:
                replaced = self._helper_call(node, self.helpers[node.func.id])
                if replaced is not None:
                    return replaced
            if node.func.id in _STRUCTURAL:
                node.args = self._quietly(node.args)
                for keyword in node.keywords:
                    [keyword.value] = self._quietly([keyword.value])
                return node
        if isinstance(node, ast.expr):
            extraction = self._extraction(node, accumulates=node is self._accumulating)
            if extraction is not None:
                return self._operation_call(node, extraction)
        return super().visit(node)

    def _key(self, node: ast.expr) -> str:
        return f"{self._function}: {ast.unparse(node)}"

    def _extraction(self, node: ast.expr, accumulates: bool) -> Extraction | None:
        if self._quiet or self._function is None or not isinstance(node, _CANDIDATES):
            return None
        if not (self._loops or self.everywhere) or self._key(node) in self.bans:
            return None
        extraction = Extraction(node)
        if not extraction.worthwhile or (not accumulates and _is_neighbor(node)):
            return None
        return extraction

    def _helper_call(self, node: ast.Call, function: ast.FunctionDef) -> ast.Call | None:
        parameters = [argument.arg for argument in function.args.args]
        if any(isinstance(argument, ast.Starred) for argument in node.args) or len(node.args) > len(
            parameters
        ):
            return None
        if any(keyword.arg not in parameters for keyword in node.keywords):
            return None
        key = f"helper: {function.name}"
        name = next((name for name, keys in self.sites.items() if key in keys), None)
        if name is None:
            name = self._new_name(names.pascal(function.name))
            renamed = [names.snake(parameter) for parameter in parameters]
            optional = renamed[len(renamed) - len(function.args.defaults) :]
            defaults = dict(zip(optional, map(ast.unparse, function.args.defaults), strict=True))
            call = f"{function.name}({', '.join(renamed)})"
            self.tools[name] = Tool(
                name, "helper", renamed, call, f"{names.title(function.name)}.", defaults=defaults
            )
            self.sites[name] = {key}
        arguments = [ast.keyword(names.snake(p), a) for p, a in zip(parameters, node.args, strict=False)]
        arguments += [ast.keyword(names.snake(k.arg), k.value) for k in node.keywords if k.arg]
        return self._tool_call(name, arguments, node)

    def _operation_call(self, node: ast.expr, extraction: Extraction) -> ast.Call:
        body = ast.dump(extraction.body)
        if body not in self._bodies:
            parameters = []
            for operand in extraction.operands:
                parameters.append(names.snake(names.of_expression(operand), parameters))
            name = self._new_name(self._describe(node, parameters))
            source = with_names(extraction.body, parameters)
            self.tools[name] = Tool(name, "operation", parameters, source, _summary(node, source))
            self.sites[name] = set()
            self._bodies[body] = name
        name = self._bodies[body]
        self.sites[name].add(self._key(node))
        parameters = self.tools[name].parameters
        arguments = [ast.keyword(p, a) for p, a in zip(parameters, extraction.operands, strict=True)]
        return self._tool_call(name, arguments, node)

    def _tool_call(self, name: str, keywords: list[ast.keyword], node: ast.expr) -> ast.Call:
        hint, self._hint = self._hint, None
        quiet, self._quiet = self._quiet, 0
        for keyword in keywords:
            keyword.value = self.visit(copy.deepcopy(keyword.value))
        self._hint, self._quiet = hint, quiet
        call = ast.Call(ast.Name("call", ast.Load()), [ast.Constant(name)], keywords)
        return ast.copy_location(call, node)

    def _new_name(self, base: str) -> str:
        name = names.unique(base[: names.MAX_NAME_CHARS], self.taken)
        self.taken.add(name)
        return name

    def _describe(self, node: ast.expr, parameters: list[str]) -> str:
        match node:
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                sides = [names.pascal(names.of_expression(side)) for side in (left, right)]
                if isinstance(right, (ast.List, ast.Tuple, ast.Set)):
                    sides[1] = "Choices"
                return f"Is{sides[0]}{names.OPERATORS[type(op).__name__]}{sides[1]}"
            case ast.Compare():
                return f"Is{names.pascal('_'.join(parameters))}Ordered"
            case ast.BoolOp():
                return f"Check{names.pascal('_'.join(parameters))}"
            case ast.UnaryOp(op=ast.Not()):
                return f"Not{names.pascal(parameters[0])}"
        if self._hint:
            verb = _step_verb(node) if parameters == [self._hint] else "Update"
            return f"{verb if self._hint in parameters else 'Compute'}{names.pascal(self._hint)}"
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                sides = [names.pascal(names.of_expression(side)) for side in (left, right)]
                return f"{sides[0]}{names.OPERATORS.get(type(op).__name__, 'With')}{sides[1]}"
            case ast.Call(func=function):
                return f"{names.pascal(names.of_expression(function))}Of{names.pascal('_'.join(parameters))}"
        return f"Compute{names.pascal('_'.join(parameters))}"


def _step_verb(node: ast.expr) -> str:
    """`Increment` for `x + 1` and `Decrement` for `x - 1`."""
    match node:
        case ast.BinOp(op=ast.Add(), right=ast.Constant(value=1)):
            return "Increment"
        case ast.BinOp(op=ast.Sub(), right=ast.Constant(value=1)):
            return "Decrement"
    return "Update"


def _is_neighbor(node: ast.expr) -> bool:
    """`i + 1`, `i - 1` and the like: too dull for a tool."""
    match node:
        case ast.BinOp(op=ast.Add() | ast.Sub(), right=ast.Constant(value=value)):
            return value in (1, 2, "", " ", "\n")
        case ast.BinOp(left=ast.Constant(value=str()), op=ast.Mod()):
            return True  # text formatting
    return False


def _summary(node: ast.expr, source: str) -> str:
    if isinstance(node, (ast.Compare, ast.BoolOp)) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    ):
        return f"Tells whether `{source}`."
    return f"Computes `{source}`."
