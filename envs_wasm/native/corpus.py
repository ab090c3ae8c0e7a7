"""Configs and actions that try a warehouse: good ones, wrong ones, and ones that are hardly JSON.

Seeded, so that a failure names its episode. Used by the tests and by `sanitize.py`.
"""

import collections
import copy
import json
import random
from typing import Any

_ITEMS = (
    "bolt",
    "nut",
    "wire",
    "",
    'say "hi"',
    "back\\slash",
    "tab\there",
    "Grün",
    "日本",
    "😀 lamp",
    "\x7f",
    "\ud800",
)
_ITEMS += ("\udc00\ud800", "x" * 40, "😀" * 40, "x" * 41, "/", "\u2028", "nu\0l")
_SPACES = ("", "", "", " ", "\n\t", "  \r\n ")
_TOOLS = {
    "Observe": (),
    "GetNeighbors": ("node",),
    "MoveTo": ("node",),
    "PickUp": ("item", "quantity"),
    "EstimateRoute": ("target",),
    "Done": ("answer",),
}
_USES = (*_TOOLS, *("MoveTo", "PickUp", "Observe", "GetNeighbors", "EstimateRoute") * 6)
_ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.0, 2.5, 1e400, -1e400, float("nan"), 10**17, -(10**17), 10**30, 10**4299),
    *("0", "", "😀", [], {}, [[]], [1, [2, {"a": []}]], {"node": 1}, {"": {"": [None, True]}}),
)
_BROKEN = (b"", b"\xff", b"\0", b"\xed\xa0\x80", b"\xf0\x9f", b"\xc0\xaf", b"\\", b'"', b"[" * 600, b"{}")


def _done(answer: str) -> str:
    return '{"name": "Done", "parameters": {"answer": ' + answer + "}}"


_ODD_TEXTS = (
    *(
        "",
        " ",
        "{",
        "}",
        "[]",
        "null",
        "nul",
        "true",
        "1",
        '"Observe"',
        "NaN",
        "-",
        "-Infinity",
        "[1,]",
        "{,}",
    ),
    *(
        '{"name"}',
        '{"name":}',
        '{"name": "Observe"}',
        '{"parameters": {}}',
        '{"name": "Observe", "parameters": []}',
    ),
    *('{"name": "Observe", "parameters": {}} x', '\ufeff{"name": "Observe", "parameters": {}}'),
    *('{"name": "Observe", "parameters": {},}', '{"name": "Observe" "parameters": {}}', "{'name': 1}"),
    *('{"name": "Observe\n", "parameters": {}}', '{"name": "Obs\\u0065rve", "param\\u0065ters": {}}'),
    *(
        '{"name": 1, "name": "Observe", "parameters": 2, "parameters": {}}',
        '{"name": null, "parameters": {}}',
    ),
    *('{"name": "MoveTo", "parameters": {"node": 01}}', '{"name": "MoveTo", "parameters": {"node": 1.}}'),
    *('{"name": "MoveTo", "parameters": {"node": .5}}', '{"name": "MoveTo", "parameters": {"node": +1}}'),
    *('{"name": "MoveTo", "parameters": {"node": -0}}', '{"name": "MoveTo", "parameters": {"node": 0e0}}'),
    *('{"name": "MoveTo", "parameters": {"node": 1e}}', '{"name": "MoveTo", "parameters": {"node": 1E+1}}'),
    *(
        '{"name": "MoveTo", "parameters": {"node": -Infinity}}',
        '{"name": "MoveTo", "parameters": {"node": -I}}',
    ),
    *(
        '{"name": "MoveTo", "parameters": {"node": "x", "node": 1}}',
        '{"name": "Stop", "parameters": {"node": 1}}',
    ),
    *(_done("9" * 4300), _done("9" * 4301), _done("-" + "9" * 4301 + ".5"), _done("[" * 300 + "]" * 300)),
    *(_done("[" * 300 + "]" * 299), _done('{"a": ' * 300 + "0" + "}" * 300)),
    '{"name": "PickUp", "parameters": {"item": "\\ud83d\\ude00", "quantity": 1}}',
    '{"name": "PickUp", "parameters": {"item": "\\ud83d\\u0041", "quantity": 1}}',
    '{"name": "PickUp", "parameters": {"item": "\\uD83D\\", "quantity": 1}}',
    '{"name": "PickUp", "parameters": {"item": "\\u12G4", "quantity": 1}}',
    '{"name": "PickUp", "parameters": {"item": "\\x", "quantity": 1}}',
)


def good_config(rng: random.Random, nodes: int | None = None) -> dict[str, Any]:
    """A connected warehouse whose order its stock can mostly fill."""
    n = nodes or rng.choice((1, 2, 5, 12, 40))
    edges = [[node, rng.randrange(node), rng.randrange(1, 30)] for node in range(1, n)]
    if n > 1:
        edges += [[*rng.sample(range(n), 2), rng.choice((1, 7, 1_000_000))] for _ in range(rng.randrange(n))]
    rng.shuffle(edges)
    items = [name for name in rng.sample(_ITEMS, 7) if 1 <= len(name) <= 40]
    shelves = {str(node): _amounts(rng, items, 9) for node in range(n) if rng.random() < 0.7}
    order = _amounts(rng, items, 12)
    return {"n": n, "edges": edges, "stock": shelves, "order": order, "target": rng.randrange(n)}


def config_text(rng: random.Random, config: dict[str, Any]) -> str:
    """A config as JSON, in half of the cases odd or with something wrong in it."""
    kind = rng.randrange(8)
    if kind == 0:
        config = {key: value for key, value in config.items() if key != rng.choice(list(config))}
    elif kind == 1:
        config = config | {rng.choice(list(config)): rng.choice(_ODD_VALUES)}
    elif kind == 2:
        config = copy.deepcopy(config)
        _spoil(rng, config)
    text = _text(rng, config)
    if kind == 3:
        return text.replace('"order"', '"order": 5, "order"').replace('"bolt"', '"bolt": [], "b\\u006flt"')
    return text


def action_texts(rng: random.Random, config: dict[str, Any], count: int) -> list[str]:
    """Actions: mostly calls that mean something, else with something wrong, else noise."""
    robot, texts = _Robot(rng, config), []
    for _ in range(count):
        call, kind = robot.call(), rng.random()
        if kind < 0.06:
            texts.append(rng.choice(_ODD_TEXTS))
            continue
        if kind < 0.16:
            _spoil(rng, call)
        text = _text(rng, call)
        texts.append(_mutated(rng, text) if kind > 0.94 else text)
    return texts


def limit_configs() -> dict[str, str]:
    """The largest config, and for each limit one that is just beyond it."""
    rng = random.Random(0)
    names = [f"{index:04d}" + "\x7f" * 36 for index in range(257)]
    edges = [[node, node + 1, 1_000_000] for node in range(255)]
    edges += [[*rng.sample(range(256), 2), rng.randrange(1, 1_000_001)] for _ in range(4096 - len(edges))]
    shelves = {str(node): dict.fromkeys(rng.sample(names[:256], 8), 1_000_000) for node in range(256)}
    order = dict.fromkeys(names[:256], 1)
    largest = {"n": 256, "edges": edges, "stock": shelves, "order": order, "target": 255}
    fuller = shelves | {"0": dict.fromkeys([*shelves["0"], *(set(names[:256]) - set(shelves["0"]))][:9], 1)}
    beyond = {
        "nodes": {"n": 257},
        "target": {"target": 256},
        "edges": {"edges": [*edges, [0, 1, 1]]},
        "edge to no node": {"edges": [[0, 256, 1]]},
        "cost": {"edges": [[0, 1, 1_000_001]]},
        "stock": {"stock": fuller},
        "shelf of no node": {"stock": {"256": {}}},
        "items in stock": {"stock": {"0": dict.fromkeys(names, 1)}},
        "items in stock and order": {"order": {names[256]: 1}},
        "quantity": {"order": {"bolt": 1_000_001}},
        "name": {"order": {"😀" * 41: 1}},
        "longest name": {"order": {}, "stock": {"0": {"😀" * 40: 1}}},
    }
    return {"largest": json.dumps(largest)} | {
        limit: json.dumps(largest | change) for limit, change in beyond.items()
    }


def episode(seed: int) -> tuple[str, list[str]]:
    """A config and the actions to take on it."""
    rng = random.Random(seed)
    config = good_config(rng)
    return config_text(rng, config), action_texts(rng, config, rng.randrange(5, 60))


def broken(rng: random.Random, text: str) -> bytes:
    """A text with some bytes replaced, dropped or added; hardly ever UTF-8."""
    data = bytearray(text.encode())
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        data[at : at + rng.randrange(3)] = rng.choice(_BROKEN)
    return bytes(data)


class _Robot:
    """Chooses calls as one who knows the config; a call that was spoiled leaves it misled, which is fine."""

    def __init__(self, rng: random.Random, config: dict[str, Any]):
        self._rng, self._nodes, self._stock, self._position = rng, config["n"], config["stock"], 0
        self._neighbors: dict[int, list[int]] = collections.defaultdict(list)
        for u, v, _ in config["edges"]:
            self._neighbors[u].append(v)
            self._neighbors[v].append(u)

    def call(self) -> dict[str, Any]:
        name = self._rng.choice(_USES)
        return {"name": name, "parameters": {key: self._value(name, key) for key in _TOOLS[name]}}

    def _value(self, tool: str, key: str) -> Any:
        rng, shelf = self._rng, self._stock.get(str(self._position), {})
        if key == "item":
            return rng.choice(list(shelf) if shelf and rng.random() < 0.8 else _ITEMS)
        if key == "quantity":
            return rng.randrange(5)
        if key == "answer":
            return rng.randrange(40)
        if tool == "MoveTo" and self._neighbors[self._position] and rng.random() < 0.8:
            self._position = rng.choice(self._neighbors[self._position])
            return self._position
        return rng.randrange(self._nodes + 1)


def _amounts(rng: random.Random, items: list[str], most: int) -> dict[str, int]:
    return {item: rng.randrange(1, most) for item in rng.sample(items, rng.randrange(len(items)))}


def _spoil(rng: random.Random, value: Any) -> None:
    """Replaces, drops or adds something at a random place of a container."""
    children = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not children:
        return
    key = rng.choice(children)
    if isinstance(value[key], (dict, list)) and value[key] and rng.random() < 0.7:
        _spoil(rng, value[key])
    elif rng.random() < 0.6:
        value[key] = rng.choice(_ODD_VALUES)
    elif rng.random() < 0.5:
        value.pop(key)
    elif isinstance(value, dict):
        value[rng.choice((*_ITEMS, "00", "999", " 1", "١"))] = rng.choice((1, *_ODD_VALUES))
    else:
        value.append(rng.choice(_ODD_VALUES))


def _text(rng: random.Random, value: Any) -> str:
    space = rng.choice(_SPACES)
    text = json.dumps(
        value, ensure_ascii=rng.random() < 0.5, separators=(f"{space},{space}", f"{space}:{space}")
    )
    return space + text.encode("utf-8", "backslashreplace").decode() + space


def _mutated(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    return (
        text[:at]
        + rng.choice(("", "\\", '"', "}", "]", ",", ":", "0", "e", "\x01", "\ufeff", "😀"))
        + text[at + 1 :]
    )
