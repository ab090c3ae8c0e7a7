"""What a tool does and what its parameters are, in English words about the code's own identifiers."""

import ast

MAX_CHARS = 140  # of a summary in words; a longer one shows the source

_ARITHMETIC = {
    "Add": "{0} plus {1}",
    "Sub": "{0} minus {1}",
    "Mult": "{0} times {1}",
    "Div": "{0} divided by {1}",
    "FloorDiv": "the whole part of {0} divided by {1}",
    "Mod": "the remainder of {0} divided by {1}",
    "Pow": "{0} to the power of {1}",
    "BitXor": "{0} xor {1}, bit by bit",
    "BitAnd": "{0} and {1}, bit by bit",
    "BitOr": "{0} or {1}, bit by bit",
    "LShift": "{0} shifted left by {1} bits",
    "RShift": "{0} shifted right by {1} bits",
}
_RELATIONS = {
    "Lt": "{0} is less than {1}",
    "Gt": "{0} is greater than {1}",
    "LtE": "{0} is at most {1}",
    "GtE": "{0} is at least {1}",
    "Eq": "{0} equals {1}",
    "NotEq": "{0} differs from {1}",
    "In": "{0} is in {1}",
    "NotIn": "{0} is not in {1}",
    "Is": "{0} is {1}",
    "IsNot": "{0} is not {1}",
}
_FUNCTIONS = {
    ("abs", 1): "the absolute value of {0}",
    ("min", 1): "the smallest of {0}",
    ("max", 1): "the largest of {0}",
    ("min", 2): "the smaller of {0} and {1}",
    ("max", 2): "the larger of {0} and {1}",
    ("min", 3): "the smallest of {0}, {1} and {2}",
    ("max", 3): "the largest of {0}, {1} and {2}",
    ("sum", 1): "the sum of {0}",
    ("len", 1): "the length of {0}",
    ("int", 1): "{0} as an integer",
    ("float", 1): "{0} as a float",
    ("str", 1): "{0} as text",
    ("bool", 1): "the truth value of {0}",
    ("round", 1): "{0} rounded to an integer",
    ("round", 2): "{0} rounded to {1} decimals",
    ("sorted", 1): "{0} in ascending order",
    ("reversed", 1): "{0} reversed",
    ("list", 1): "{0}",
    ("tuple", 1): "{0}",
    ("set", 1): "the different values of {0}",
    ("ord", 1): "the code of the character {0}",
    ("chr", 1): "the character with the code {0}",
    ("pow", 2): "{0} to the power of {1}",
    ("pow", 3): "{0} to the power of {1}, modulo {2}",
    ("divmod", 2): "quotient and remainder of {0} divided by {1}",
    ("bin", 1): "{0} in binary, after `0b`",
    ("hex", 1): "{0} in hexadecimal, after `0x`",
    ("oct", 1): "{0} in octal, after `0o`",
    ("math.sqrt", 1): "the square root of {0}",
    ("math.isqrt", 1): "the whole part of the square root of {0}",
    ("math.floor", 1): "{0} rounded down",
    ("math.ceil", 1): "{0} rounded up",
    ("math.trunc", 1): "{0} without its decimals",
    ("math.gcd", 2): "the greatest common divisor of {0} and {1}",
    ("math.lcm", 2): "the least common multiple of {0} and {1}",
    ("math.exp", 1): "e to the power of {0}",
    ("math.log", 1): "the natural logarithm of {0}",
    ("math.log", 2): "the logarithm of {0} to the base {1}",
    ("math.log2", 1): "the logarithm of {0} to the base 2",
    ("math.log10", 1): "the logarithm of {0} to the base 10",
    ("math.sin", 1): "the sine of {0}",
    ("math.cos", 1): "the cosine of {0}",
    ("math.tan", 1): "the tangent of {0}",
    ("math.asin", 1): "the arc sine of {0}",
    ("math.acos", 1): "the arc cosine of {0}",
    ("math.atan", 1): "the arc tangent of {0}",
    ("math.atan2", 2): "the angle of the point ({1}, {0})",
    ("math.hypot", 2): "the length of the vector ({0}, {1})",
    ("math.fabs", 1): "the absolute value of {0}",
    ("math.pow", 2): "{0} to the power of {1}",
    ("math.factorial", 1): "the factorial of {0}",
    ("math.comb", 2): "the number of ways to choose {1} of {0}",
    ("math.radians", 1): "{0} degrees in radians",
    ("math.degrees", 1): "{0} radians in degrees",
}
_METHODS = {
    ("lower", 0): "{0} in lower case",
    ("upper", 0): "{0} in upper case",
    ("swapcase", 0): "{0} with upper and lower case exchanged",
    ("capitalize", 0): "{0} with a capital first letter",
    ("title", 0): "{0} with a capital letter in every word",
    ("strip", 0): "{0} without blanks at its ends",
    ("lstrip", 0): "{0} without blanks at its start",
    ("rstrip", 0): "{0} without blanks at its end",
    ("strip", 1): "{0} without {1} at its ends",
    ("lstrip", 1): "{0} without {1} at its start",
    ("rstrip", 1): "{0} without {1} at its end",
    ("split", 0): "the parts of {0} between blanks",
    ("split", 1): "the parts of {0} between {1}",
    ("splitlines", 0): "the lines of {0}",
    ("join", 1): "the items of {1} joined by {0}",
    ("count", 1): "how often {1} occurs in {0}",
    ("find", 1): "the position of {1} in {0}, -1 when it is not there",
    ("rfind", 1): "the last position of {1} in {0}, -1 when it is not there",
    ("index", 1): "the position of {1} in {0}",
    ("replace", 2): "{0} with {2} in place of {1}",
    ("zfill", 1): "{0} with zeros in front, {1} characters long",
    ("bit_length", 0): "the number of bits of {0}",
}
_PREDICATES = {
    ("isdigit", 0): "{0} is made of digits",
    ("isnumeric", 0): "{0} is made of numerals",
    ("isdecimal", 0): "{0} is made of decimal digits",
    ("isalpha", 0): "{0} is made of letters",
    ("isalnum", 0): "{0} is made of letters and digits",
    ("isupper", 0): "{0} is in upper case",
    ("islower", 0): "{0} is in lower case",
    ("isspace", 0): "{0} is made of blanks",
    ("is_integer", 0): "{0} is a whole number",
    ("startswith", 1): "{0} starts with {1}",
    ("endswith", 1): "{0} ends with {1}",
}


class _Unsaid(Exception):
    """The expression is better shown than said."""


def summary(source: str) -> str:
    """A sentence about an expression: "Tells whether `amount` is at least `price`." """
    node = ast.parse(source, mode="eval").body
    asks = _asks(node)
    try:
        text = f"Tells whether {_condition(node)}." if asks else f"Computes {_value(node)}."
        if len(text) <= MAX_CHARS:
            return text
    except _Unsaid:
        pass
    return f"Tells whether `{source}`." if asks else f"Computes `{source}`."


def phrase(node: ast.AST) -> str | None:
    """What the value of an expression is, as a phrase; None when there is nothing to say but its source."""
    match node:
        case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]):
            return f"the length of `{name}`"
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Slice()):
            return f"a part of `{name}`"
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name)):
            return f"an item of `{name}`"
        case ast.Subscript(value=ast.Subscript(value=ast.Name(id=name))):
            return f"a cell of `{name}`"
        case ast.Attribute(value=ast.Name(id=base), attr=name) if base != "self":
            return f"`{name}` of `{base}`"
    return None


def _asks(node: ast.expr) -> bool:
    match node:
        case ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return True
        case ast.BoolOp(values=values):
            return all(map(_asks, values))
        case ast.Call(func=ast.Attribute(attr=name)):
            return (name, len(node.args)) in _PREDICATES
        case ast.Call(func=ast.Name(id="any" | "all")):
            return True
    return False


def _condition(node: ast.expr) -> str:
    match node:
        case ast.Compare(left=left, ops=ops, comparators=others):
            told, sides = [], [left, *others]
            for number, op in enumerate(ops):
                pair = [_operand(side) for side in sides[number : number + 2]]
                told.append(_RELATIONS[type(op).__name__].format(*pair))
            return " and ".join(told)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return f"it is not true that {_condition(operand)}"
        case ast.BoolOp(op=op, values=values):
            word = "and" if isinstance(op, ast.And) else "or"
            if any(isinstance(value, ast.BoolOp) for value in values):
                raise _Unsaid
            return f" {word} ".join(map(_condition, values))
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=arguments):
            template = _PREDICATES.get((name, len(arguments)))
            if template:
                return template.format(*map(_operand, [value, *arguments]))
        case ast.Name(id=name):
            return f"`{name}` holds"
    raise _Unsaid


def _value(node: ast.expr) -> str:
    match node:
        case ast.Name() | ast.Constant():
            return f"`{ast.unparse(node)}`"
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"minus {_operand(operand)}"
        case ast.BinOp(left=ast.Constant(value=str()), op=ast.Mod()):
            raise _Unsaid
        case ast.BinOp(left=left, op=op, right=right):
            return _ARITHMETIC[type(op).__name__].format(_operand(left), _operand(right))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return f"{_operand(body)} if {_condition(test)}, else {_operand(orelse)}"
        case ast.Call(func=ast.Name() | ast.Attribute(value=ast.Name(id="math")), args=arguments):
            return _of_function(node, ast.unparse(node.func), arguments)
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=arguments, keywords=[]):
            template = _METHODS.get((name, len(arguments)))
            if template:
                return template.format(*map(_operand, [value, *arguments]))
        case ast.Subscript(value=value, slice=ast.Slice() as part):
            return _slice(_operand(value), part)
        case ast.Subscript(value=value, slice=index):
            return f"item {_operand(index)} of {_operand(value)}"
    raise _Unsaid


def _of_function(node: ast.Call, name: str, arguments: list[ast.expr]) -> str:
    match name, node.keywords:
        case ("sorted", [ast.keyword(arg="reverse", value=ast.Constant(value=True))]):
            return f"{_operand(arguments[0])} in descending order"
        case ("int", []) if len(arguments) == 2:
            return f"the number that {_operand(arguments[0])} is to the base {_operand(arguments[1])}"
        case _, []:
            template = _FUNCTIONS.get((name, len(arguments)))
            if template:
                return template.format(*map(_operand, arguments))
    raise _Unsaid


def _slice(value: str, part: ast.Slice) -> str:
    match part:
        case ast.Slice(
            lower=None, upper=None, step=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1))
        ):
            return f"{value} reversed"
        case ast.Slice(lower=None, upper=ast.UnaryOp(op=ast.USub(), operand=count), step=None):
            return f"{value} without its last {_operand(count)}"
        case ast.Slice(lower=None, upper=ast.expr() as end, step=None):
            return f"the first {_operand(end)} of {value}"
        case ast.Slice(lower=ast.UnaryOp(op=ast.USub(), operand=count), upper=None, step=None):
            return f"the last {_operand(count)} of {value}"
        case ast.Slice(lower=ast.expr() as start, upper=None, step=None):
            return f"{value} from position {_operand(start)} on"
        case ast.Slice(lower=ast.expr() as start, upper=ast.expr() as end, step=None):
            return f"{value} from position {_operand(start)} up to, not including, {_operand(end)}"
    raise _Unsaid


def _operand(node: ast.expr) -> str:
    """A part of a sentence: said when short, shown as source when it has an inner structure of its own."""
    match node:
        case ast.Name() | ast.Constant() | ast.List() | ast.Tuple() | ast.Set():
            return f"`{ast.unparse(node)}`"
        case ast.Call(func=ast.Name(id="len"), args=[ast.Name()]):
            return _value(node)
        case ast.BinOp() | ast.IfExp() | ast.BoolOp() | ast.Compare():
            return f"`{ast.unparse(node)}`"
    return _value(node)


class Origins:
    """Where the variables of the solver and the operands of its tools come from."""

    def __init__(self) -> None:
        self._variables: dict[tuple[str | None, str], set[str | None]] = {}
        self._operands: dict[tuple[str, str], list[tuple[str | None, ast.expr, str | None]]] = {}

    def bind(self, function: str | None, target: ast.expr, value: ast.expr, meanings: dict[str, str]) -> None:
        """Notes an assignment; calls of tools in `value` have been put in already."""
        if not isinstance(target, ast.Name):
            self.unknown(function, target)
            return
        seen = self._variables.setdefault((function, target.id), set())
        if not isinstance(value, ast.Constant):
            seen.add(_meaning(value, meanings))

    def unknown(self, function: str | None, target: ast.expr) -> None:
        """Notes that the names in `target` are bound to something of which nothing is known."""
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                self._variables.setdefault((function, node.id), set()).add(None)

    def use(
        self, function: str | None, tool: str, parameter: str, operand: ast.expr, hint: str | None
    ) -> None:
        """Notes what a parameter of a tool is given at one place; the value will be bound to `hint`."""
        self._operands.setdefault((tool, parameter), []).append((function, operand, hint))

    def details(self, tool: str, meanings: dict[str, str]) -> dict[str, str]:
        """Parameter -> what it is, of those parameters on which every use agrees."""
        found = {}
        for (name, parameter), operands in self._operands.items():
            told = set()
            for function, operand, hint in operands if name == tool else ():
                if isinstance(operand, ast.Name) and operand.id == hint:
                    told.add(f"`{operand.id}` so far")
                elif isinstance(operand, ast.Name):
                    told |= self._variables.get((function, operand.id), {None})
                else:
                    told.add(_meaning(operand, meanings))
            if len(told) == 1 and None not in told:
                found[parameter] = told.pop()
        return found


def _meaning(value: ast.expr, meanings: dict[str, str]) -> str | None:
    match value:
        case ast.Call(func=ast.Name(id="call"), args=[ast.Constant(value=str() as tool)]):
            return meanings.get(tool)
        case ast.Call(func=ast.Name(id=name)) if called := meanings.get(f"{name}()"):
            return called
    return phrase(value)
