"""Classes without state, such as the `Solution` of a judge: their methods become functions of the module."""

import ast
import builtins
from collections.abc import Iterator

from codegym_jax.synthesis.outline import names


def free_methods(tree: ast.Module) -> None:
    """Turns, in place, the methods of every class that keeps nothing into functions at module level."""
    taken = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | set(dir(builtins))
    taken |= {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in list(tree.body):
        if not isinstance(node, ast.ClassDef):
            continue
        methods = _methods(node)
        if methods is None or not _only_called(tree, node, methods):
            continue
        renamed = {}
        for name in methods:
            renamed[name] = names.unique(name, taken)
            taken.add(renamed[name])
        place = tree.body.index(node)
        tree.body[place : place + 1] = [_function(method, node.name, renamed) for method in methods.values()]
        instances = _instances(tree, node.name)
        _Freed(node.name, set(instances), renamed).visit(tree)
    ast.fix_missing_locations(tree)


def _methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef] | None:
    """The methods of a class without anything else; None when there is more to it."""
    if node.decorator_list or node.keywords or any(not _is_object(base) for base in node.bases):
        return None
    methods = {}
    for part in node.body:
        if isinstance(part, ast.Pass):
            continue
        if not isinstance(part, ast.FunctionDef) or part.name.startswith("__") or part.name in methods:
            return None
        if any(not (isinstance(d, ast.Name) and d.id == "staticmethod") for d in part.decorator_list):
            return None
        if not part.decorator_list and not part.args.args:
            return None
        methods[part.name] = part
    for method in methods.values():
        if not all(name in methods for name in _uses_of_self(method)):
            return None
    return methods or None


def _is_object(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "object"


def _uses_of_self(method: ast.FunctionDef) -> Iterator[str]:
    """The attributes of itself that a method reads; "" stands for any other use."""
    if method.decorator_list:
        return
    name = method.args.args[0].arg
    read = set()
    for node in ast.walk(method):
        match node:
            case ast.Attribute(value=ast.Name(id=base) as inner, attr=attribute, ctx=ast.Load()) if (
                base == name
            ):
                read.add(id(inner))
                yield attribute
    for node in ast.walk(method):
        if isinstance(node, ast.Name) and node.id == name and id(node) not in read:
            yield ""


def _instances(tree: ast.Module, name: str) -> list[str]:
    """Variables that are bound to instances of the class."""
    return [
        node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and _creates(node.value, name)
    ]


def _creates(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=called), args=[], keywords=[]):
            return called == name
    return False


def _only_called(tree: ast.Module, cls: ast.ClassDef, methods: dict[str, ast.FunctionDef]) -> bool:
    """Whether the class and its instances serve for nothing but calls of methods."""
    instances = set(_instances(tree, cls.name))
    fine = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name) as inner, attr=method, ctx=ast.Load()):
                if method in methods and (name in instances or name == cls.name):
                    fine.add(id(inner))
                if name == cls.name and method in methods and not methods[method].decorator_list:
                    return False  # `Solution.solve(None, ...)`
            case ast.Attribute(value=ast.Call(func=ast.Name() as inner) as made, attr=method):
                if _creates(made, cls.name) and method in methods:
                    fine.add(id(inner))
            case ast.Assign(targets=[ast.Name() as target], value=ast.Call(func=ast.Name() as inner) as made):
                if _creates(made, cls.name):
                    fine |= {id(target), id(inner)}
    return all(
        id(node) in fine
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and (node.id == cls.name or node.id in instances)
    )


def _function(method: ast.FunctionDef, owner: str, renamed: dict[str, str]) -> ast.FunctionDef:
    """The method as a function."""
    if method.decorator_list:
        method.decorator_list = []
    else:
        own = method.args.args.pop(0).arg
        _Freed(owner, {own}, renamed).visit(method)
    method.name = renamed[method.name]
    return method


class _Freed(ast.NodeTransformer):
    """Names of functions in place of attributes of a class and its instances; these are no longer made."""

    def __init__(self, owner: str, instances: set[str], renamed: dict[str, str]):
        self.owner = owner
        self.instances = instances
        self.renamed = renamed

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if _creates(node.value, self.owner):
            return ast.Pass()
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        base = node.value
        known = isinstance(base, ast.Name) and (base.id in self.instances or base.id == self.owner)
        if node.attr in self.renamed and (known or _creates(base, self.owner)):
            return ast.Name(self.renamed[node.attr], node.ctx)
        return self.generic_visit(node)
