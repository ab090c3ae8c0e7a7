"""Lists and deques as state: stacks, queues, heaps, tables, and plain lists."""

import ast
from typing import TypeGuard

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.mutation import MUTATORS
from codegym_jax.synthesis.outline.scopes import loaded_names
from codegym_jax.synthesis.outline.state_base import is_scalar, load
from codegym_jax.synthesis.outline.state_containers import Container, Loop
from codegym_jax.synthesis.outline.state_words import Local, NotState, of_list

_SUMMARIES = {"max": "largest", "min": "smallest", "sum": "total", "sorted": "sorted"}


class Lists(Container):
    """A list, a deque or a table."""

    def __init__(self, local: Local, function: ast.FunctionDef, first: ast.stmt | None):
        super().__init__(local, function, first)
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        pops = {
            ast.unparse(node)
            for node in calls
            if isinstance(node.func, ast.Attribute)
            and self.mine(node.func.value)
            and node.func.attr in ("pop", "popleft")
        }
        ends = {f"{local.name}.pop()", f"{local.name}.pop(-1)"}
        self.is_stack = bool(pops) and pops <= ends
        is_queue = bool(pops) and pops <= {f"{local.name}.pop(0)", f"{local.name}.popleft()"}
        self.is_table = any(
            (isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr in MUTATORS))
            and self._is_row(node.value)
            for node in ast.walk(function)
        )
        self.forms = of_list(self.is_stack, is_queue, local.word)

    def whole(self) -> ast.expr:
        index = self.fresh("index")
        part = ast.comprehension(ast.Name(index, ast.Store()), self._places(), [], 0)
        return ast.ListComp(self._at(load(index)), [part])

    def _places(self) -> ast.expr:
        return ast.Call(load("range"), [self._count()], [])

    def _count(self) -> ast.expr:
        return self.use("rows" if self.is_table else "length")

    def _at(self, index: ast.expr) -> ast.expr:
        return self.use("row", row=index) if self.is_table else self.use("item", index=index)

    def _is_row(self, node: ast.AST) -> TypeGuard[ast.Subscript]:
        return (
            isinstance(node, ast.Subscript)
            and self.mine(node.value)
            and not isinstance(node.slice, ast.Slice)
        )

    def each(self, node: ast.For) -> Loop | None:
        index, target = None, node.target
        match node.iter, target:
            case inner, _ if self.mine(inner):
                places = self._places()
            case (
                ast.Call(func=ast.Name(id="enumerate"), args=[inner], keywords=[]),
                ast.Tuple(elts=[ast.Name(id=index), target]),
            ) if self.mine(inner):
                places = self._places()
            case ast.Call(func=ast.Name(id="reversed"), args=[inner]), _ if self.mine(inner):
                places = ast.Call(load("reversed"), [self._places()], [])
            case ast.Subscript(value=inner, slice=ast.Slice() as part), _ if self.mine(inner):
                places = ast.Subscript(self._places(), self.visit(part), ast.Load())
            case _:
                return None
        index = index or self.fresh("index")
        return ast.Name(index, ast.Store()), places, [ast.Assign([target], self._at(load(index)))]

    def created(self, value: ast.expr, empty: bool) -> list[ast.stmt]:
        shape = filled(value)
        if shape is not None:
            return [self._filled(*shape)]
        elements = elements_of(value)
        if elements is None:
            raise NotState("an unknown beginning")
        return [*self.cleared(empty), *self._extended(elements)]

    def _filled(self, role: str, sizes: list[ast.expr], cell: ast.expr | None) -> ast.stmt:
        sizes = [self.visit(size) for size in sizes]
        if cell is not None and not is_scalar(cell):
            if role != "create":
                raise NotState("a table of computed cells")
            return self.do("create_of", size=sizes[0], value=self.value(cell))
        places = dict(zip(["size"] if role == "create" else ["rows", "columns"], sizes, strict=False))
        constant = ast.unparse(cell) if cell is not None else ""
        return ast.Expr(self.local.call(role, self.forms[role], places, c=constant))

    def _extended(self, items: ast.expr) -> list[ast.stmt]:
        """Statements that append all items."""
        if isinstance(items, (ast.List, ast.Tuple)):
            return [self.do("push", value=self.value(item)) for item in items.elts]
        item = self.fresh("item")
        return [
            ast.For(ast.Name(item, ast.Store()), self.visit(items), [self.do("push", value=load(item))], [])
        ]

    def contains(self, value: ast.expr) -> ast.expr:
        return self.use("contains", value=self.visit(value))

    def statement(self, node: ast.Call, name: str) -> list[ast.stmt]:
        match name, node.args, node.keywords:
            case "append", [value], []:
                return [self.do("push", value=self.value(value))]
            case "appendleft", [value], []:
                return [self.do("push_front", value=self.value(value))]
            case "insert", [index, value], []:
                return [self.do("insert", index=self.visit(index), value=self.value(value))]
            case "extend", [items], [] if not self.mentions(items):
                return self._extended(items)
            case "remove", [value], []:
                return [self.do("remove", value=self.visit(value))]
            case (("sort" | "reverse" | "clear"), [], []):
                return [self.do(name)]
            case "sort", [], [ast.keyword(arg="reverse", value=ast.Constant(value=True))]:
                return [self.do("sort_down")]
        return [ast.Expr(self.method(node, name))]

    def method(self, node: ast.Call, name: str) -> ast.expr:
        match name, node.args:
            case ("pop", []) | ("pop", [ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1))]):
                return self.use("pop")
            case ("popleft", []) | ("pop", [ast.Constant(value=0)]):
                return self.use("pop_front")
            case "pop", [index]:
                return self.use("pop_item", index=self.visit(index))
            case "index", [value]:
                return self.use("find", value=self.visit(value))
            case "count", [value]:
                return self.use("count", value=self.visit(value))
            case "copy", []:
                return self.everything()
        raise NotState(f"method {name}")

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(func=ast.Name(id="len"), args=[argument]) if self.mine(argument):
                return self._count()
            case ast.Call(func=ast.Name(id="len"), args=[argument]) if self._is_row(argument):
                return self.use("row_length", row=self.visit(argument.slice))
            case ast.Call(func=ast.Attribute(value=row, attr="append"), args=[value]) if self._is_row(row):
                return self.use("push_row", row=self.visit(row.slice), value=self.value(value))
            case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if (
                self.mine(inner) and name in _SUMMARIES and not self.is_table
            ):
                return self.use(_SUMMARIES[name])
            case ast.Call(
                func=ast.Attribute(value=ast.Constant(value=str() as joint), attr="join"), args=[inner]
            ) if self.mine(inner):
                return self.local.call("joined", self.forms["joined"], {}, c=repr(joint))
            case ast.Call(args=[inner]) if self.mine(inner) and _called(node) == "heappop":
                return self.local.call("heap_pop", self.forms["heap_pop"], {}, f=ast.unparse(node.func))
            case ast.Call(args=[inner, value]) if self.mine(inner) and _called(node) == "heappush":
                given = {"value": self.visit(value)}
                return self.local.call("heap_push", self.forms["heap_push"], given, f=ast.unparse(node.func))
        return super().visit_Call(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        match node.slice:
            case ast.BinOp(
                left=ast.Call(func=ast.Name(id="len"), args=[inner]),
                op=ast.Sub(),
                right=ast.Constant() as back,
            ) if self.mine(inner) and self.mine(node.value):
                node.slice = ast.UnaryOp(ast.USub(), back)
        if not isinstance(node.ctx, ast.Load):
            return self.generic_visit(node)
        if self._is_row(node.value) and not isinstance(node.slice, ast.Slice):
            return self.use("cell", row=self.visit(node.value.slice), column=self.visit(node.slice))
        if not self.mine(node.value):
            return self.generic_visit(node)
        if isinstance(node.slice, ast.Slice):
            part = self.visit(node.slice)
            some = self.everything()
            assert isinstance(some, ast.ListComp)
            some.generators[0].iter = ast.Subscript(some.generators[0].iter, part, ast.Load())
            return some
        if self.is_stack and ast.unparse(node.slice) == "-1":
            return self.use("peek")
        return self._at(self.visit(node.slice))

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=[one, other])], value=ast.Tuple(elts=[left, right])) if (
                self._is_row(one) and self._is_row(other) and not self.is_table
            ):
                if [ast.unparse(one), ast.unparse(other)] == [ast.unparse(right), ast.unparse(left)]:
                    return [self.do("swap", first=self.visit(one.slice), second=self.visit(other.slice))]
            case ast.Assign(
                targets=[target], value=ast.Call(func=ast.Name(id="sorted"), args=[inner], keywords=[])
            ) if self.mine(target) and self.mine(inner):
                return [self.do("sort")]
            case ast.Assign(targets=[target], value=ast.Subscript(value=inner) as turned) if (
                self.mine(target) and self.mine(inner) and ast.unparse(turned.slice) == "::-1"
            ):
                return [self.do("reverse")]
        return super().visit_Assign(node)

    def stored(self, target: ast.Subscript, value: ast.expr) -> ast.stmt:
        if self._is_row(target):
            index, value = self.visit(target.slice), self.value(value)
            if self.is_table:
                return self.do("set_row", row=index, value=value)
            return self.do("set_item", index=index, value=value)
        if self._is_row(target.value) and not isinstance(target.slice, ast.Slice):
            row, column = self.visit(target.value.slice), self.visit(target.slice)
            return self.do("set_cell", row=row, column=column, value=self.value(value))
        raise NotState("a slice is stored")

    def added(self, target: ast.Subscript, op: ast.operator, amount: ast.expr) -> ast.stmt:
        role = self.sum_role(op, amount)
        if role is None or isinstance(target.slice, ast.Slice):
            return self.otherwise_added(target, op, amount)
        given = {} if role == "increment" else {"amount": self.visit(amount)}
        if self._is_row(target) and not self.is_table:
            return self.do(f"{role}_item", index=self.visit(target.slice), **given)
        if self._is_row(target.value):
            row, column = self.visit(target.value.slice), self.visit(target.slice)
            return self.do(f"{role}_cell", row=row, column=column, **given)
        raise NotState("a row is added to")

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | list[ast.stmt]:
        if self.mine(node.target) and isinstance(node.op, ast.Add) and not self.mentions(node.value):
            return self._extended(node.value)
        return super().visit_AugAssign(node)

    def visit_Delete(self, node: ast.Delete) -> ast.AST | list[ast.stmt]:
        match node.targets:
            case [target] if self._is_row(target):
                return [self.do("pop_item", index=self.visit(target.slice))]
        return self.generic_visit(node)


def _called(node: ast.Call) -> str:
    return names.of_expression(node.func)


def filled(value: ast.expr) -> tuple[str, list[ast.expr], ast.expr | None] | None:
    """(role, sizes, cell) of an expression that makes a list or a table of equal cells, else None."""
    match value:
        case (
            ast.BinOp(left=ast.List(elts=[cell]), op=ast.Mult(), right=size)
            | ast.BinOp(left=size, op=ast.Mult(), right=ast.List(elts=[cell]))
        ):
            return ("create", [size], cell) if isinstance(cell, ast.Name) or is_scalar(cell) else None
        case ast.ListComp(
            elt=cell, generators=[ast.comprehension(target=ast.Name(id=name), iter=places, ifs=[])]
        ) if name not in loaded_names(cell):
            match places:
                case ast.Call(func=ast.Name(id="range"), args=[size]):
                    return _filled(size, cell)
    return None


def _filled(size: ast.expr, cell: ast.expr) -> tuple[str, list[ast.expr], ast.expr | None] | None:
    if isinstance(cell, ast.Name) or is_scalar(cell):
        return "create", [size], cell
    if isinstance(cell, ast.List) and not cell.elts:
        return "create_rows", [size], None
    inner = filled(cell)
    return ("create_table", [size, *inner[1]], inner[2]) if inner and inner[0] == "create" else None


def elements_of(value: ast.expr) -> ast.expr | None:
    """An expression for the elements of a new list; None when the value is not known to be one."""
    match value:
        case ast.List(elts=elements):
            return None if any(isinstance(item, ast.Starred) for item in elements) else value
        case ast.Call(func=ast.Name(id="sorted")) | ast.Call(func=ast.Attribute(attr="split")):
            return value
        case ast.Call(func=function, args=arguments, keywords=[]) if names.of_expression(function) in (
            "list",
            "deque",
        ):
            return arguments[0] if arguments else ast.List([], ast.Load())
        case ast.Call(func=ast.Attribute(value=inner, attr="copy"), args=[]):
            return inner
        case ast.Subscript(slice=ast.Slice()):
            return value
    return None
