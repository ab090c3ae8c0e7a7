"""Names that read well: tools in PascalCase, parameters in snake_case."""

import ast
import keyword
import re
from collections.abc import Collection

OPERATORS = {
    "Add": "Plus",
    "Sub": "Minus",
    "Mult": "Times",
    "Div": "DividedBy",
    "FloorDiv": "IntDividedBy",
    "Mod": "Modulo",
    "Pow": "Power",
    "BitXor": "Xor",
    "BitAnd": "BitAnd",
    "BitOr": "BitOr",
    "LShift": "ShiftedLeft",
    "RShift": "ShiftedRight",
    "Lt": "LessThan",
    "Gt": "GreaterThan",
    "LtE": "AtMost",
    "GtE": "AtLeast",
    "Eq": "Equal",
    "NotEq": "Different",
    "In": "In",
    "NotIn": "NotIn",
}
_MARKS = {
    " ": "Space", "": "Empty", "(": "OpenParenthesis", ")": "CloseParenthesis", "[": "OpenBracket",
    "]": "CloseBracket", "{": "OpenBrace", "}": "CloseBrace", "<": "OpenAngle", ">": "CloseAngle",
    ",": "Comma", ".": "Dot", "-": "Minus", "+": "Plus", "*": "Star", "/": "Slash", "?": "QuestionMark",
    "!": "ExclamationMark", ":": "Colon", ";": "Semicolon", "_": "Underscore", "#": "Hash", "\n": "NewLine",
    "|": "Bar", "=": "EqualsSign", "'": "Quote", '"': "DoubleQuote", "@": "At", "%": "Percent", "&": "And",
    "^": "Caret", "~": "Tilde", "$": "Dollar", "\\": "Backslash", "\t": "Tab",
}  # fmt: skip
MAX_NAME_CHARS = 36
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


def unique(base: str, taken: Collection[str]) -> str:
    """`base`, or `base2`, `base3`, ... : the first that is not taken."""
    name, number = base, 2
    while name in taken:
        name, number = f"{base}{number}", number + 1
    return name


def of_constant(value: object) -> str:
    """A constant as a word inside a tool's name; "" when it does not make one."""
    if isinstance(value, str):
        if value in _MARKS:
            return _MARKS[value]
        return pascal(value) if re.fullmatch(r"[0-9A-Za-z_ ]{1,12}", value) else "Constant"
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, (int, float)) and len(str(value)) <= 8:
        return str(value).replace("-", "Minus").replace(".", "Point").replace("+", "")
    return "Constant"


def of_expression(node: ast.AST) -> str:
    """The word for an operand: its name, the name of its base and index, or of the function called."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Constant):
        return of_constant(node.value)
    if isinstance(node, ast.Subscript):
        index = node.slice
        if isinstance(index, ast.Constant) and isinstance(index.value, (str, int)):
            return f"{of_expression(node.value)}_{index.value}"
        return f"{of_expression(node.value)}_{index.id if isinstance(index, ast.Name) else 'item'}"
    if isinstance(node, ast.Call):
        name = of_expression(node.func)
        if name == "call" and node.args and isinstance(node.args[0], ast.Constant):
            return _of_access(node, str(node.args[0].value))
        if name == "len" and len(node.args) == 1:
            return f"{of_expression(node.args[0])}_length"
        return f"{name}_of_{of_expression(node.args[0])}" if node.args else f"{name}_value"
    if isinstance(node, ast.BinOp):
        operator = OPERATORS.get(type(node.op).__name__, "With")
        return f"{of_expression(node.left)}_{operator}_{of_expression(node.right)}"
    return "value"


def _of_access(node: ast.Call, tool: str) -> str:
    """`call("GetNumsItem", index=i)` is `nums_i`."""
    words = re.sub(r"^Get|(Item|Row|Char|Chunk|Value|Cell)$", "", tool)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", words).lower()
    keys = [k.value.id for k in node.keywords if isinstance(k.value, ast.Name) and k.value.id != "index"]
    return "_".join([name, *keys]) if keys else f"{name}_item"
