"""The tools around each kind of state: names, parameters, bodies, and what their docstrings say."""

import ast
from collections.abc import Mapping
from typing import NamedTuple

from codegym_jax.synthesis.outline.tools import Tool

_MEANINGS = {
    "value": "the value",
    "amount": "how much",
    "factor": "what to multiply by",
    "text": "what to append",
    "index": "position, counted from 0; a negative one counts from the end",
    "first": "position of one item, counted from 0",
    "second": "position of the other item, counted from 0",
    "row": "number of the row, counted from 0; a negative one counts from the end",
    "column": "number of the column, counted from 0; a negative one counts from the end",
    "key": "the key",
    "size": "how many items it gets",
    "rows": "how many rows it gets",
    "columns": "how many cells each row gets",
}


class Form(NamedTuple):
    """A tool of some kind of state, with `{X}` for the word, `{s}` for the state, `{thing}` for its name.

    Attributes:
      name: of the tool.
      statements: what it does before it returns, lines of source.
      expression: what it returns.
      summary: as a sentence.
      changes: whether it changes the state.
    """

    name: str
    statements: str
    expression: str
    summary: str
    changes: bool = True


def _reads(name: str, expression: str, summary: str) -> Form:
    return Form(name, "", expression, summary, changes=False)


LIST = {
    "push": Form("AppendTo{X}", "{s}.append(value)", "len({s})",
                 "Appends a value to {thing} and returns its new length."),
    "push_front": Form("PushFront{X}", "{s}.insert(0, value)", "len({s})",
                       "Puts a value before the first item of {thing} and returns its new length."),
    "insert": Form("InsertInto{X}", "{s}.insert(index, value)", "len({s})",
                   "Inserts a value into {thing} before a position and returns its new length."),
    "pop": Form("Pop{X}", "", "{s}.pop()", "Removes the last item of {thing} and returns it."),
    "pop_front": Form("PopFront{X}", "", "{s}.pop(0)", "Removes the first item of {thing} and returns it."),
    "pop_item": Form("Remove{X}Item", "", "{s}.pop(index)",
                     "Removes the item of {thing} at a position and returns it."),
    "remove": Form("RemoveFrom{X}", "{s}.remove(value)", "len({s})",
                   "Removes the first item of {thing} that equals a value and returns the new length."),
    "peek": _reads("Peek{X}", "{s}[-1]", "Returns the last item of {thing} and leaves it there."),
    "item": _reads("Get{X}Item", "{s}[index]", "Returns one item of {thing}."),
    "set_item": Form("Set{X}Item", "{s}[index] = value", "{s}[index]",
                     "Replaces one item of {thing} and returns its new value."),
    "add_item": Form("AddTo{X}Item", "{s}[index] += amount", "{s}[index]",
                     "Adds to one item of {thing} and returns its new value."),
    "subtract_item": Form("SubtractFrom{X}Item", "{s}[index] -= amount", "{s}[index]",
                          "Subtracts from one item of {thing} and returns its new value."),
    "increment_item": Form("Increment{X}Item", "{s}[index] += 1", "{s}[index]",
                           "Adds 1 to one item of {thing} and returns its new value."),
    "swap": Form("Swap{X}Items", "{s}[first], {s}[second] = {s}[second], {s}[first]",
                 "[{s}[first], {s}[second]]",
                 "Exchanges two items of {thing} and returns what is now at the two positions."),
    "row": _reads("Get{X}Row", "{s}[row]", "Returns one row of {thing}."),
    "set_row": Form("Set{X}Row", "{s}[row] = value", "len({s}[row])",
                    "Replaces one row of {thing} and returns its length."),
    "push_row": Form("AppendTo{X}Row", "{s}[row].append(value)", "len({s}[row])",
                     "Appends a value to one row of {thing} and returns the row's new length."),
    "row_length": _reads("Get{X}RowLength", "len({s}[row])", "Tells how many cells a row of {thing} has."),
    "cell": _reads("Get{X}Cell", "{s}[row][column]", "Returns one cell of {thing}."),
    "set_cell": Form("Set{X}Cell", "{s}[row][column] = value", "{s}[row][column]",
                     "Replaces one cell of {thing} and returns its new value."),
    "add_cell": Form("AddTo{X}Cell", "{s}[row][column] += amount", "{s}[row][column]",
                     "Adds to one cell of {thing} and returns its new value."),
    "subtract_cell": Form("SubtractFrom{X}Cell", "{s}[row][column] -= amount",
                          "{s}[row][column]", "Subtracts from a cell of {thing} and returns its new value."),
    "increment_cell": Form("Increment{X}Cell", "{s}[row][column] += 1", "{s}[row][column]",
                           "Adds 1 to one cell of {thing} and returns its new value."),
    "length": _reads("Get{X}Length", "len({s})", "Tells how many items {thing} has."),
    "rows": _reads("Get{X}RowCount", "len({s})", "Tells how many rows {thing} has."),
    "empty": _reads("Is{X}Empty", "not {s}", "Tells whether {thing} is empty."),
    "contains": _reads("IsIn{X}", "value in {s}", "Tells whether a value is in {thing}."),
    "find": _reads("FindIn{X}", "{s}.index(value)",
                   "Returns the first position at which {thing} has a value."),
    "count": _reads("CountIn{X}", "{s}.count(value)", "Tells how often a value is in {thing}."),
    "largest": _reads("GetLargestIn{X}", "max({s})", "Returns the largest item of {thing}."),
    "smallest": _reads("GetSmallestIn{X}", "min({s})", "Returns the smallest item of {thing}."),
    "total": _reads("GetSumOf{X}", "sum({s})", "Returns the sum of the items of {thing}."),
    "sorted": _reads("GetSorted{X}", "sorted({s})", "Lists the items of {thing} in ascending order."),
    "joined": _reads("Join{X}", "{c}.join({s})", "Returns the items of {thing}, joined by {c}, as one text."),
    "clear": Form("Clear{X}", "{s} = []", "len({s})", "Empties {thing} and returns its length."),
    "sort": Form("Sort{X}", "{s}.sort()", "len({s})", "Sorts {thing} and returns its length."),
    "sort_down": Form("Sort{X}Descending", "{s}.sort(reverse=True)", "len({s})",
                      "Sorts {thing}, the largest first, and returns its length."),
    "reverse": Form("Reverse{X}", "{s}.reverse()", "len({s})",
                    "Reverses {thing} and returns its length."),
    "heap_push": Form("Push{X}", "{f}({s}, value)", "len({s})",
                      "Puts a value into the heap {thing} and returns how many it holds."),
    "heap_pop": Form("Pop{X}", "", "{f}({s})",
                     "Takes the smallest value out of the heap {thing} and returns it."),
    "create": Form("Create{X}", "{s} = [{c}] * size", "len({s})",
                   "Makes {thing} a list of items that are all {c}, and returns its length."),
    "create_of": Form("Create{X}", "{s} = [value] * size", "len({s})",
                      "Makes {thing} a list of equal items, and returns its length."),
    "create_table": Form("Create{X}", "{s} = [[{c}] * columns for _ in range(rows)]", "len({s})",
                         "Makes {thing} a table of cells that are all {c}, and returns the number of rows."),
    "create_rows": Form("Create{X}", "{s} = [[] for _ in range(rows)]", "len({s})",
                        "Makes {thing} a list of empty rows, and returns how many they are."),
}  # fmt: skip
_STACK = {
    "push": LIST["push"]._replace(
        name="Push{X}", summary="Pushes a value onto {thing} and returns its new length."
    ),
    "pop": LIST["pop"]._replace(summary="Takes the top value off {thing} and returns it."),
    "peek": LIST["peek"]._replace(summary="Returns the top value of {thing} and leaves it there."),
}
_QUEUE = {
    "push": LIST["push"]._replace(
        name="Enqueue{X}", summary="Puts a value at the end of {thing} and returns its new length."
    ),
    "pop_front": LIST["pop_front"]._replace(
        name="Dequeue{X}", summary="Takes the first value out of {thing} and returns it."
    ),
}
MAPPING = {
    "get": _reads("Get{X}", "{s}[{k}]", "Returns the value that {thing} has for a key."),
    "get_or": _reads("Get{X}", "{s}.get({k}, {c})",
                     "Returns the value that {thing} has for a key, {c} when it has none."),
    "set": Form("Set{X}", "{s}[{k}] = value", "{s}[{k}]",
                "Sets the value of {thing} for a key and returns it."),
    "add": Form("AddTo{X}", "{s}[{k}] = {old} + amount", "{s}[{k}]",
                "Adds to the value of {thing} for a key and returns the new one."),
    "subtract": Form("SubtractFrom{X}", "{s}[{k}] = {old} - amount", "{s}[{k}]",
                     "Subtracts from the value of {thing} for a key and returns the new one."),
    "increment": Form("Increment{X}", "{s}[{k}] = {old} + 1", "{s}[{k}]",
                      "Adds 1 to the value of {thing} for a key and returns the new one."),
    "has": _reads("Has{X}", "{k} in {s}", "Tells whether {thing} has a key."),
    "remove": Form("Remove{X}", "", "{s}.pop({k})", "Removes a key from {thing} and returns its value."),
    "append": Form("AppendTo{X}", "{s}[{k}] = [*{s}.get({k}, []), value]", "len({s}[{k}])",
                   "Appends a value to the list that {thing} has for a key and returns its new length."),
    "length": _reads("Get{X}Size", "len({s})", "Tells how many keys {thing} has."),
    "keys": _reads("Get{X}Keys", "list({s})", "Lists the keys of {thing}, the oldest first."),
    "empty": _reads("Is{X}Empty", "not {s}", "Tells whether {thing} is empty."),
    "clear": Form("Clear{X}", "{s} = {{}}", "len({s})", "Empties {thing} and returns its size."),
}  # fmt: skip
SET = {
    "add": Form("AddTo{X}", "{s}.add({k})", "len({s})",
                "Puts a value into {thing} and returns how many different values that has."),
    "remove": Form("RemoveFrom{X}", "{s}.discard({k})", "len({s})",
                   "Takes a value out of {thing} and returns how many are left."),
    "contains": _reads("IsIn{X}", "{k} in {s}", "Tells whether a value is in {thing}."),
    "length": _reads("Get{X}Size", "len({s})", "Tells how many different values {thing} has."),
    "items": _reads("Get{X}Values", "sorted({s})", "Lists the values of {thing} in ascending order."),
    "empty": _reads("Is{X}Empty", "not {s}", "Tells whether {thing} is empty."),
    "clear": Form("Clear{X}", "{s} = set()", "len({s})", "Empties {thing} and returns its size."),
}  # fmt: skip
NUMBER = {
    "add": Form("AddTo{X}", "{s} += amount", "{s}", "Adds to {thing} and returns it."),
    "subtract": Form("SubtractFrom{X}", "{s} -= amount", "{s}",
                     "Subtracts from {thing} and returns it."),
    "multiply": Form("Multiply{X}", "{s} *= factor", "{s}", "Multiplies {thing} and returns it."),
    "append": Form("AppendTo{X}", "{s} += text", "{s}",
                   "Appends to the text {thing} and returns it."),
    "increment": Form("Increment{X}", "{s} += 1", "{s}", "Adds 1 to {thing} and returns it."),
    "decrement": Form("Decrement{X}", "{s} -= 1", "{s}", "Subtracts 1 from {thing} and returns it."),
    "largest": Form("Update{X}", "{s} = value if {s} is None else max({s}, value)", "{s}",
                  "Makes {thing} the value when that is larger, and returns {thing}."),
    "smallest": Form("Update{X}", "{s} = value if {s} is None else min({s}, value)", "{s}",
                  "Makes {thing} the value when that is smaller, and returns {thing}."),
    "reset": Form("Reset{X}", "{s} = {c}", "{s}", "Sets {thing} back to {c} and returns it."),
    "set": Form("Set{X}", "{s} = value", "{s}", "Sets {thing} to a value and returns it."),
}  # fmt: skip


class NotState(Exception):
    """A local is used in a way that tools do not cover; it stays in the solver."""


class Local:
    """A local variable that becomes state, and the tools made for it so far.

    Attributes:
      name: in the solution.
      attribute: of the environment, where it is kept.
      initial: source of its value after `reset`.
      made: whether that is the first value that the solution gives it.
      tools: tool name -> `Tool`.
      roles: what the tools are for: keys of the tables of forms, `whole` and `create`.
      changing: names of tools that change the state.
    """

    def __init__(self, name: str, word: str, attribute: str):
        self.name = name
        self.word = word
        self.attribute = attribute
        self.initial = "None"
        self.made = False
        self.tools: dict[str, Tool] = {}
        self.roles: set[str] = set()
        self.changing: set[str] = set()

    def call(self, role: str, form: Form, arguments: Mapping[str, ast.expr], **parts: str) -> ast.Call:
        """A call of the tool of this form.

        Args:
          role: what it is for.
          form: with the places `{X}`, `{s}` and `{thing}`, and others that `parts` fill.
          arguments: parameter -> value.
        """
        parts |= {"X": self.word, "s": f"self.{self.attribute}", "thing": f"`{self.name}`"}
        name = form.name.format(**parts)
        tool = Tool(
            name,
            "state",
            list(arguments),
            form.expression.format(**parts),
            form.summary.format(**parts),
            {parameter: _MEANINGS.get(parameter, f"the value of `{parameter}`") for parameter in arguments},
            statements=[form.statements.format(**parts)] if form.statements else [],
        )
        known = self.tools.setdefault(name, tool)
        if (known.statements, known.expression) != (tool.statements, tool.expression):
            raise NotState(f"two meanings of {name}")
        self.roles.add(role)
        if form.changes:
            self.changing.add(name)
        keywords = [ast.keyword(parameter, value) for parameter, value in arguments.items()]
        return ast.Call(ast.Name("call", ast.Load()), [ast.Constant(name)], keywords)


def of_list(is_stack: bool, is_queue: bool, word: str) -> dict[str, Form]:
    """The forms for a list that is used as a stack, as a queue, or otherwise."""
    if is_queue:
        short = {"Enqueue{X}": "Enqueue", "Dequeue{X}": "Dequeue"} if word in ("Queue", "Q", "Deque") else {}
        renamed = {role: form._replace(name=short.get(form.name, form.name)) for role, form in _QUEUE.items()}
        return LIST | renamed
    return LIST | _STACK if is_stack else LIST
