"""Brings the beginnings of locals into the forms that the pass for state knows."""

import ast
from collections.abc import Mapping

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.scopes import bound_names, loaded_names
from codegym_jax.synthesis.outline.state_lists import filled
from codegym_jax.synthesis.outline.state_locals import beginnings, changed_names, kind_of


def prepare(function: ast.FunctionDef, hidden: Mapping[str, str]) -> None:
    """Brings the beginnings of locals into the forms that the pass knows."""
    function.body = _plain_statements(function.body)
    _merge_aliases(function)
    for name, kind in hidden.items():
        if kind in ("list", "text"):
            _own(function, name)
    ast.fix_missing_locations(function)


def _plain_statements(statements: list[ast.stmt]) -> list[ast.stmt]:
    """Splits `a, b = [], 0`, drops annotations, and rolls loops that fill a table back into an expression."""
    result: list[ast.stmt] = []
    for statement in statements:
        for field in ("body", "orelse", "finalbody"):
            if isinstance(getattr(statement, field, None), list):
                setattr(statement, field, _plain_statements(getattr(statement, field)))
        match statement:
            case ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value):
                result.append(ast.copy_location(ast.Assign([target], value), statement))
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)) if (
                len(targets) == len(values)
                and all(isinstance(target, ast.Name) for target in targets)
                and not bound_names(statement) & loaded_names(statement.value)
                and any(kind_of(value) for value in values)
            ):
                pairs = zip(targets, values, strict=True)
                result += [ast.copy_location(ast.Assign([t], v), statement) for t, v in pairs]
            case ast.For() if result and _table(result[-1], statement) is not None:
                result[-1] = ast.copy_location(_table(result[-1], statement) or statement, statement)
            case _:
                result.append(statement)
    return result


def _merge_aliases(function: ast.FunctionDef) -> None:
    """Drops `x = items` at the end of the life of `items`, a list that was built up under that name."""
    for number, statement in enumerate(function.body):
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=built)):
                before, after = function.body[:number], function.body[number + 1 :]
                stores = [kind_of(value) for value in beginnings(function, built)]
                if stores != ["list"] or built in _names(after) or name in _stored([*before, *after]):
                    continue
                own = name
                if name in _names(before) | {argument.arg for argument in function.args.args}:
                    own = names.unique(f"new_{name}", _names(function.body))
                _rename(before, built, own)
                _rename(after, name, own)
                function.body = [*before, *after]
                return _merge_aliases(function)
    return None


def _names(statements: list[ast.stmt]) -> set[str]:
    return {node.id for s in statements for node in ast.walk(s) if isinstance(node, ast.Name)}


def _stored(statements: list[ast.stmt]) -> set[str]:
    return set().union(*map(bound_names, statements))


def _rename(statements: list[ast.stmt], name: str, new: str) -> None:
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Name) and node.id == name:
            node.id = new


def _table(before: ast.stmt, loop: ast.For) -> ast.Assign | None:
    """`x = [cell for _ in range(n)]` for `x = []` and a loop that appends the same cell each time."""
    match before, loop:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=ast.List(elts=[])),
            ast.For(target=ast.Name() as target, iter=ast.Call() as places, body=body, orelse=[]),
        ):
            cell = None
            match body:
                case [
                    ast.Expr(
                        value=ast.Call(
                            func=ast.Attribute(value=ast.Name(id=into), attr="append"), args=[cell]
                        )
                    )
                ]:
                    pass
                case [
                    ast.Assign(targets=[ast.Name(id=inner)], value=row),
                    ast.Expr(
                        value=ast.Call(
                            func=ast.Attribute(value=ast.Name(id=into), attr="append"),
                            args=[ast.Name(id=same)],
                        )
                    ),
                ] if inner == same:
                    cell = row
                case _:
                    return None
            part = ast.comprehension(target, places, [], 0)
            value = ast.ListComp(cell, [part])
            if into == name and filled(value) is not None:
                return ast.Assign([ast.Name(name, ast.Store())], value)
    return None


def _own(function: ast.FunctionDef, name: str) -> None:
    """Gives a hidden parameter that the function binds anew or changes a local of its own."""
    if name not in changed_names(function):
        return
    taken = bound_names(function) | loaded_names(function)
    own = names.unique(f"working_{name}", taken)
    later = function.body
    for number, statement in enumerate(function.body):
        if any(
            isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store)
            for n in ast.walk(statement)
        ):
            match statement:
                case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                    if name not in loaded_names(value):
                        own = f"new_{name}"
                    elif ast.unparse(value).startswith("sorted("):
                        own = f"sorted_{name}"
                    own = names.unique(own, taken)
                    statement.targets = [ast.Name(own, ast.Store())]
                    later = function.body[number + 1 :]
                    break
            return
    else:
        copied = ast.Call(ast.Attribute(ast.Name(name, ast.Load()), "copy", ast.Load()), [], [])
        function.body = [ast.Assign([ast.Name(own, ast.Store())], copied), *function.body]
    _rename(later, name, own)
