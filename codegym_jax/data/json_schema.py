"""Tools as JSON schemas: the one place that knows what a docstring's type names mean."""

import ast
import re
from typing import Any

from codegym_jax.records import ParameterSpec, ToolSpec

_WORDS = {
    **dict.fromkeys(("list", "tuple", "set", "frozenset", "sequence", "iterable", "deque", "array"), "array"),
    **dict.fromkeys(("dict", "mapping", "object", "defaultdict", "counter", "ordereddict"), "object"),
    **dict.fromkeys(("bool", "boolean"), "boolean"),
    **dict.fromkeys(("int", "integer"), "integer"),
    **dict.fromkeys(("float", "number", "double"), "number"),
    **dict.fromkeys(("str", "string", "char", "character"), "string"),
    **dict.fromkeys(("none", "null", "nonetype"), "null"),
}
_PLURALS = {f"{word}s": word for word in _WORDS if word not in ("none", "null", "nonetype")}
_OPTIONAL = re.compile(r",\s*(optional|defaults?\b.*)$", re.IGNORECASE)
_PROSE = re.compile(r"\b(list|tuple|set|array|sequence)s? of (\w+(?:\[.*\])?)", re.IGNORECASE)


def tool_schema(tool: ToolSpec) -> dict[str, Any]:
    """A tool as chat interfaces take it: `{"type": "function", "function": {...}}`."""
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.doc.strip(),
            "parameters": {
                "type": "object",
                "properties": {one.name: parameter_schema(one) for one in tool.parameters},
                "required": [one.name for one in tool.parameters if one.required],
            },
        },
    }


def parameter_schema(parameter: ParameterSpec) -> dict[str, Any]:
    """The schema of one parameter, with its description."""
    described = {"description": parameter.description} if parameter.description else {}
    return {**type_schema(parameter.type_name), **described}


def type_schema(type_name: str) -> dict[str, Any]:
    """The schema of a Python type's name as docstrings write it; `{}` means any value.

    Understands builtins and their long names, `list[int]`, `dict[str, float]`, `tuple[int, str]`,
    `Optional[...]`, `Union[...]`, `Literal[...]`, `int | None`, `int or str`, `list of int`, `str, optional`.
    """
    text = _PROSE.sub(r"\1[\2]", _OPTIONAL.sub("", type_name.strip()))
    try:
        return _schema(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Not a type but a phrase, such as "list (sorted)": its first word may still be one.
        first = re.match(r"\w+", text)
        return _schema(ast.Name(first[0])) if first else {}


def _schema(node: ast.expr) -> dict[str, Any]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            name = name.lower()
            word = _WORDS.get(_PLURALS.get(name, name))
            return {"type": word} if word else {}
        case ast.Constant(value=None):
            return {"type": "null"}
        case ast.Constant(value=str(text)):
            return type_schema(text)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _any_of([_schema(left), _schema(right)])
        case ast.BoolOp(op=ast.Or(), values=values):
            return _any_of([_schema(value) for value in values])
        case ast.Call(func=func):  # a remark in parentheses
            return _schema(func)
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            return _generic(name.lower(), inner.elts if isinstance(inner, ast.Tuple) else [inner])
        case _:
            return {}


def _generic(name: str, arguments: list[ast.expr]) -> dict[str, Any]:
    if name == "optional":
        return _any_of([_schema(arguments[0]), {"type": "null"}])
    if name == "union":
        return _any_of([_schema(one) for one in arguments])
    if name == "literal":
        return {"enum": [ast.literal_eval(one) for one in arguments]}
    kind = _schema(ast.Name(name))
    if kind == {"type": "array"}:
        several = name == "tuple" and not isinstance(arguments[-1], ast.Constant)
        items = _any_of([_schema(one) for one in arguments]) if several else _schema(arguments[0])
        return kind | ({"items": items} if items else {})
    if kind == {"type": "object"} and len(arguments) == 2:
        values = _schema(arguments[1])
        return kind | ({"additionalProperties": values} if values else {})
    return kind


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """One schema for several; any value at all swallows the others."""
    flat = [part for schema in schemas for part in schema.get("anyOf", [schema])]
    if {} in flat:
        return {}
    names: list[str] = []
    for part in flat:
        if part.keys() == {"type"}:
            names += part["type"] if isinstance(part["type"], list) else [part["type"]]
    plain = list(dict.fromkeys(names))
    if "number" in plain and "integer" in plain:
        plain.remove("integer")  # an integer is a number
    detailed = [part for part in flat if part.keys() != {"type"}]
    # A bare array allows what an array of something allows.
    detailed = [
        part
        for index, part in enumerate(detailed)
        if part.get("type") not in plain and part not in detailed[:index]
    ]
    if not detailed:
        return {"type": plain[0] if len(plain) == 1 else plain}
    if not plain and len(detailed) == 1:
        return detailed[0]
    return {"anyOf": [*({"type": name} for name in plain), *detailed]}
