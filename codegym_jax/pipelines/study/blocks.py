"""A page as blocks, written as Markdown or as one HTML file."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;max-width:70rem;
margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0;font-size:14px}.wide{overflow-x:auto}
th,td{border-bottom:1px solid #8886;padding:.3rem .6rem;text-align:left;font-variant-numeric:tabular-nums}
svg{max-width:100%;height:auto}
"""


class Heading(NamedTuple):
    """Of a section; level 1 is the page's."""

    text: str
    level: int = 2


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Items(NamedTuple):
    """A list."""

    texts: Sequence[str]


class Table(NamedTuple):
    """With a head."""

    head: Sequence[str]
    lines: Sequence[Sequence[str]]


class Picture(NamedTuple):
    """An SVG, which Markdown refers to by name."""

    name: str
    svg: str
    told: str


class Command(NamedTuple):
    """What a reader may type."""

    line: str


Block = Heading | Text | Items | Table | Picture | Command


def to_markdown(blocks: Sequence[Block]) -> str:
    """For repositories; pictures are files beside it."""
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """One file, with its pictures inside."""
    body = "\n".join(map(_html, blocks))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Text():
            return block.text
        case Items():
            return "\n".join(f"- {text}" for text in block.texts)
        case Table():
            rows = [block.head, ["---"] * len(block.head), *block.lines]
            return "\n".join(
                "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows
            )
        case Picture():
            return f"![{block.told}]({block.name})"
        case Command():
            return f"    {block.line}"


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
        case Text():
            return f"<p>{_marked(block.text)}</p>"
        case Items():
            return f"<ul>{''.join(f'<li>{_marked(text)}</li>' for text in block.texts)}</ul>"
        case Table():
            head = "".join(f"<th>{_marked(cell)}</th>" for cell in block.head)
            rows = ("".join(f"<td>{_marked(cell)}</td>" for cell in line) for line in block.lines)
            lines = "".join(f"<tr>{row}</tr>" for row in rows)
            return f'<div class="wide"><table><tr>{head}</tr>{lines}</table></div>'
        case Picture():
            return block.svg
        case Command():
            return f"<pre><code>{escape(block.line)}</code></pre>"


def _marked(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    parts = text.split("`")
    code = (
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )
    return "".join(code)
