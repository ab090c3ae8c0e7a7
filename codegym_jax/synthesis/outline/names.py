"""Names that read well: tools in PascalCase, parameters in snake_case."""

import ast
import keyword
import re
from collections.abc import Collection

OPERATORS = {
    "Add": "plus",
    "Sub": "minus",
    "Mult": "times",
    "Div": "divided_by",
    "FloorDiv": "int_divided_by",
    "Mod": "modulo",
    "Pow": "power",
    "BitXor": "xor",
    "BitAnd": "bit_and",
    "BitOr": "bit_or",
    "LShift": "shifted_left",
    "RShift": "shifted_right",
    "Lt": "less_than",
    "Gt": "greater_than",
    "LtE": "at_most",
    "GtE": "at_least",
    "Eq": "equal",
    "NotEq": "different",
    "In": "in",
    "NotIn": "not_in",
    "And": "and",
    "Or": "or",
}
_MARKS = {
    " ": "Space", "": "Empty", "(": "OpenParenthesis", ")": "CloseParenthesis", "[": "OpenBracket",
    "]": "CloseBracket", "{": "OpenBrace", "}": "CloseBrace", "<": "OpenAngle", ">": "CloseAngle",
    ",": "Comma", ".": "Dot", "-": "Minus", "+": "Plus", "*": "Star", "/": "Slash", "?": "QuestionMark",
    "!": "ExclamationMark", ":": "Colon", ";": "Semicolon", "_": "Underscore", "#": "Hash", "\n": "NewLine",
    "|": "Bar", "=": "EqualsSign", "'": "Quote", '"': "DoubleQuote", "@": "At", "%": "Percent", "&": "And",
    "^": "Caret", "~": "Tilde", "$": "Dollar", "\\": "Backslash", "\t": "Tab",
}  # fmt: skip
_RESULTS = {
    "Add": "total", "Sub": "difference", "Mult": "product", "Div": "quotient", "FloorDiv": "quotient",
    "Mod": "remainder", "Pow": "power",
}  # fmt: skip
MAX_NAME_CHARS = 36
MAX_PARAMETER_CHARS = 30
_COMMON_TEXT = """
a about above after all also always among an and any are array based be been being below between
both but by calculate can certain compute consider consisting contain containing contains could
create defined describes design determine determines determining does during each every exactly
example find first following for form from function get give given gives has have having help her
his how identify implement including input integer integers into its itself let like list lists long
make many may might more most much must need needs not number numbers once one only other others our
out output over own part particular please possible problem program provided put represented
representing represents respectively return returned returning returns second set several she should
simulate single some specific specified string strings such take takes task than that the their them
then there these they this those three through time times total two under until use used user using
value values want wants was way were what when where whether which while who whose will with within
without would write you your
"""
_COMMON_WORDS = frozenset(_COMMON_TEXT.split())


def pascal(text: str) -> str:
    """`below_threshold` or `belowThreshold` as `BelowThreshold`; "Value" when nothing is left."""
    words = [word for word in re.split(r"[^0-9A-Za-z]+|(?<=[a-z])(?=[A-Z])", text) if word]
    return "".join(word[:1].upper() + word[1:] for word in words) or "Value"


def title(text: str) -> str:
    """`below_threshold` as `Below threshold`."""
    return " ".join(re.split(r"[^0-9A-Za-z]+|(?<=[a-z])(?=[A-Z])", text)).strip().capitalize()


def snake(text: str, taken: Collection[str] = ()) -> str:
    """A parameter name made from `text`, different from those `taken`."""
    base = re.sub(r"\W+", "_", text).strip("_") or "value"
    if base[0].isdigit():
        base = f"value_{base}"
    if keyword.iskeyword(base) or base in ("self", "name"):
        base += "_value"
    return unique(base, taken)


def of_statement(text: str, most: int = 3) -> str:
    """The first telling words of a task text, as `MonomialsIntegerCoefficients`; "" when there are none."""
    words = re.findall(r"[A-Za-z]+", re.sub(r"`[^`]*`", " ", text))
    telling = [word.lower() for word in words if len(word) > 2 and word.lower() not in _COMMON_WORDS]
    return pascal("_".join(list(dict.fromkeys(telling))[:most])) if telling else ""


def of_parameter(node: ast.expr, taken: Collection[str]) -> str:
    """The name of the parameter that is given the value of an expression."""
    name = of_expression(node)
    if isinstance(node, ast.BinOp) and len(name) > MAX_PARAMETER_CHARS:
        name = _RESULTS.get(type(node.op).__name__, "value")
    words = name.split("_")
    while len("_".join(words)) > MAX_PARAMETER_CHARS and len(words) > 1:
        words.pop()
    return snake("_".join(words), taken)


def root(node: ast.AST) -> str:
    """What an operand belongs to: the variable itself, the list of an item, the tool of a result."""
    match node:
        case ast.Subscript(value=value):
            return root(value)
        case ast.Call(func=ast.Name(id="call"), args=[ast.Constant(value=tool)]):
            return str(tool)
        case ast.Call(func=ast.Name(id="len"), args=[value]):
            return f"length of {root(value)}"
        case ast.Name() | ast.Attribute():
            return ast.unparse(node)
    return type(node).__name__


def unique(base: str, taken: Collection[str]) -> str:
    """`base`, or `base2`, `base3`, ... : the first that is not taken."""
    name, number = base, 2
    while name in taken:
        name, number = f"{base}{number}", number + 1
    return name


def of_constant(value: object) -> str:
    """A constant as a word inside a tool's name; "" when it does not make one."""
    if isinstance(value, str):
        if len(value) == 1 and value.isalpha() and value.islower():
            return f"Lower{value.upper()}" if value.isascii() else "Constant"
        if value in _MARKS or (len(value) <= 3 and all(character in _MARKS for character in value)):
            return _MARKS.get(value) or "".join(map(_MARKS.__getitem__, value))
        return pascal(value) if re.fullmatch(r"[0-9A-Za-z_ ]{1,12}", value) else "Constant"
    if value is None or isinstance(value, bool):
        return str(value)
    if value == 1e308:
        return "Infinity"
    if isinstance(value, (int, float)) and len(str(value)) <= 8:
        return str(value).replace("-", "Minus").replace(".", "Point").replace("+", "")
    return "Constant"


def shortened(name: str) -> str:
    """A name in PascalCase cut between two words, to `MAX_NAME_CHARS` at most; it begins with a letter."""
    name = f"Compute{name}" if name[:1].isdigit() else name
    while len(name) > MAX_NAME_CHARS:
        words = re.findall("[A-Z0-9][^A-Z]*|[^A-Z]+", name)
        if len(words) < 2:
            return name[:MAX_NAME_CHARS]
        name = "".join(words[:-1])
    return name


def of_tool(node: ast.expr, parameters: list[str], hint: str | None) -> str:
    """The name of the tool that computes an expression.

    Args:
      node: the expression.
      parameters: names of its operands.
      hint: the name that the value will be bound to.
    """
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            left, right = pascal(of_expression(left)), pascal(_of_choices(right))
            return f"Is{left}{pascal(OPERATORS[type(op).__name__])}{right}"
        case ast.Compare():
            return f"Is{pascal('_'.join(parameters))}Ordered"
        case ast.BoolOp():
            return f"Check{pascal('_'.join(parameters))}"
    if hint:
        verb = _step_verb(node) if parameters == [hint] else "Update"
        return f"{verb if hint in parameters else 'Compute'}{pascal(hint)}"
    match node:
        case ast.BinOp(left=ast.Constant(value=str()), op=ast.Mod()):
            return f"Format{pascal('_'.join(parameters))}"
        case ast.BinOp() | ast.Subscript():
            return pascal(of_expression(node))
        case ast.Call(func=ast.Attribute(value=ast.Constant())):
            return f"{pascal(of_expression(node.func))}{pascal('_'.join(parameters))}"
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if not _is_module(value):
            rest = [_of_choices(argument) for argument in node.args]
            return f"{pascal(name)}Of{pascal('_'.join([of_expression(value), *rest]))}"
        case ast.Call(func=function):
            return f"{pascal(of_expression(function))}Of{pascal('_'.join(parameters))}"
    return f"Compute{pascal('_'.join(parameters))}"


def _step_verb(node: ast.expr) -> str:
    """`Increment` for `x + 1` and `Decrement` for `x - 1`."""
    match node:
        case ast.BinOp(op=ast.Add(), right=ast.Constant(value=1)):
            return "Increment"
        case ast.BinOp(op=ast.Sub(), right=ast.Constant(value=1)):
            return "Decrement"
    return "Update"


def _is_module(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "math"


def _of_choices(node: ast.AST) -> str:
    """The word for the right side of a comparison: a few constants are named, more are `choices`."""
    match node:
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            words = [of_constant(item.value) for item in items if isinstance(item, ast.Constant)]
            return "_or_".join(words) if len(words) == len(items) <= 4 else "choices"
    return of_expression(node)


def of_expression(node: ast.AST) -> str:
    """The word for an operand: its name, the name of its base and index, or of the function called."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name
        case ast.Constant(value=value):
            return of_constant(value)
        case ast.Subscript(value=base, slice=ast.Slice() as part):
            return f"{of_expression(base)}_{_of_slice(part)}"
        case ast.Subscript(value=base, slice=ast.Constant(value=str() | int() as index)):
            return f"{of_expression(base)}_{index}".replace("-", "minus_")
        case ast.Subscript(value=base, slice=ast.Name(id=index)):
            return f"{of_expression(base)}_{index}"
        case ast.Subscript(value=base):
            return f"{of_expression(base)}_item"
        case ast.Call(func=ast.Name(id="call"), args=[ast.Constant(value=tool)]):
            return _of_tool_call(node, str(tool))
        case ast.Call(func=ast.Name(id="len"), args=[inner]):
            return f"{of_expression(inner)}_length"
        case ast.Call(func=ast.Attribute(value=base, attr=name)) if not isinstance(
            base, ast.Constant
        ) and not _is_module(base):
            return f"{of_expression(base)}_{name}"
        case ast.Call(func=function, args=arguments):
            name = of_expression(function)
            return f"{name}_of_{of_expression(arguments[0])}" if arguments else f"{name}_value"
        case ast.BinOp(left=left, op=op, right=right):
            operator = OPERATORS.get(type(op).__name__, "with")
            return f"{of_expression(left)}_{operator}_{of_expression(right)}"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return f"not_{of_expression(operand)}"
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"minus_{of_expression(operand)}"
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            operator = OPERATORS.get(type(op).__name__, "is")
            return f"{of_expression(left)}_{operator}_{_of_choices(right)}"
        case ast.BoolOp(op=op, values=values):
            return f"_{OPERATORS[type(op).__name__]}_".join(map(of_expression, values))
        case ast.IfExp(test=test, body=body):
            return f"{of_expression(body)}_if_{of_expression(test)}"
    return "value"


def _of_slice(node: ast.Slice) -> str:
    match node:
        case ast.Slice(
            lower=None, upper=None, step=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1))
        ):
            return "reversed"
        case ast.Slice(lower=None, upper=None, step=ast.Constant(value=step)):
            return f"every_{step}"
        case ast.Slice(lower=None, upper=ast.expr() as upper, step=None):
            return f"before_{of_expression(upper)}"
        case ast.Slice(lower=ast.expr() as lower, upper=None, step=None):
            return f"from_{of_expression(lower)}"
    return "slice"


def _of_tool_call(node: ast.Call, tool: str) -> str:
    """`call("GetNumsItem", index=i)` is `nums_item`; `call("ComputeArea", ...)` is `area`."""
    if not tool.startswith("Get"):
        return _snake_words(re.sub("^(Compute|Update|Peek|Pop|Dequeue)(?=[A-Z])", "", tool))
    name = _snake_words(re.sub(r"^Get|(Item|Row|Char|Chunk|Value|Cell|Slice)$", "", tool))
    keys = [k.value.id for k in node.keywords if isinstance(k.value, ast.Name) and k.value.id != "index"]
    return "_".join([name, *keys]) if keys else f"{name}_item"


def _snake_words(text: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()
