"""A shape suffix that lies is worse than none: names, annotations and the glossary must agree."""

import ast
import re
from pathlib import Path

import jaxtyping
import pytest

import codegym_jax

PACKAGE = Path(codegym_jax.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
GLOSSARY = PACKAGE.parent / "AGENTS.md"


def axes_of(annotation: ast.expr | None) -> str | None:
    """The axes of a jaxtyping annotation, perhaps `| None`: `Float[Array, "B T"]` -> "BT"; else None."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
            return axes_of(left)
        case ast.Subscript(
            value=ast.Name(id=dtype), slice=ast.Tuple(elts=[_, ast.Constant(value=str(axes))])
        ) if dtype in vars(jaxtyping):
            return axes.replace(" ", "")
    return None


def mismatches(source: str) -> list[str]:
    """Parameters that lack their suffix, and any name whose suffix differs from its annotation."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.arg(arg=name, annotation=annotation):
                required = True
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                required = False  # a record's field may go without
            case _:
                continue
        axes = axes_of(annotation)
        suffix = re.search(r"_([A-Z][A-Z0-9]*)$", name)
        if axes is not None and (suffix[1] if suffix else "") != axes and (required or suffix):
            found.append(f"{name}: {axes}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_suffixes_match_annotations(path):
    assert mismatches(path.read_text()) == []


def test_every_axis_letter_is_in_the_glossary():
    rows = re.findall(r"^\| `([A-Z])` \|", GLOSSARY.read_text(), re.MULTILINE)
    used = {
        letter
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.expr)
        for letter in re.findall(r"[A-Z]", axes_of(node) or "")
    }
    assert used - set(rows) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('def f(x_BT: Float[Array, "B V"]): ...', ["x_BT: BV"]),
        ('def f(x: Int[np.ndarray, "B T"]): ...', ["x: BT"]),
        ('def f(*, x_B: Int[Array, " B"] | None = None, y_T: Int[Array, ""]): ...', ["y_T: "]),
        ('class R:\n    x_BT: Float[Array, " B"]\n    tokens: Int[Array, " T"]', ["x_BT: B"]),
        ('def f(key_B4: UInt32[Array, "B 4"], scale: Float[Array, ""], n: int): ...', []),
        ('def f(names: dict[str, "B T"], kind: Literal[A, "B"]): ...', []),
    ],
)
def test_the_check_can_fail(source, found):
    assert mismatches(source) == found
