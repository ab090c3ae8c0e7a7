"""Solutions that use numpy for nothing but numbers, without numpy.

`np.sqrt` of a number is `math.sqrt` of it. Given an array, the translated solution raises, so it has no
answer and makes no task; answers that there are differ from the published solution's in the last bit at
most.
"""

import ast

_MATH = {
    "sqrt": "sqrt", "exp": "exp", "log": "log", "log2": "log2", "log10": "log10", "log1p": "log1p",
    "expm1": "expm1", "sin": "sin", "cos": "cos", "tan": "tan", "sinh": "sinh", "cosh": "cosh",
    "tanh": "tanh",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "hypot": "hypot", "fabs": "fabs", "radians": "radians",
    "deg2rad": "radians", "degrees": "degrees", "rad2deg": "degrees", "isnan": "isnan", "isinf": "isinf",
    "isfinite": "isfinite", "gcd": "gcd", "lcm": "lcm", "fmod": "fmod",
}  # fmt: skip
_CONSTANTS = {
    "pi": "math.pi", "PI": "math.pi", "e": "math.e", "inf": "float('inf')", "Inf": "float('inf')",
    "infty": "float('inf')", "nan": "float('nan')", "NaN": "float('nan')",
}  # fmt: skip
_BUILTINS = {
    ("abs", 1): "abs({0})",
    ("absolute", 1): "abs({0})",
    ("maximum", 2): "max({0}, {1})",
    ("minimum", 2): "min({0}, {1})",
    ("clip", 3): "min(max({0}, {1}), {2})",
    ("power", 2): "({0}) ** ({1})",
    ("float_power", 2): "float({0}) ** ({1})",
    ("square", 1): "({0}) ** 2",
    ("mod", 2): "({0}) % ({1})",
    ("remainder", 2): "({0}) % ({1})",
    ("floor_divide", 2): "({0}) // ({1})",
    ("add", 2): "({0}) + ({1})",
    ("subtract", 2): "({0}) - ({1})",
    ("multiply", 2): "({0}) * ({1})",
    ("divide", 2): "({0}) / ({1})",
    ("negative", 1): "-({0})",
    ("floor", 1): "float(math.floor({0}))",
    ("ceil", 1): "float(math.ceil({0}))",
    ("trunc", 1): "float(math.trunc({0}))",
    ("rint", 1): "round(float({0}), 0)",
    ("round", 1): "round({0}, 0)",
    ("around", 1): "round({0}, 0)",
    ("round_", 1): "round({0}, 0)",
    ("round", 2): "round({0}, {1})",
    ("around", 2): "round({0}, {1})",
    ("round_", 2): "round({0}, {1})",
    ("float64", 1): "float({0})",
    ("float_", 1): "float({0})",
    ("int64", 1): "int({0})",
    ("int32", 1): "int({0})",
    ("int_", 1): "int({0})",
}


class _Untranslatable(Exception):
    """The solution uses numpy for more than numbers."""


def translated(source: str) -> str:
    """The source with `math` and builtins in place of numpy; unchanged when it needs more of numpy."""
    if "numpy" not in source:
        return source
    tree = ast.parse(source)
    modules, names = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name for alias in node.names if alias.name == "numpy"}
        elif isinstance(node, ast.ImportFrom) and node.module == "numpy":
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
    try:
        tree = _Translator(modules, names).visit(tree)
    except _Untranslatable:
        return source
    tree.body.insert(0, ast.Import([ast.alias("math")]))
    return ast.unparse(ast.fix_missing_locations(tree))


class _Translator(ast.NodeTransformer):
    def __init__(self, modules: set[str], names: dict[str, str]):
        self.modules = modules
        self.names = names

    def _numpy(self, node: ast.AST) -> str | None:
        """What of numpy the node names; None when it names nothing of it."""
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in self.modules:
                return name
            case ast.Name(id=name):
                return self.names.get(name)
        return None

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        if any(alias.name.startswith("numpy.") for alias in node.names):
            raise _Untranslatable
        node.names = [alias for alias in node.names if alias.name != "numpy"]
        return node if node.names else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if (node.module or "").startswith("numpy."):
            raise _Untranslatable
        return None if node.module == "numpy" else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = self._numpy(node.func)
        if name is None:
            return self.generic_visit(node)
        arguments = [self.visit(argument) for argument in node.args]
        keywords = {keyword.arg: self.visit(keyword.value) for keyword in node.keywords}
        if set(keywords) == {"decimals"} and len(arguments) == 1:
            arguments.append(keywords.pop("decimals"))
        if keywords or any(isinstance(a, (ast.Starred, ast.List, ast.ListComp)) for a in arguments):
            raise _Untranslatable
        texts = list(map(ast.unparse, arguments))
        if name in _MATH:
            return _parsed(f"math.{_MATH[name]}({', '.join(texts)})")
        template = _BUILTINS.get((name, len(texts)))
        if name == "sign" and isinstance(arguments[0], (ast.Name, ast.Attribute, ast.Constant)):
            template = "(math.copysign(1.0, {0}) if {0} else 0.0)"
        if template is None:
            raise _Untranslatable
        return _parsed(template.format(*texts))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        name = self._numpy(node)
        if name is None:
            return self.generic_visit(node)
        return self._value(name)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.modules or (node.id == "math" and not isinstance(node.ctx, ast.Load)):
            raise _Untranslatable
        name = self._numpy(node)
        return node if name is None else self._value(name)

    def _value(self, name: str) -> ast.expr:
        """What is numpy's outside a call: a constant, or a function given to another."""
        if name in _CONSTANTS:
            return _parsed(_CONSTANTS[name])
        if name in _MATH:
            return _parsed(f"math.{_MATH[name]}")
        if name in ("float64", "float_", "int64", "int32", "int_"):
            return ast.Name(name[: 3 + 2 * (name[0] == "f")], ast.Load())
        raise _Untranslatable

    def visit_arg(self, node: ast.arg) -> ast.AST:
        if node.arg == "math" or node.arg in self.names or node.arg in self.modules:
            raise _Untranslatable
        return self.generic_visit(node)


def _parsed(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body
