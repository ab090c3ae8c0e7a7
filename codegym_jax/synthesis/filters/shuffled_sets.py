"""Makes an environment's code see its sets in another order. Runs in a guest; needs nothing but Python.

`rewrite` turns source into code in which every set that the source makes is one of `shuffled_builtins`: sets
as ever, but iterated, popped and shown in an order that no hash seed explains. What an environment shows is
then the same as before exactly when it does not hang on the order of a set.
"""

import ast
import base64
import json
import marshal

ORDERS = ("reversed", "odd places first")


def shuffled_builtins(order):
    """Stand-ins for `set`, `frozenset`, `hash` and `id`, and what turns plain sets into such ones.

    Sets of whole numbers below 2**31 keep their order, which is the same in every CPython.
    """
    plain_set, plain_frozenset, plain_hash, plain_id = set, frozenset, hash, id
    whole = frozenset((int, bool))

    def shuffled(items):
        if len(items) < 2 or (whole.issuperset(map(type, items)) and max(map(abs, items)) < 2**31 - 1):
            return items
        return items[::-1] if order == "reversed" else items[1::2] + items[::2]

    def own(value):
        kind = type(value)
        if kind is plain_set:
            return Set(value)
        return FrozenSet(value) if kind is plain_frozenset else value

    class Kind(type):
        def __instancecheck__(cls, value):
            kinds = {Set: plain_set, FrozenSet: plain_frozenset}
            return isinstance(value, kinds[cls]) if cls in kinds else type.__instancecheck__(cls, value)

    def members(base):
        def iterate(self):
            return iter(shuffled([*base.__iter__(self)]))

        def show(self):
            inside = ", ".join(map(repr, self))
            if base is plain_set:
                return f"{{{inside}}}" if inside else "set()"
            return f"frozenset({{{inside}}})" if inside else "frozenset()"

        def pop(self):
            # In constant time: the second of the plain order in place of the first.
            first = base.pop(self)
            if len(self) and shuffled([first, "another"]) != [first, "another"] and type(first) not in whole:
                second = base.pop(self)
                self.add(first)
                return second
            return first

        def making(name):
            method = getattr(base, name)
            return lambda self, *others: own(method(self, *others))

        named = ["copy", "union", "intersection", "difference", "symmetric_difference"]
        named += [f"__{side}{name}__" for name in ("and", "or", "xor", "sub") for side in ("", "r")]
        found = {name: making(name) for name in named} | {"__iter__": iterate, "__repr__": show}
        found |= {"pop": pop} if base is plain_set else {}
        return found | {"__slots__": (), "__module__": "builtins", "__qualname__": base.__name__}

    Set = Kind("set", (plain_set,), members(plain_set))
    FrozenSet = Kind("frozenset", (plain_frozenset,), members(plain_frozenset))

    def scrambled_hash(value):
        number = plain_hash(value)
        is_number = hasattr(value, "as_integer_ratio") or isinstance(value, complex)
        return number if is_number else (number * 5 + len(order)) % (2**29 - 3)

    def scrambled_id(value):
        return plain_id(value) ^ 0x5A5A5A0

    return Set, FrozenSet, scrambled_hash, scrambled_id, own


def rewrite(argument_json):
    """Code of an environment whose sets have another order.

    Takes `source`, `shim` (the source of this module) and `order` (one of `ORDERS`). Returns the code as
    base64.
    """
    about = json.loads(argument_json)
    tree = _Wrapper().visit(ast.parse(about["source"]))
    shim = ast.parse(about["shim"])
    prelude = [node for node in shim.body if getattr(node, "name", "") == "shuffled_builtins"]
    prelude += ast.parse(
        f"set, frozenset, hash, id, own_set_ = shuffled_builtins({about['order']!r})\ndel shuffled_builtins"
    ).body
    start = 0
    while start < len(tree.body) and _must_be_first(tree.body[start]):
        start += 1
    tree.body[start:start] = prelude
    code = compile(ast.fix_missing_locations(tree), "<environment>", "exec")
    return base64.b64encode(marshal.dumps(code)).decode()


def _must_be_first(node):
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.ImportFrom(module="__future__"):
            return True
    return False


_SET_OPERATORS = (ast.BitOr, ast.BitAnd, ast.BitXor, ast.Sub)


class _Wrapper(ast.NodeTransformer):
    """Hands to `own_set_` every value that may be a new set."""

    def _wrapped(self, node):
        self.generic_visit(node)
        return ast.copy_location(ast.Call(ast.Name("own_set_", ast.Load()), [node], []), node)

    visit_Set = visit_SetComp = visit_Call = _wrapped

    def visit_BinOp(self, node):
        return self._wrapped(node) if isinstance(node.op, _SET_OPERATORS) else self.generic_visit(node)

    def visit_AugAssign(self, node):
        self.generic_visit(node)
        if not (isinstance(node.op, _SET_OPERATORS) and isinstance(node.target, ast.Name)):
            return node
        taken = ast.Call(ast.Name("own_set_", ast.Load()), [ast.Name(node.target.id, ast.Load())], [])
        return [node, ast.Assign([ast.Name(node.target.id, ast.Store())], taken)]

    def visit_match_case(self, node):
        # A pattern is no expression.
        node.guard = node.guard and self.visit(node.guard)
        node.body = [new for old in node.body for new in _listed(self.visit(old))]
        return node


def _listed(result):
    return result if isinstance(result, list) else [result]
