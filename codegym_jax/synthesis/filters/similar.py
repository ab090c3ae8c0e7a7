"""Near-duplicates and families: environments that ask for the same work under other names.

Two environments are alike in their tools (their bodies without names), in their workflows (three steps in a
row: which tool, and where its parameters come from), or in their reference solutions. Every function here
gives the same for any order of its arguments.
"""

import ast
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from codegym_jax.envs.action import DONE, OBSERVE
from codegym_jax.envs.environment_source import parse_tree
from codegym_jax.records import EnvSpec, Task
from codegym_jax.synthesis.filters.calls import Call, oracle_calls
from codegym_jax.synthesis.filters.canonical import Canon, digest
from codegym_jax.synthesis.filters.methods import tool_methods
from codegym_jax.synthesis.outline import values

FAMILY_SIMILARITY = 0.5
"""Environments at least so alike are never split: the same tools and a fourth of the workflow."""
DUPLICATE_SIMILARITY = 0.9
"""Of two environments at least so alike one is enough: the same tools and four fifths of the workflow."""
MIN_SOLUTION_CHARS = 150
"""Of a solution's canonical text, some five lines; shorter ones, such as a sum, are common property."""
N_GRAMS = (1, 2, 3, 4)
NEAR = (0.5, 0.7, 0.85)
"""Similarities above which `diversity` counts."""

_BLOCK = 512
"""Environments compared with all at a time; bounds the memory."""

Signature = dict[str, Any]
"""JSON-able: `tools`, `workflow`, `steps` and `solution`."""


def signature(spec: EnvSpec, tasks: Sequence[Task]) -> Signature:
    """What of an environment is compared with others.

    Returns:
      tools: hashes of the tools' bodies, `Observe` and `Done` left out; an equal second one is another.
      workflow: hashes of the oracles' trigrams of (tool body, origins of its parameters).
      steps: for each n of `N_GRAMS`, hashes of the n-grams of abstract steps (origins of the parameters and
        type of the result, whatever the tool).
      solution: the hash of the reference solution, "" where that is too small to tell anything.
    """
    tree = parse_tree(spec.source)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    own = [node for node in tree.body if isinstance(node, kinds) and node.name != spec.class_name]
    canon = Canon({node.name: node for node in own})
    bodies = {
        name: digest(canon.text(method.node))
        for name, method in tool_methods(spec).items()
        if name not in (OBSERVE, DONE)
    }
    workflow: set[str] = set()
    steps: list[set[str]] = [set() for _ in N_GRAMS]
    for task in tasks:
        named, abstract = _shapes(oracle_calls(task), bodies)
        workflow |= _grams(named, 3)
        for grams, n in zip(steps, N_GRAMS, strict=True):
            grams |= _grams(abstract, n)
    seen: Counter[str] = Counter()
    tools = []
    for body in bodies.values():
        seen[body] += 1
        tools.append(f"{body}/{seen[body]}" if seen[body] > 1 else body)
    return {
        "tools": sorted(tools),
        "workflow": sorted(map(_short, workflow)),
        "steps": [sorted(map(_short, grams)) for grams in steps],
        "solution": _solution(spec, tree, canon),
    }


def _solution(spec: EnvSpec, tree: ast.Module, canon: Canon) -> str:
    """The hash of what `get_ref_answer` calls, or of itself where it calls nothing of the file."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == spec.class_name]
    methods = [node for one in classes for node in one.body if isinstance(node, ast.FunctionDef)]
    for method in methods:
        if method.name == "get_ref_answer":
            reached = canon.reached(method)
            whole = "".join(sorted(map(canon.digest_of, reached))) or canon.text(method)
            size = sum(len(canon.text(canon.definition(name))) for name in reached) or len(whole)
            return digest(whole) if size >= MIN_SOLUTION_CHARS else ""
    return ""


def _shapes(calls: Sequence[Call], bodies: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Each call as (tool body, origins of its parameters), and as (those origins, type of the result)."""
    named, abstract = ["^"], ["^"]
    latest: set[str] = set()
    results: set[str] = set()
    parameters: set[str] = set()

    def origin(value: Any) -> str:
        if isinstance(value, list | dict):
            return f"[{''.join(sorted({origin(scalar) for scalar in values.scalars(value)}))}]"
        text = json.dumps(value)
        return "l" if text in latest else "r" if text in results else "a" if text in parameters else "c"

    for call in calls:
        origins = "".join(map(origin, call.parameters.values()))
        if call.tool == DONE:
            named.append("$")
            abstract.append("$")
            continue
        result = call.result
        named.append(f"{bodies.get(call.tool, call.tool)}({origins})")
        abstract.append(f"({origins}){type(result).__name__}")
        latest = {json.dumps(scalar) for scalar in values.scalars(result)}
        results |= latest
        parameters |= {json.dumps(scalar) for scalar in values.scalars(call.parameters)}
    return named, abstract


def _grams(steps: Sequence[str], n: int) -> set[str]:
    return {" ".join(steps[start : start + n]) for start in range(len(steps) - n + 1)}


def _short(text: str) -> int:
    """48 bits, which a JSON number holds exactly."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:6], "big")


def families(signatures: Mapping[str, Signature], threshold: float = FAMILY_SIMILARITY) -> dict[str, str]:
    """Environment id -> family: the smallest id of those that a chain of similar ones connects it with."""
    parent = {env_id: env_id for env_id in sorted(signatures)}

    def root(env_id: str) -> str:
        while parent[env_id] != env_id:
            parent[env_id] = parent[parent[env_id]]
            env_id = parent[env_id]
        return env_id

    for one, other, _ in _pairs(signatures, threshold):
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {env_id: root(env_id) for env_id in parent}


def duplicates(
    signatures: Mapping[str, Signature], threshold: float = DUPLICATE_SIMILARITY
) -> dict[str, str]:
    """Environment id -> the one that is kept in its place, for those that are not kept.

    Of similar ones the one with the richest workflow is kept, the smallest id among equals. So what is
    removed is similar to something kept, and no two kept ones are similar.
    """
    alike: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for one, other, similarity in _pairs(signatures, threshold):
        alike[one][other] = alike[other][one] = similarity
    kept: set[str] = set()
    removed: dict[str, str] = {}
    for env_id in sorted(signatures, key=lambda env_id: (-len(signatures[env_id]["workflow"]), env_id)):
        near = [other for other in alike[env_id] if other in kept]
        if near:
            removed[env_id] = min(near, key=lambda other: (-alike[env_id][other], other))
        else:
            kept.add(env_id)
    return dict(sorted(removed.items()))


def diversity(signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """How much the environments of a corpus differ in what their oracles do.

    Returns:
      JSON-able:
        steps: n -> `distinct` n-grams of abstract steps in the whole corpus, and `per_environment`, the mean.
        workflow, similarity: each `mean` over all pairs, and `nearest`, threshold -> share of environments
          whose most similar other is above it; of the trigrams of abstract steps alone (Jaccard), and of the
          measure that families and duplicates go by.
    """
    trigrams = _Shared([signatures[env_id]["steps"][N_GRAMS.index(3)] for env_id in sorted(signatures)])
    count = len(signatures)
    steps = {}
    for index, n in enumerate(N_GRAMS):
        sets = [one["steps"][index] for one in signatures.values()]
        distinct = len(set().union(*sets))
        steps[str(n)] = {
            "distinct": distinct,
            "per_environment": round(sum(map(len, sets)) / max(count, 1), 2),
        }
    return {
        "environments": count,
        "steps": steps,
        "workflow": _spread(trigrams.jaccard(rows) for rows in _blocks(count)),
        "similarity": _spread(alike for _, alike in _similarities(signatures)),
    }


def _spread(blocks: Iterable[Float[np.ndarray, "B N"]]) -> dict[str, Any]:
    total, nearest = 0.0, [np.zeros(0)]
    for alike_BN in blocks:
        total += float(alike_BN.sum())
        nearest.append(alike_BN.max(axis=1))
    best_N = np.concatenate(nearest)
    pairs = max(best_N.size * (best_N.size - 1), 1)
    shares = {str(limit): round(float(np.mean(best_N > limit)) if best_N.size else 0.0, 4) for limit in NEAR}
    return {"mean": round(total / pairs, 4), "nearest": shares}


def _pairs(signatures: Mapping[str, Signature], threshold: float) -> Iterator[tuple[str, str, float]]:
    """Each pair of environments that is similar enough, the smaller id first."""
    env_ids = sorted(signatures)
    for rows, alike_BN in _similarities(signatures):
        for row, column in zip(*np.nonzero(alike_BN >= threshold), strict=True):
            if rows.start + row < column:
                yield env_ids[rows.start + row], env_ids[column], float(alike_BN[row, column])


def _similarities(
    signatures: Mapping[str, Signature],
) -> Iterator[tuple[range, Float[np.ndarray, "B N"]]]:
    """How alike environments are to all, in [0, 1] and 0 to themselves, by blocks, in the order of their ids.

    It is the geometric mean of the shared parts (Jaccard) of their tools and of their workflows, so that both
    must be alike; and 1 where the solutions are the same.
    """
    ordered = [signatures[env_id] for env_id in sorted(signatures)]
    tools = _Shared([one["tools"] for one in ordered])
    workflow = _Shared([one["workflow"] for one in ordered])
    solutions = _Shared([[one["solution"]] if one["solution"] else [] for one in ordered])
    for rows in _blocks(len(ordered)):
        alike_BN = np.sqrt(tools.jaccard(rows) * workflow.jaccard(rows))
        yield rows, np.maximum(alike_BN, solutions.jaccard(rows))


def _blocks(count: int) -> Iterator[range]:
    for start in range(0, count, _BLOCK):
        yield range(start, min(start + _BLOCK, count))


class _Shared:
    """Sets, and how much of them they share, by an index from each element to the sets that hold it."""

    def __init__(self, sets: Sequence[Sequence[Any]]):
        self._sizes = np.array([len(one) for one in sets], np.int64)
        holders: defaultdict[Any, list[int]] = defaultdict(list)
        for number, one in enumerate(sets):
            for element in one:
                holders[element].append(number)
        self._holders = [np.array(numbers) for numbers in holders.values() if len(numbers) > 1]

    def jaccard(self, rows: range) -> Float[np.ndarray, "B N"]:
        """The shared part of some of the sets (`rows`) with all; two empty sets share nothing."""
        shared_BN = np.zeros((len(rows), len(self._sizes)), np.int32)
        for holders in self._holders:
            first, last = np.searchsorted(holders, (rows.start, rows.stop))
            if first < last:
                shared_BN[np.ix_(holders[first:last] - rows.start, holders)] += 1
        union_BN = self._sizes[rows.start : rows.stop, None] + self._sizes[None, :] - shared_BN
        shared_BN[np.arange(len(rows)), np.arange(rows.start, rows.stop)] = 0
        return shared_BN / np.maximum(union_BN, 1)
