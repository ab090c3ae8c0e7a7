"""The outliner's modules as one program for the guest."""

import base64
import importlib.resources
from collections.abc import Callable

PACKAGE = "codegym_jax.synthesis.outline"
MODULES = (
    "values", "names", "english", "tools", "scopes", "expressions", "branches", "simplify", "access",
    "copies", "scalars", "returned", "classes", "identities", "loops", "normalize", "reading", "rewrite",
    "problem", "features", "inputs", "preconditions", "mutation", "state_words", "state_base",
    "state_containers", "state_keys", "state_lists", "state_maps", "state_sets", "state_numbers",
    "state_locals", "state_prepare", "state_order", "state", "trace", "emit", "guest",
)  # fmt: skip

_LOADER = """
import base64, marshal, sys, types

def _install(codes):
    package = ""
    for part in {package!r}.split("."):
        parent, package = package, f"{{package}}.{{part}}" if package else part
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = []
        if parent:
            setattr(sys.modules[parent], part, sys.modules[package])
    for name, code in codes:
        module = types.ModuleType(f"{{package}}.{{name}}")
        sys.modules[module.__name__] = module
        setattr(sys.modules[package], name, module)
        exec(marshal.loads(base64.b64decode(code)), module.__dict__)

_install({codes!r})
from {package}.guest import more_configs, synthesize
"""


def sources() -> list[tuple[str, str]]:
    """(module name, source) of every module of the outliner, imported ones before their importers."""
    folder = importlib.resources.files(PACKAGE)
    return [(name, (folder / f"{name}.py").read_text(encoding="utf-8")) for name in MODULES]


def program(compile_source: Callable[[str], bytes]) -> bytes:
    """A self-contained program with the functions `synthesize` and `more_configs`.

    Args:
      compile_source: compiles source to code for the guest (`Sandbox.compile`).
    """
    codes = [(name, base64.b64encode(compile_source(source)).decode()) for name, source in sources()]
    return compile_source(_LOADER.format(package=PACKAGE, codes=codes))
