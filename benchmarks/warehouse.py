"""The workload: an order to fill in a warehouse of 40 nodes, and a scripted episode of 44 valid calls.

The environment is `envs_wasm/native/Native_01_I__WarehouseEnv.py`, in the published format; its twin in C is
the native guest. Everything is keyed by a seed.
"""

import json
import pathlib
import random
from dataclasses import dataclass

from benchmarks.peers.native_class import construct, load_class
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.records import EnvSpec

CALLS = 44
"""Of one episode, `Done` included: what the oracles of the published environments make on average."""

_SOURCE = (
    pathlib.Path(__file__).resolve().parents[1] / "envs_wasm" / "native" / "Native_01_I__WarehouseEnv.py"
)
_ITEMS = ("bolt", "gadget", "gear", "panel", "widget")


@dataclass(frozen=True, slots=True)
class Workload:
    """One task, and one way to solve it.

    Attributes:
      actions: the calls, in order; the last is `Done`.
      observations: what the class in plain CPython says to each.
    """

    spec: EnvSpec
    config_json: str
    actions: tuple[str, ...]
    observations: tuple[str, ...]


def environment() -> EnvSpec:
    """The warehouse."""
    return load_environment(_SOURCE)


def make_workload(seed: int) -> Workload:
    """A task whose scripted episode earns the full reward.

    Raises:
      AssertionError: when it does not.
    """
    spec = environment()
    config_json, actions = make_episode(seed)
    cls = load_class(spec.source, spec.class_name)
    answer = construct(cls, config_json).get_ref_answer()
    actions = (*actions, _call("Done", answer=answer))
    episode = construct(cls, config_json)
    observations = tuple(episode.step(action)[1] for action in actions)
    assert len(actions) == CALLS and episode.reward == 1.0, (len(actions), observations[-1])
    assert not any(observation.startswith("Error") for observation in observations)
    return Workload(spec, config_json, actions, observations)


def make_episode(seed: int, nodes: int = 40) -> tuple[str, tuple[str, ...]]:
    """A config as JSON, and the calls before `Done` of a walk that fills its order."""
    rng = random.Random(seed)
    edges = _edges(rng, nodes)
    neighbors = {node: sorted({v for u, v, _ in edges if u == node} | {u for u, v, _ in edges if v == node})
                 for node in range(nodes)}  # fmt: skip
    stock = {str(node): {item: rng.randint(3, 9) for item in rng.sample(_ITEMS, 2)} for node in range(nodes)}
    target = nodes - 1
    shelves = {int(node): dict(items) for node, items in stock.items()}
    position, bag, actions = 0, dict[str, int](), list[str]()
    while len(actions) < CALLS - 1:
        turn = len(actions) % 8
        if turn in (0, 4):
            actions.append(_call("GetNeighbors", node=position))
        elif turn in (1, 5):
            position = rng.choice(neighbors[position])
            actions.append(_call("MoveTo", node=position))
        elif turn in (2, 6):
            here = shelves[position]
            item = min((name for name in here if here[name] > 0), default="")
            if not item:  # an empty shelf: look instead
                actions.append(_call("Observe"))
                continue
            here[item] -= 1
            bag[item] = bag.get(item, 0) + 1
            actions.append(_call("PickUp", item=item, quantity=1))
        elif turn == 3:
            actions.append(_call("Observe"))
        else:
            actions.append(_call("EstimateRoute", target=target))
    config = {"n": nodes, "edges": edges, "stock": stock, "order": bag, "target": target}
    return json.dumps(config), tuple(actions)


def _edges(rng: random.Random, nodes: int) -> list[list[int]]:
    """A path through all nodes, and as many other edges between random ones."""
    edges = [[node, node + 1, rng.randint(1, 9)] for node in range(nodes - 1)]
    joined = {(u, v) for u, v, _ in edges}
    while len(edges) < 2 * nodes:
        u, v = sorted(rng.sample(range(nodes), 2))
        if (u, v) not in joined:
            joined.add((u, v))
            edges.append([u, v, rng.randint(1, 20)])
    return edges


def _call(name: str, **parameters: int | str) -> str:
    return json.dumps({"name": name, "parameters": parameters})
