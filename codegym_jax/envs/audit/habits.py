"""Habits in an environment's text that surprise later: the clock, chance without a seed, shared state."""

import ast
import re
from collections.abc import Iterator

from codegym_jax.envs.audit.finding import Finding, listed, passed, warned
from codegym_jax.envs.environment_source import parse_tree
from codegym_jax.records import EnvSpec

_CLOCK = re.compile(
    r"time\.(time|monotonic|perf_counter|process_time)(_ns)?|time\.(localtime|gmtime|ctime|strftime)"
    r"|(datetime\.)?(datetime|date)\.(now|utcnow|today)"
)
_NO_SEED = re.compile(r"uuid\.uuid[14]|os\.urandom|secrets\.\w+|random\.SystemRandom")
_DRAW = re.compile(
    r"random\.(random|randint|randrange|choices?|sample|shuffle|uniform|triangular|gauss|normalvariate"
    r"|expovariate|betavariate|getrandbits|randbytes)"
)
_CHANGES = frozenset(
    {"append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "remove", "discard"}
    | {"clear", "sort", "reverse", "appendleft", "popleft", "subtract"}
)
_CONTAINERS = frozenset(
    {"list", "dict", "set", "defaultdict", "deque", "Counter", "OrderedDict", "bytearray"}
)


def check_habits(spec: EnvSpec) -> list[Finding]:
    """Findings of the check `source`; what only the file's own `__main__` does is left out."""
    tree = parse_tree(spec.source)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and _names_main(node.test))]
    found = _clock_and_chance(tree) + _shared_state(tree, spec.class_name)
    return found or [
        passed("source", "no clock, no chance without a seed, no state that outlives an episode")
    ]


def _names_main(test: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(test))


def _clock_and_chance(tree: ast.Module) -> list[Finding]:
    calls = set(_calls(tree))
    names = {name for name, _ in calls}
    clock = sorted(filter(_CLOCK.fullmatch, names))
    chance = set(filter(_NO_SEED.fullmatch, names))
    if ("random.seed", True) not in calls:
        chance |= set(filter(_DRAW.fullmatch, names))
    if ("random.Random", False) in calls:
        chance.add("random.Random()")
    found = []
    if chance:
        hint = "draw from random.Random(seed) with the seed in the config; here every episode draws the same"
        found.append(warned("source", f"chance without a seed: {listed(sorted(chance))}", hint))
    if clock:
        hint = "put the time into the config; in a guest the clock always starts at the same moment"
        found.append(warned("source", f"reads the clock: {listed(clock)}", hint))
    return found


def _calls(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """(what is called, by its full name as far as the imports tell; whether it gets arguments)."""
    full = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                full |= {name.asname: name.name for name in names if name.asname}
            case ast.ImportFrom(module=str(module), names=names):
                full |= {name.asname or name.name: f"{module}.{name.name}" for name in names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            yield f"{full.get(first, first)}{dot}{rest}", bool(node.args or node.keywords)


def _shared_state(tree: ast.Module, class_name: str) -> list[Finding]:
    """Containers of the class or of the module that some function changes."""
    changed = _changed(tree)
    own = {
        target.attr
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in _targets(node)
        if isinstance(target, ast.Attribute)
    }
    attributes = {
        name
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == class_name
        for name in _container_names(node.body) - own
        if changed & {f"{owner}.{name}" for owner in ("self", "cls", "type(self)", class_name)}
    }
    rebound = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    variables = rebound | (_container_names(tree.body) & changed)
    hint = "make it in reset; fresh guests keep episodes apart here, other servers do not"
    found = []
    if attributes:
        found.append(warned("source", f"changes the class's own {listed(sorted(attributes))}", hint))
    if variables:
        found.append(warned("source", f"changes the module's {listed(sorted(variables))}", hint))
    return found


def _changed(tree: ast.Module) -> set[str]:
    """What functions change in place and did not make themselves, as they write it: `self.seen`, `CACHE`."""
    found = set()
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        inside = list(ast.walk(function))
        local = {node.arg for node in inside if isinstance(node, ast.arg)}
        local |= {t.id for node in inside for t in _targets(node) if isinstance(t, ast.Name)}
        local -= {"self", "cls"}
        for node in inside:
            parts: list[ast.expr] = [part for part in _targets(node) if isinstance(part, ast.Subscript)]
            match node:
                case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in _CHANGES:
                    parts.append(value)
                case ast.AugAssign(target=target):
                    parts.append(target)
            found |= {ast.unparse(whole) for whole in map(_whole, parts) if _root(whole) not in local}
    return found


def _whole(part: ast.expr) -> ast.expr:
    while isinstance(part, ast.Subscript):
        part = part.value
    return part


def _root(value: ast.expr) -> str:
    return value.id if isinstance(value, ast.Name) else ""


def _container_names(body: list[ast.stmt]) -> set[str]:
    return {
        target.id
        for node in body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and _is_container(node.value)
        for target in _targets(node)
        if isinstance(target, ast.Name)
    }


def _is_container(value: ast.expr | None) -> bool:
    match value:
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in _CONTAINERS
    return False


def _targets(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            return targets
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            return [target]
    return []
