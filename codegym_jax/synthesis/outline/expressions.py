"""The largest pure part of an expression, as a tool body over a few operands."""

import ast
import copy

PURE_FUNCTIONS = {
    "abs", "min", "max", "len", "int", "float", "str", "round", "sum", "ord", "chr", "pow", "bool", "sorted",
}  # fmt: skip
PURE_METHODS = {
    "isdigit", "isalpha", "isalnum", "isupper", "islower", "isspace", "is_integer", "lower", "upper", "strip",
    "startswith", "endswith", "count", "find", "replace", "swapcase", "title", "capitalize", "zfill",
    "bit_length",
}  # fmt: skip
MATH = {
    "sqrt", "floor", "ceil", "log", "log2", "log10", "exp", "pow", "gcd", "sin", "cos", "tan", "atan2",
    "hypot", "fabs", "factorial", "radians", "degrees", "comb", "atan", "asin", "acos", "lcm", "isqrt",
    "fmod",
}  # fmt: skip
CONVERSIONS = {"int", "str", "float", "bool", "len"}
MAX_OPERANDS = 4
_NEVER_OPERANDS = (
    ast.Lambda, ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp, ast.NamedExpr, ast.Yield,
    ast.YieldFrom, ast.Await, ast.Starred, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set,
)  # fmt: skip


class Extraction:
    """An expression split into a body over numbered operands and the operands.

    Attributes:
      body: the expression with operand k replaced by the name `_k`.
      operands: expressions that the caller evaluates, each once, in order of first appearance.
      operations: how many operators, calls and comparisons the body holds.
      possible: False when an operand may not be evaluated beforehand.
    """

    def __init__(self, node: ast.expr):
        self.operands = []
        self.operations = 0
        self.possible = True
        self._seen = {}
        self.body = self._visit(node, lazy=False)

    @property
    def worthwhile(self) -> bool:
        """Whether the body may be a tool: some operation, one to four operands."""
        return self.possible and self.operations >= 1 and 1 <= len(self.operands) <= MAX_OPERANDS

    def _operand(self, node: ast.expr, lazy: bool) -> ast.expr:
        # A lazy position is evaluated under a condition only, so evaluating it first could raise.
        if isinstance(node, _NEVER_OPERANDS) or (lazy and not isinstance(node, ast.Name)):
            self.possible = False
            return node
        key = ast.dump(node)
        if key not in self._seen:
            self._seen[key] = len(self.operands)
            self.operands.append(node)
        return ast.Name(f"_{self._seen[key]}", ast.Load())

    def _visit(self, node: ast.expr, lazy: bool) -> ast.expr:
        match node:
            case ast.Constant():
                return node
            case ast.BinOp(left=left, op=op, right=right):
                self.operations += 1
                return ast.BinOp(self._visit(left, lazy), op, self._visit(right, lazy))
            case ast.UnaryOp(op=op, operand=operand):
                self.operations += isinstance(op, ast.Not)
                return ast.UnaryOp(op, self._visit(operand, lazy))
            case ast.BoolOp(op=op, values=values):
                self.operations += 1
                return ast.BoolOp(op, [self._visit(value, lazy or i > 0) for i, value in enumerate(values)])
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self.operations += 1
                return ast.IfExp(self._visit(test, lazy), self._visit(body, True), self._visit(orelse, True))
            case ast.Compare(left=left, ops=ops, comparators=others) if not self._is_identity(node):
                self.operations += 1
                return ast.Compare(
                    self._visit(left, lazy), ops, [self._choices(other, lazy) for other in others]
                )
            case ast.Compare(
                left=ast.Name() as left, ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant()]
            ):
                return ast.Compare(self._operand(left, lazy), node.ops, node.comparators)
            case ast.Call(func=function, args=arguments, keywords=[]) if not any(
                isinstance(argument, _NEVER_OPERANDS) for argument in arguments
            ):
                return self._call(node, function, arguments, lazy)
        return self._operand(node, lazy)

    def _call(self, node: ast.expr, function: ast.expr, arguments: list[ast.expr], lazy: bool) -> ast.expr:
        match function:
            case ast.Name(id=name) if name in PURE_FUNCTIONS and arguments:
                self.operations += name not in CONVERSIONS
            case ast.Attribute(value=ast.Name(id="math"), attr=name) if name in MATH:
                self.operations += 1
            case ast.Attribute(value=value, attr=name) if name in PURE_METHODS:
                self.operations += 1
                function = ast.Attribute(self._visit(value, lazy), name, ast.Load())
            case _:
                return self._operand(node, lazy)
        return ast.Call(function, [self._visit(argument, lazy) for argument in arguments], [])

    def _choices(self, node: ast.expr, lazy: bool) -> ast.expr:
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)) and all(
            isinstance(n, ast.Constant) for n in node.elts
        ):
            return node
        return self._visit(node, lazy)

    def _is_identity(self, node: ast.Compare) -> bool:
        return any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)


def with_names(body: ast.expr, parameters: list[str]) -> str:
    """Source of an extracted body, its operands named."""

    class Rename(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.Name:
            if node.id[:1] == "_" and node.id[1:].isdigit():
                return ast.Name(parameters[int(node.id[1:])], ast.Load())
            return node

    return ast.unparse(ast.fix_missing_locations(Rename().visit(copy.deepcopy(body))))
