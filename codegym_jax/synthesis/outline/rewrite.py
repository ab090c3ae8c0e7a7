"""The pass that turns a solver's helper calls and expressions into tool calls."""

import ast
import copy
from collections.abc import Mapping, Sequence
from typing import Any

from codegym_jax.synthesis.outline import english, names
from codegym_jax.synthesis.outline.expressions import Extraction, is_plain, split, with_names
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
_CANDIDATES = (ast.BinOp, ast.Compare, ast.BoolOp, ast.Call, ast.IfExp, ast.Subscript)


class Outliner(ast.NodeTransformer):
    """Rewrites a solver in place.

    Attributes:
      tools: tool name -> `Tool`, in order of first use.
      sites: tool name -> keys of the expressions it stands for, as bans name them.
      summaries: helper function -> what it does, as a sentence.
      meanings: tool name -> what it returns, as a phrase; of access tools to begin with.
    """

    def __init__(
        self, helpers: dict[str, ast.FunctionDef], bans: set[str], everywhere: bool, taken: set[str]
    ):
        """
        Args:
          helpers: functions that become tools.
          bans: keys of expressions that must stay in the solver; after `deep: `, with all their parts.
          everywhere: outline outside loops too.
          taken: names that no tool may have.
        """
        self.helpers = helpers
        self.bans = bans
        self.everywhere = everywhere
        self.taken = set(taken)
        self.tools = {}
        self.sites = {}
        self.summaries: Mapping[str, str] = {}
        self.meanings: dict[str, str] = {}
        self._bodies = {}
        self._function = None
        self._loops = 0
        self._quiet = 0  # inside an index or the bounds of a loop, where a slice is not worth a tool
        self._given_up = 0  # inside an expression banned with all its parts
        self._accumulating = None  # the expression made from the last `x += e`
        self._hint = None  # the name that the expression's value will be bound to
        self._origins = english.Origins()

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
        self._origins.unknown(self._function, node.target)
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
            self._origins.unknown(self._function, part.target)
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
        match target, node.value:
            case ast.Tuple(elts=targets), ast.Tuple(elts=elements) if len(targets) == len(elements):
                node.value.elts = [self._bound_to(t, v) for t, v in zip(targets, elements, strict=True)]
            case _:
                node.value = self._bound_to(target, node.value)
        for target in node.targets:
            self._origins.bind(self._function, target, node.value, self.meanings)
        node.targets = self._quietly(node.targets)
        return node

    def _bound_to(self, target: ast.expr, value: ast.expr) -> ast.expr:
        hint = self._hint
        named = isinstance(target, (ast.Name, ast.Attribute, ast.Subscript))
        self._hint = names.of_expression(target) if named else None
        value = self.visit(value)
        self._hint = hint
        return value

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """`x += e` as `x = x + e`, so that accumulators are tools."""
        self._origins.unknown(self._function, node.target)
        if self._function is not None and _is_simple_target(node.target):
            old = copy.deepcopy(node.target)
            old.ctx = ast.Load()
            whole = ast.BinOp(old, node.op, copy.deepcopy(node.value))
            if self._extraction(whole, accumulates=True) is not None:
                self._accumulating = whole
                return self.visit_Assign(ast.copy_location(ast.Assign([node.target], whole), node))
        node.value = self.visit(node.value)
        [node.target] = self._quietly([node.target])
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
            deep = f"deep: {self._key(node)}" in self.bans if isinstance(node, _CANDIDATES) else False
            self._given_up += deep
            try:
                extraction = self._extraction(node, accumulates=node is self._accumulating)
                if extraction is not None:
                    return self._operation_call(node, extraction)
                return super().visit(node)
            finally:
                self._given_up -= deep
        return super().visit(node)

    def _key(self, node: ast.expr) -> str:
        return f"{self._function}: {ast.unparse(node)}"

    def _extraction(self, node: ast.expr, accumulates: bool) -> Extraction | None:
        if self._given_up or self._function is None or not isinstance(node, _CANDIDATES):
            return None
        if not (self._loops or self.everywhere) or (not accumulates and is_plain(node)):
            return None
        if self._quiet and isinstance(node, ast.Subscript):
            return None
        key = self._key(node)
        if f"deep: {key}" in self.bans:
            return None
        extraction = None
        if key not in self.bans:
            extraction = split(node, known=self.helpers)
        elif f"lengths: {key}" not in self.bans and "len(" in key:
            extraction = Extraction(node, known=self.helpers, lengths=True)
        return extraction if extraction is not None and extraction.worthwhile else None

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
            summary = self.summaries.get(function.name, f"{names.title(function.name)}.")
            self.tools[name] = Tool(name, "helper", renamed, call, summary, defaults=defaults)
            self.sites[name] = {key}
            self.meanings[name] = self.meanings[f"{function.name}()"] = f"a result of {name}"
        arguments = [ast.keyword(names.snake(p), a) for p, a in zip(parameters, node.args, strict=False)]
        arguments += [ast.keyword(names.snake(k.arg), k.value) for k in node.keywords if k.arg]
        return self._tool_call(name, arguments, node)

    def _operation_call(self, node: ast.expr, extraction: Extraction) -> ast.Call:
        roots = ", ".join(map(names.root, extraction.operands))
        body = f"{ast.dump(extraction.body)} of {roots}"  # the same work on other things is another tool
        if body not in self._bodies:
            parameters = []
            for operand in extraction.operands:
                parameters.append(names.of_parameter(operand, parameters))
            source = with_names(extraction.body, parameters)
            name = self._new_name(names.of_tool(node, parameters, self._hint), names.of_expression(node))
            self.tools[name] = Tool(name, "operation", parameters, source, english.summary(source))
            self.sites[name] = set()
            self._bodies[body] = name
            self.meanings[name] = f"a result of {name}"
        name = self._bodies[body]
        self.sites[name].add(extraction.variant + self._key(node))
        parameters = self.tools[name].parameters
        for parameter, operand in zip(parameters, extraction.operands, strict=True):
            self._origins.use(self._function, name, parameter, operand, self._hint)
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

    def _new_name(self, base: str, longer: str = "") -> str:
        name = names.shortened(base)
        if name in self.taken and longer:
            name = names.shortened(names.pascal(longer))
        name = names.unique(name, self.taken)
        self.taken.add(name)
        return name

    def describe_parameters(self) -> None:
        """Says of each parameter what it is, where every use agrees on it."""
        for name, tool in self.tools.items():
            if tool.kind == "operation":
                tool.details.update(self._origins.details(name, self.meanings))


def _is_simple_target(node: ast.expr) -> bool:
    """Whether reading the target before it is assigned changes nothing."""
    match node:
        case ast.Name():
            return True
        case ast.Attribute(value=ast.Name()):
            return True
        case ast.Subscript(value=value, slice=index) if not isinstance(index, ast.Slice):
            return is_plain(value) and is_plain(index)
    return False
