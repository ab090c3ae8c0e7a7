"""Names in a syntax tree: which it binds, which it reads, which functions a module has."""

import ast


def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """The functions at module level, by value."""
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def bound_names(tree: ast.AST) -> set[str]:
    """Every name that the tree binds somewhere: parameters, targets, definitions, imports."""
    bound = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return bound


def loaded_names(tree: ast.AST) -> set[str]:
    """Every name that the tree reads somewhere."""
    return {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
