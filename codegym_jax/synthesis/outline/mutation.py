"""Which statements and expressions change a value in place."""

import ast

MUTATORS = {
    "append", "appendleft", "insert", "extend", "remove", "sort", "reverse", "clear", "pop", "popleft", "add",
    "discard", "update", "setdefault",
}  # fmt: skip
"""Methods that change what they are called on."""


def changed_in_place(node: ast.AST) -> set[str]:
    """The name whose value the node itself changes: by storing an item, or through a method."""
    match node:
        case ast.Subscript(value=base, ctx=ast.Store() | ast.Del()):
            pass
        case ast.Call(func=ast.Attribute(value=base, attr=method)) if method in MUTATORS:
            pass
        case ast.AugAssign(target=ast.Name() as base, value=ast.List() | ast.ListComp()):
            pass
        case _:
            return set()
    while isinstance(base, ast.Subscript):
        base = base.value
    return {base.id} if isinstance(base, ast.Name) else set()
