"""Hidden inputs: which they are, and the tools that read each of them."""

import ast
from collections.abc import Container
from typing import Any

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.tools import Tool

MAX_CHARS_ONE_BY_ONE = 48  # longer texts are read in chunks
CHUNK_CHARS = 16
SLICE_ITEMS = 16  # of a hidden input that one call reads at most
_SEPARATED = {"\n": "Line", " ": "Word", ",": "Field", None: "Word"}


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


def _is_text_grid(value: Any) -> bool:
    """Whether the value is a table whose rows are texts, such as the lines of a map."""
    texts = isinstance(value, list) and len(value) > 1 and all(isinstance(row, str) for row in value)
    return texts and len(value[0]) > 1 and len({len(row) for row in value}) == 1


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
        self.is_table = bool(rows) and (
            all(
                isinstance(row, list) and not any(isinstance(cell, (list, dict)) for cell in row)
                for row in rows
            )
            or (
                all(isinstance(row, str) for row in rows)
                and 2 * sum(map(_is_text_grid, values)) > len(values)
            )
        )
        lengths = [len(value) for value in values if kind is str]
        self.chunked = bool(lengths) and sum(lengths) / len(lengths) > MAX_CHARS_ONE_BY_ONE
        self.view = ""
        self.sliced = True
        self.part = {"text": "char", "mapping": "value"}.get(self.kind, "row" if self.is_table else "item")

    def look(self, function: ast.FunctionDef) -> None:
        """Reads a text in parts where all that the function does with it is to split it, always alike."""
        views, uses = set(), 0
        for node in ast.walk(function):
            uses += isinstance(node, ast.Name) and node.id == self.name
            if is_split(node, self.name):
                views.add(ast.unparse(node).removeprefix(self.name))
        splits = sum(is_split(node, self.name) for node in ast.walk(function))
        if self.kind != "text" or len(views) != 1 or uses != splits:
            return
        self.view = views.pop()
        self.kind, self.chunked = "list", False
        arguments = ast.parse(f"f{self.view}", mode="eval").body
        separator = None
        if isinstance(arguments, ast.Call) and (arguments.args or arguments.keywords):
            separator = [*arguments.args, *(keyword.value for keyword in arguments.keywords)][0]
        word = separator.value if isinstance(separator, ast.Constant) else separator
        self.part = "line" if "splitlines" in self.view else _SEPARATED.get(word, "Part").lower()

    def count_tool(self) -> str:
        """The name of the tool that tells how much there is to read."""
        if self.kind == "mapping":
            return f"Get{self.word}Keys"
        if self.is_table or self.view:
            return f"Get{self.word}{self.part.capitalize()}Count"
        return f"Get{self.word}Length"

    def item_tool(self) -> str:
        """The name of the tool that reads one item."""
        return f"Get{self.word}{self.part.capitalize()}"

    def slice(self, start: ast.expr, end: ast.expr) -> ast.Call:
        """The call that reads up to `SLICE_ITEMS` items."""
        return call(f"Get{self.word}Slice", start=start, end=end)

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
            chunks = f"call('Get{self.word}ChunkCount')"
            return _parse(f"''.join([{chunk} for index in range({chunks})])")
        items = self.items()
        return _parse(f"''.join({ast.unparse(items)})") if self.kind == "text" else items

    def items(self) -> ast.expr:
        """An expression for a list of everything, read item by item."""
        if self.kind == "mapping":
            return call(self.count_tool())
        count = ast.unparse(call(self.count_tool()))
        return _parse(f"[{ast.unparse(self.item(_load('index')))} for index in range({count})]")

    def meanings(self) -> dict[str, str]:
        """Tool name -> what it returns, as a phrase."""
        thing, part = f"`{self.name}`", self._part()
        item = f"{'an' if part[0] in 'aeiou' else 'a'} {part} of {thing}"
        return {
            self.count_tool(): f"the number of {part}s of {thing}",
            f"Get{self.word}RowLength": f"the length of a row of {thing}",
            f"Get{self.word}Keys": f"the keys of {thing}",
            f"Get{self.word}": thing,
            f"Get{self.word}Chunk": f"a part of {thing}",
            f"Get{self.word}Slice": f"a part of {thing}",
            f"Get{self.word}Cell": f"a cell of {thing}",
            self.item_tool(): item,
        }

    def _part(self) -> str:
        return "character" if self.part == "char" else self.part

    def tools(self, used: Container[str]) -> list[Tool]:
        """The tools among those `used`, a set of names."""
        value = f"self.inputs[{self.name!r}]{self.view}"
        thing = f"`{self.name}`"
        index = {"index": "position, counted from 0; a negative one counts from the end"}
        part = self._part()
        bounds = {
            "start": "position of the first, counted from 0",
            "end": "position after the last; negative ones count from the end",
        }
        chunk = f"{value}[index * {CHUNK_CHARS}:(index + 1) * {CHUNK_CHARS}]"
        row = {"row": "number of the row, counted from 0"}
        column = {"column": "number of the column, counted from 0"}
        everything = [
            (self.count_tool(), f"len({value})", f"Tells how many {part}s {thing} has.", {}),
            (f"Get{self.word}ChunkCount", f"-(-len({value}) // {CHUNK_CHARS})",
             f"Tells how many chunks of {CHUNK_CHARS} characters {thing} has.", {}),
            (f"Get{self.word}Keys", f"list({value})", f"Lists the keys of {thing}.", {}),
            (f"Get{self.word}", value, f"Reads {thing}.", {}),
            (self.item_tool(), f"{value}[index]", f"Reads one {part} of {thing}.", index),
            (f"Get{self.word}Value", f"{value}[key]", f"Reads the value of {thing} at a key.",
             {"key": f"one of the keys of {thing}"}),
            (f"Get{self.word}Chunk", chunk, f"Reads {CHUNK_CHARS} characters of {thing}, fewer at its end.",
             {"index": "number of the chunk, counted from 0"}),
            (f"Get{self.word}Slice", f"{value}[start:end][:{SLICE_ITEMS}]",
             f"Reads up to {SLICE_ITEMS} {part}s of {thing}, from a position up to, not including, another.",
             bounds),
            (f"Get{self.word}RowLength", f"len({value}[row])", f"Tells how many cells a row of {thing} has.",
             row),
            (f"Get{self.word}Cell", f"{value}[row][column]", f"Reads one cell of {thing}.", row | column),
        ]  # fmt: skip
        return [
            Tool(name, "access", list(details), expression, summary, details)
            for name, expression, summary, details in everything
            if name in used and not (self.kind == "mapping" and "index" in details)
        ]


def is_split(node: ast.AST, name: str) -> bool:
    """Whether the node splits the text `name` by something constant."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id=text), attr="split" | "splitlines"),
            args=arguments,
            keywords=keywords,
        ):
            given = [*arguments, *(keyword.value for keyword in keywords)]
            return text == name and all(isinstance(value, ast.Constant) for value in given)
    return False


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _parse(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body


def call(tool: str, **arguments: ast.expr) -> ast.Call:
    """The call of a tool, as `solve` makes it."""
    keywords = [ast.keyword(name, value) for name, value in arguments.items()]
    return ast.Call(_load("call"), [ast.Constant(tool)], keywords)
