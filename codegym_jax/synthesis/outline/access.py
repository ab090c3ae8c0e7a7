"""Hidden inputs: which they are, and the tools that read each of them."""

import ast
from collections.abc import Container
from typing import Any

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.tools import Tool

MAX_CHARS_ONE_BY_ONE = 48  # longer texts are read in chunks
CHUNK_CHARS = 16


def hidden_parameters(samples: list[dict[str, Any]]) -> list[str]:
    """The inputs to hide: containers, and texts that look like no choice of a mode; or else numbers."""
    hidden = []
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        if any(isinstance(value, (list, dict)) for value in values):
            hidden.append(name)
            continue
        texts = {value for value in values if isinstance(value, str)}
        longest = max(map(len, texts), default=0)
        mode = len(texts) <= 5 and len(values) >= 12 and longest <= 14
        if longest > 3 and not mode:
            hidden.append(name)
    if hidden:
        return hidden
    return [name for name in samples[0] if all(type(sample[name]) in (int, float) for sample in samples)]


class Access:
    """The tools that read one hidden input."""

    def __init__(self, name: str, values: list[Any]):
        """Chooses the granularity by the sample `values`.

        Raises:
          ValueError: when the values are of several kinds.
        """
        kinds = {type(value) for value in values}
        if kinds == {int, float}:
            kinds = {float}
        if len(kinds) != 1:
            raise ValueError(f"the hidden input {name} is of several types")
        kind = kinds.pop()
        self.name = name
        self.word = names.pascal(name)
        self.length = f"{name}_length"
        self.keys = f"{name}_keys"
        self.kind = {str: "text", dict: "mapping", list: "list"}.get(kind, "whole")
        rows = [row for value in values if kind is list for row in value]
        self.is_table = bool(rows) and all(
            isinstance(row, list) and not any(isinstance(cell, (list, dict)) for cell in row) for row in rows
        )
        lengths = [len(value) for value in values if kind is str]
        self.chunked = bool(lengths) and sum(lengths) / len(lengths) > MAX_CHARS_ONE_BY_ONE

    def count_tool(self) -> str:
        """The name of the tool that tells how much there is to read."""
        if self.kind == "mapping":
            return f"Get{self.word}Keys"
        return f"Get{self.word}{'RowCount' if self.is_table else 'Length'}"

    def item_tool(self) -> str:
        """The name of the tool that reads one item."""
        part = {"text": "Char", "mapping": "Value"}.get(self.kind, "Row" if self.is_table else "Item")
        return f"Get{self.word}{part}"

    def item(self, index: ast.expr) -> ast.Call:
        """The call that reads the item at `index`, an expression."""
        return call(self.item_tool(), **{"key" if self.kind == "mapping" else "index": index})

    def cell(self, row: ast.expr, column: ast.expr) -> ast.Call:
        """The call that reads one cell of a table."""
        return call(f"Get{self.word}Cell", row=row, column=column)

    def whole(self) -> ast.expr:
        """An expression that reads everything."""
        count = call(self.count_tool())
        if self.kind == "mapping":
            return _parse(f"{{key: {ast.unparse(self.item(_load('key')))} for key in {ast.unparse(count)}}}")
        if self.kind == "whole":
            return call(f"Get{self.word}")
        if self.chunked:
            chunk = f"call('Get{self.word}Chunk', index=index)"
            last = f"{ast.unparse(count)} // {CHUNK_CHARS} + 1"
            return _parse(f"''.join([{chunk} for index in range({last})])")
        items = f"[{ast.unparse(self.item(_load('index')))} for index in range({ast.unparse(count)})]"
        return _parse(f"''.join({items})" if self.kind == "text" else items)

    def meanings(self) -> dict[str, str]:
        """Tool name -> what it returns, as a phrase."""
        thing, part = f"`{self.name}`", {"text": "a character"}.get(self.kind, "an item")
        return {
            f"Get{self.word}Length": f"the length of {thing}",
            f"Get{self.word}RowCount": f"the number of rows of {thing}",
            f"Get{self.word}RowLength": f"the length of a row of {thing}",
            f"Get{self.word}Keys": f"the keys of {thing}",
            f"Get{self.word}": thing,
            f"Get{self.word}Value": f"a value of {thing}",
            f"Get{self.word}Chunk": f"a part of {thing}",
            f"Get{self.word}Slice": f"a part of {thing}",
            f"Get{self.word}Cell": f"a cell of {thing}",
            self.item_tool(): f"{'a row' if self.is_table else part} of {thing}",
        }

    def tools(self, used: Container[str]) -> list[Tool]:
        """The tools among those `used`, a set of names."""
        value = f"self.inputs[{self.name!r}]"
        thing = f"`{self.name}`"
        index = {"index": "position, counted from 0; a negative one counts from the end"}
        part = {"text": "character"}.get(self.kind, "row" if self.is_table else "item")
        chunk = f"{value}[index * {CHUNK_CHARS}:(index + 1) * {CHUNK_CHARS}]"
        row = {"row": "number of the row, counted from 0"}
        column = {"column": "number of the column, counted from 0"}
        everything = [
            (f"Get{self.word}Length", f"len({value})", f"Tells how many {part}s {thing} has.", {}),
            (f"Get{self.word}RowCount", f"len({value})", f"Tells how many rows {thing} has.", {}),
            (f"Get{self.word}Keys", f"list({value})", f"Lists the keys of {thing}.", {}),
            (f"Get{self.word}", value, f"Reads {thing}.", {}),
            (self.item_tool(), f"{value}[index]", f"Reads one {part} of {thing}.", index),
            (f"Get{self.word}Value", f"{value}[key]", f"Reads the value of {thing} at a key.",
             {"key": f"one of the keys of {thing}"}),
            (f"Get{self.word}Chunk", chunk, f"Reads {CHUNK_CHARS} characters of {thing}, fewer at its end.",
             {"index": "number of the chunk, counted from 0"}),
            (f"Get{self.word}RowLength", f"len({value}[row])", f"Tells how many cells a row of {thing} has.",
             row),
            (f"Get{self.word}Cell", f"{value}[row][column]", f"Reads one cell of {thing}.", row | column),
        ]  # fmt: skip
        return [
            Tool(name, "access", list(details), expression, summary, details)
            for name, expression, summary, details in everything
            if name in used and not (self.kind == "mapping" and "index" in details)
        ]


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _parse(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body


def call(tool: str, **arguments: ast.expr) -> ast.Call:
    """The call of a tool, as `solve` makes it."""
    keywords = [ast.keyword(name, value) for name, value in arguments.items()]
    return ast.Call(_load("call"), [ast.Constant(tool)], keywords)
