"""The largest pure part of an expression, as a tool body over a few operands."""

import ast
import copy
from collections.abc import Collection

PURE_FUNCTIONS = {
    "abs", "min", "max", "len", "int", "float", "str", "round", "sum", "ord", "chr", "pow", "bool", "sorted",
    "any", "all", "bin", "hex", "oct", "divmod",
}  # fmt: skip
PURE_METHODS = {
    "isdigit", "isalpha", "isalnum", "isupper", "islower", "isspace", "isnumeric", "isdecimal", "is_integer",
    "lower", "upper", "strip", "lstrip", "rstrip", "startswith", "endswith", "count", "find", "rfind",
    "index", "replace", "swapcase", "title", "capitalize", "casefold", "zfill", "ljust", "rjust", "center",
    "bit_length", "split", "rsplit", "splitlines", "isidentifier",
}  # fmt: skip
MATH = {
    "sqrt", "floor", "ceil", "log", "log2", "log10", "log1p", "exp", "expm1", "pow", "gcd", "sin", "cos",
    "tan", "sinh", "cosh", "tanh", "atan2", "hypot", "fabs", "factorial", "radians", "degrees", "comb",
    "perm", "atan", "asin", "acos", "lcm", "isqrt", "fmod", "trunc", "isclose", "prod", "copysign",
}  # fmt: skip
MATH_CONSTANTS = {"pi", "e", "tau"}
MAX_OPERANDS = 4
_REDUCERS = {"sum", "min", "max", "sorted", "any", "all", "len", "list", "tuple"}
_ITERABLES = {"set", "reversed", "zip", "range", "enumerate", "list", "tuple"}
_KEYWORDS = {
    "sorted": {"key", "reverse"},
    "min": {"key", "default"},
    "max": {"key", "default"},
    "round": {"ndigits"},
    "int": {"base"},
    "sum": {"start"},
    "split": {"sep", "maxsplit"},
    "rsplit": {"sep", "maxsplit"},
}
_NEVER_OPERANDS = (
    ast.Lambda, ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp, ast.NamedExpr, ast.Yield,
    ast.YieldFrom, ast.Await, ast.Starred, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set,
)  # fmt: skip
_Bound = frozenset[str]


class Extraction:
    """An expression split into a body over numbered operands and the operands.

    Attributes:
      body: the expression with operand k replaced by the name `_k`.
      operands: expressions that the caller evaluates, each once, in order of first appearance.
      operations: how many operators, calls and comparisons the body holds.
      possible: False when an operand may not be evaluated beforehand.
      variant: prefix of the key under which this way to split the expression is banned.
    """

    def __init__(
        self,
        node: ast.expr,
        opaque: Collection[int] = (),
        known: Collection[str] = (),
        lengths: bool = False,
    ):
        """
        Args:
          node: the expression.
          opaque: `id` of nodes inside it that are to be operands, whatever they are.
          known: functions that a body may name as the key of a sort.
          lengths: lengths are operands; otherwise what they are the length of is.
        """
        self.operands = []
        self.operations = 0
        self.possible = True
        self.variant = "lengths: " if lengths else ""
        self._opaque = opaque
        self._known = known
        self._lengths = lengths
        self._seen = {}
        self.body = self._visit(node, False, frozenset())

    @property
    def worthwhile(self) -> bool:
        """Whether the body may be a tool: some operation, one to four operands."""
        return self.possible and self.operations >= 1 and 1 <= len(self.operands) <= MAX_OPERANDS

    def _operand(self, node: ast.expr, lazy: bool, bound: _Bound) -> ast.expr:
        # A lazy position is evaluated under a condition only, so evaluating it first could raise.
        if isinstance(node, _NEVER_OPERANDS) or (lazy and not isinstance(node, ast.Name)):
            self.possible = False
            return node
        if _reads(node, bound):
            self.possible = False
            return node
        key = ast.dump(node)
        if key not in self._seen:
            self._seen[key] = len(self.operands)
            self.operands.append(node)
        return ast.Name(f"_{self._seen[key]}", ast.Load())

    def _visit(self, node: ast.expr, lazy: bool, bound: _Bound) -> ast.expr:
        if id(node) in self._opaque:
            return self._operand(node, lazy, bound)
        match node:
            case ast.Constant():
                return node
            case ast.Name(id=name) if name in bound:
                return node
            case ast.Attribute(value=ast.Name(id="math"), attr=name) if name in MATH_CONSTANTS:
                return node
            case ast.BinOp(left=left, op=op, right=right):
                self.operations += 1
                if (
                    isinstance(op, ast.Mod)
                    and isinstance(left, ast.Constant)
                    and isinstance(right, ast.Tuple)
                ):
                    parts = [self._visit(part, lazy, bound) for part in right.elts]
                    return ast.BinOp(left, op, ast.Tuple(parts, ast.Load()))
                return ast.BinOp(self._visit(left, lazy, bound), op, self._visit(right, lazy, bound))
            case ast.UnaryOp(op=op, operand=operand):
                return ast.UnaryOp(op, self._visit(operand, lazy, bound))
            case ast.BoolOp(op=op, values=values):
                self.operations += 1
                parts = [self._visit(value, lazy or i > 0, bound) for i, value in enumerate(values)]
                return ast.BoolOp(op, parts)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self.operations += 1
                parts = [self._visit(test, lazy, bound)]
                parts += [self._visit(part, True, bound) for part in (body, orelse)]
                return ast.IfExp(*parts)
            case ast.Compare(left=left, ops=ops, comparators=others) if not is_identity(node):
                self.operations += 1
                left = self._choices(left, lazy, bound)
                return ast.Compare(left, ops, [self._choices(other, lazy, bound) for other in others])
            case ast.Compare(
                left=ast.Name() as left, ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant()]
            ):
                return ast.Compare(self._visit(left, lazy, bound), node.ops, node.comparators)
            case ast.Subscript(value=value, slice=ast.Slice() as part, ctx=ast.Load()):
                bounds = [part.lower, part.upper, part.step]
                self.operations += any(bounds)
                value = self._visit(value, lazy, bound)
                visited = [b if b is None else self._visit(b, lazy, bound) for b in bounds]
                return ast.Subscript(value, ast.Slice(*visited), ast.Load())
            case ast.Subscript(value=value, slice=index, ctx=ast.Load()) if _reads(node, bound) or (
                isinstance(value, ast.Call) and self._is_pure(value)
            ):
                value = self._visit(value, lazy, bound)
                return ast.Subscript(value, self._visit(index, lazy, bound), ast.Load())
            case ast.Call() if self._is_pure(node):
                return self._call(node, lazy, bound)
        return self._operand(node, lazy, bound)

    def _is_pure(self, node: ast.Call) -> bool:
        """Whether a call of this form may be part of a body."""
        match node.func:
            case ast.Name(id=name) if name in PURE_FUNCTIONS or name == "list":
                if not node.args:
                    return False
            case ast.Attribute(value=ast.Name(id="math"), attr=name) if name in MATH:
                pass
            case ast.Attribute(value=ast.Constant(value=str()), attr="format" as name):
                pass
            case ast.Attribute(value=ast.Constant() | ast.Name(), attr="join" as name) if len(node.args) == 1:
                pass
            case ast.Attribute(attr=name) if name in PURE_METHODS:
                pass
            case _:
                return False
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            return False
        if name == "list" and not (isinstance(node.args[0], ast.Call) and self._is_iterable(node.args[0])):
            return False
        return all(keyword.arg in _KEYWORDS.get(name, ()) for keyword in node.keywords)

    def _call(self, node: ast.Call, lazy: bool, bound: _Bound) -> ast.expr:
        function = node.func
        match function:
            case ast.Name(id="len") if self._lengths and not lazy and not _reads(node, bound):
                return self._operand(node, lazy, bound)
            case ast.Name(id=name):
                self.operations += name != "len"
            case ast.Attribute(value=ast.Name(id="math"), attr=name):
                self.operations += 1
            case ast.Attribute(value=value, attr=name):
                empty = name == "join" and isinstance(value, ast.Constant) and not value.value
                self.operations += not empty
                function = ast.Attribute(self._visit(value, lazy, bound), name, ast.Load())
            case _:
                raise AssertionError(ast.dump(node))
        reduces = name in _REDUCERS or name == "join"
        arguments = [
            self._iterable(argument, lazy, bound) if reduces else self._visit(argument, lazy, bound)
            for argument in node.args
        ]
        keywords = [
            ast.keyword(
                keyword.arg,
                self._function(keyword.value, bound)
                if keyword.arg == "key"
                else self._visit(keyword.value, lazy, bound),
            )
            for keyword in node.keywords
        ]
        return ast.Call(function, arguments, keywords)

    def _is_iterable(self, node: ast.Call) -> bool:
        """Whether the call gives something to iterate over, out of its arguments alone."""
        match node:
            case ast.Call(func=ast.Name(id=name), args=[_, *_], keywords=[]):
                return name in _ITERABLES or (name in ("map", "filter") and len(node.args) == 2)
        return False

    def _iterable(self, node: ast.expr, lazy: bool, bound: _Bound) -> ast.expr:
        """The argument of a function that consumes an iterable."""
        match node:
            case ast.GeneratorExp(generators=parts) | ast.ListComp(generators=parts) if not any(
                part.is_async for part in parts
            ):
                return self._comprehension(node, lazy, bound)
            case ast.Call(func=ast.Name(id="map" | "filter"), args=[function, source]) if self._is_iterable(
                node
            ):
                self.operations += 1
                visited = [self._function(function, bound), self._iterable(source, lazy, bound)]
                return ast.Call(node.func, visited, [])
            case ast.Call() if self._is_iterable(node):
                self.operations += 1
                return ast.Call(node.func, [self._iterable(a, lazy, bound) for a in node.args], [])
        return self._visit(node, lazy, bound)

    def _comprehension(self, node: ast.GeneratorExp | ast.ListComp, lazy: bool, bound: _Bound) -> ast.expr:
        parts = []
        for number, part in enumerate(node.generators):
            source = self._iterable(part.iter, lazy or number > 0, bound)
            bound |= {n.id for n in ast.walk(part.target) if isinstance(n, ast.Name)}
            tests = [self._visit(test, True, bound) for test in part.ifs]
            parts.append(ast.comprehension(part.target, source, tests, 0))
        return type(node)(self._visit(node.elt, True, bound), parts)

    def _function(self, node: ast.expr, bound: _Bound) -> ast.expr:
        """A function given as an argument: a lambda over pure operations, or one known by name."""
        match node:
            case ast.Lambda(args=arguments, body=body) if not (
                arguments.defaults or arguments.kwonlyargs or arguments.vararg or arguments.kwarg
            ):
                inner = bound | {argument.arg for argument in arguments.args}
                return ast.Lambda(arguments, self._visit_tuple(body, inner))
            case ast.Name(id=name) if name in PURE_FUNCTIONS or name in self._known:
                return node
            case ast.Attribute(value=ast.Name(id="str"), attr=name) if name in PURE_METHODS:
                return node
        self.possible = False
        return node

    def _visit_tuple(self, node: ast.expr, bound: _Bound) -> ast.expr:
        if isinstance(node, ast.Tuple):
            return ast.Tuple([self._visit(part, True, bound) for part in node.elts], ast.Load())
        return self._visit(node, True, bound)

    def _choices(self, node: ast.expr, lazy: bool, bound: _Bound) -> ast.expr:
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)) and all(
            isinstance(n, ast.Constant) for n in node.elts
        ):
            return node
        match node:
            case ast.Call(func=ast.Name(id="set"), args=[_], keywords=[]):
                return self._iterable(node, lazy, bound)
        return self._visit(node, lazy, bound)


def split(node: ast.expr, known: Collection[str] = ()) -> Extraction:
    """An extraction of `node`, one part of which becomes an operand where there would be too many.

    The part taken out is worth a tool itself, and has as many operands as a tool may have, or nearly.
    """
    whole = Extraction(node, known=known)
    opaque = set()
    while whole.possible and len(whole.operands) > MAX_OPERANDS:
        parts = [
            (len(part.operands), -number, child)
            for number, child in enumerate(ast.walk(node))
            if child is not node
            and id(child) not in opaque
            and isinstance(child, (ast.BinOp, ast.Compare, ast.Call, ast.IfExp, ast.BoolOp))
            and (part := Extraction(child, opaque, known)).worthwhile
            and len(part.operands) >= 2
        ]
        parts.sort(key=lambda entry: entry[:2], reverse=True)
        for _, _, child in parts:
            smaller = Extraction(node, opaque | {id(child)}, known)
            if smaller.possible and len(smaller.operands) < len(whole.operands):
                opaque.add(id(child))
                whole = smaller
                break
        else:
            break
    return whole


def with_names(body: ast.expr, parameters: list[str]) -> str:
    """Source of an extracted body, its operands named."""

    class Rename(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.Name:
            if node.id[:1] == "_" and node.id[1:].isdigit():
                return ast.Name(parameters[int(node.id[1:])], ast.Load())
            return node

    return ast.unparse(ast.fix_missing_locations(Rename().visit(copy.deepcopy(body))))


def is_identity(node: ast.Compare) -> bool:
    """Whether the comparison asks for identity, as in `x is None`."""
    return any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)


def is_plain(node: ast.expr) -> bool:
    """Whether the value is read off, or one more or less than that: `x`, `x[i]`, `len(x) - 1`."""
    match node:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=ast.Constant(value=1)) if not isinstance(
            left, ast.BinOp
        ):
            return is_plain(left)
        case ast.BinOp(left=ast.Constant(value=1), op=ast.Add(), right=right) if not isinstance(
            right, ast.BinOp
        ):
            return is_plain(right)
    return is_read(node)


def is_read(node: ast.expr) -> bool:
    """Whether the value is there already: a name, a constant, an item, a length, the result of a tool."""
    match node:
        case ast.Name() | ast.Constant():
            return True
        case ast.Attribute(value=value) | ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=value):
            return is_read(value)
        case ast.Subscript(value=value, slice=index):
            return not isinstance(index, (ast.Slice, ast.Tuple)) and is_read(value) and is_plain(index)
        case ast.Call(func=ast.Name(id="len"), args=[value]):
            return is_read(value)
        case ast.Call(func=ast.Name(id="call")):
            return True
    return False


def _reads(node: ast.AST, bound: Collection[str]) -> bool:
    return bool(bound) and any(isinstance(n, ast.Name) and n.id in bound for n in ast.walk(node))
