"""Builds a run folder like a real one, from a seed, for tests and pictures of the report."""

import json
import math
import random
from pathlib import Path
from typing import Any

from codegym_jax.config import RunConfig, to_json
from codegym_jax.evals.in_domain import from_counts
from codegym_jax.evals.in_domain import to_json as rate_to_json
from codegym_jax.metrics import MetricsWriter

ENVIRONMENTS = {
    "HumanEval_35__MaxElementEnv": "Find the largest of the hidden numbers.",
    "HumanEval_52__BelowThresholdEnv": "Tell whether all hidden numbers lie below the limit.",
    "HumanEval_48__IsPalindromeEnv": "Tell whether the hidden text reads the same both ways.",
    "HumanEval_57__MonotonicEnv": "Tell whether the hidden numbers only rise or only fall.",
    "CodeIO_0118__CountVowelsEnv": "Count the vowels of the hidden text.",
    "CodeIO_0733__LongestRunEnv": "Find the longest run of equal letters.",
    "CodeIO_1204__ChainHopsEnv": "Follow the chain from the first link, and say where it ends.",
    "CodeIO_2410__FirstRepeatEnv": "Find the first number that comes twice.",
}
SEEN, UNSEEN = list(ENVIRONMENTS)[:6], list(ENVIRONMENTS)[6:]


def build(folder: Path, *, seed: int = 0, stages: tuple[str, ...] = ("sft", "train", "result")) -> Path:
    """Writes the run as far as `stages` says, and returns the folder."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(to_json(RunConfig(seed=seed)))
    with MetricsWriter(folder / "metrics.jsonl", cursor=0) as writer:
        if "sft" in stages:
            _supervised(writer, rng)
        if "train" in stages:
            _reinforced(writer, rng)
    if "train" in stages:
        for step in (10, 60):
            _episodes(folder / "episodes" / "train" / f"step_{step:06d}.jsonl", rng, 0.25 + step / 120)
    if "result" in stages:
        for stage, skill in (("eval_before", 0.35), ("eval_after", 0.72), ("eval_control", 0.45)):
            _episodes(folder / "episodes" / stage / "step_000000.jsonl", random.Random(seed), skill)
        _result(folder, rng)
    return folder


def episode(
    task_id: str,
    calls: list[tuple[str, dict[str, Any], str]],
    *,
    reward: float,
    stop: str = "done",
    error: str = "",
) -> dict[str, Any]:
    """One stored episode; `error` marks the last call."""
    turns = []
    for index, (name, parameters, observation) in enumerate(calls):
        action = json.dumps({"name": name, "parameters": parameters})
        failed = error if index == len(calls) - 1 and error else None
        turns.append({"message": action, "action": action, "observation": observation, "error": failed})
    return {
        "task_id": task_id,
        "attempt": 0,
        "policy_version": 0,
        "reward": reward,
        "stop_reason": stop,
        "prompt": ENVIRONMENTS.get(task_id.split("@")[1], "A task.") + "\nObserve() Get(i) Done(answer)",
        "turns": turns,
        "token_ids": list(range(18 + 9 * len(turns))),
    }


def _supervised(writer: MetricsWriter, rng: random.Random) -> None:
    for step in range(1, 301):
        loss = 0.12 + 3.9 * math.exp(-step / 45) * (1 + 0.08 * rng.gauss(0, 1)) + 0.02 * rng.random()
        values = {"loss": loss, "tokens": 2100 + rng.randrange(300), "grad_norm": 0.4 + rng.random()}
        writer.write(
            "sft", step, values | {"learning_rate": 4e-3 * min(1, step / 30), "tokens_per_second": 7000.0}
        )


def _reinforced(writer: MetricsWriter, rng: random.Random) -> None:
    for step in range(1, 61):
        skill = 0.34 + 0.4 * (1 - math.exp(-step / 25))
        reward = min(1.0, max(0.0, skill + 0.05 * rng.gauss(0, 1)))
        too_long, errors = 0.22 * math.exp(-step / 18), 0.11 * math.exp(-step / 12) + 0.01
        values = {
            "reward": reward,
            "success": reward,
            "valid_fraction": 1.0,
            "calls_per_episode": 7.5 + 3 * (1 - math.exp(-step / 20)) + 0.3 * rng.gauss(0, 1),
            "tokens_per_episode": 92 + 30 * (1 - math.exp(-step / 20)) + 3 * rng.gauss(0, 1),
            "policy_tokens": 6200 + rng.randrange(400),
            "entropy": 0.31 * math.exp(-step / 40) + 0.01 * rng.random(),
            "loss": 0.02 * rng.gauss(0, 1),
            "ratio_max": 1.2 + 0.3 * rng.random(),
            "clip_fraction": 0.01 * rng.random(),
            "mismatch_kl": float("nan") if step == 7 else 1e-5 * rng.random(),
            "grad_norm": 0.5 + 0.3 * rng.random(),
            "used_episodes": 70 + rng.randrange(40),
            "rollout_s": 1.6 + 0.2 * rng.random(),
            "update_s": 2.4 + 0.2 * rng.random(),
            "stop/max_tokens": too_long,
            "stop/too_many_errors": errors,
            "stop/done": 1 - too_long - errors,
            "call_error/bad_parameters": 0.06 * math.exp(-step / 15),
            "call_error/not_json": 0.04 * math.exp(-step / 10),
            "call_error/tool_raised": 0.02,
        }
        writer.write("train", step, values)


def _episodes(path: Path, rng: random.Random, skill: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for env_id in ENVIRONMENTS:
        for index in range(6):
            values = [(7 * index + 3 * k + len(env_id)) % 23 for k in range(3 + index % 4)]
            rows.append(
                _attempt(f'codegym_v1@{env_id}@{{"numbers":{json.dumps(values)}}}', values, rng, skill)
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _attempt(task_id: str, values: list[int], rng: random.Random, skill: float) -> dict[str, Any]:
    luck, seen = rng.random(), values if rng.random() < skill else values[:-1]
    calls: list[tuple[str, dict[str, Any], str]] = [("Observe", {}, f"There are {len(values)} numbers.")]
    best = values[0]
    for index, value in enumerate(seen):
        calls.append(("Get", {"i": index}, str(value)))
        if index:
            calls.append(("Compare", {"a": value, "b": best}, str(value > best).lower()))
            best = max(best, value)
    if luck > skill and luck > 0.8:
        calls.append(("Get", {"index": "first"}, "Error: Get has no parameter index; its parameters: i"))
        return episode(task_id, calls, reward=0.0, stop="too_many_errors", error="bad_parameters")
    if luck > skill and luck > 0.65:
        return episode(task_id, calls, reward=0.0, stop="max_tokens")
    calls.append(("Done", {"answer": best}, ""))
    return episode(task_id, calls, reward=float(best == max(values)))


def _result(folder: Path, rng: random.Random) -> None:
    def rate(env_ids: list[str], mean: float, n: int) -> dict[str, Any]:
        counts = {}
        for env_id in env_ids:
            skill = min(0.97, max(0.02, mean + 0.22 * rng.gauss(0, 1)))
            counts[env_id] = (sum(rng.random() < skill for _ in range(n)), n)
        return rate_to_json(from_counts(counts))

    def entries(lift: float) -> dict[str, Any]:
        return {
            "heldout_config_before": rate(SEEN, 0.36 + lift, 80),
            "heldout_config_after": rate(SEEN, 0.68 + lift, 80),
            "heldout_config_control": rate(SEEN, 0.43 + lift, 80),
            "heldout_env_before": rate(UNSEEN, 0.22 + lift, 120),
            "heldout_env_after": rate(UNSEEN, 0.29 + lift, 120),
            "heldout_env_control": rate(UNSEEN, 0.20 + lift, 120),
        }

    result = {
        "environments": 212,
        "tasks": 6480,
        "learnable_environments": 24,
        **entries(0.0),
        "greedy": entries(0.04),
        "replayed": 960,
        "replay_identical": True,
        "compiled_programs": 11,
        "params_hash": "9f" * 32,
        "wall_s": {"synth": 131.0, "sft": 118.2, "train": 264.9, "eval": 61.4, "total": 580.1},
        "rejections": {
            "no_access_tool": 41,
            "single_tool_returns_answer": 33,
            "too_many_calls": 27,
            "unsupported_syntax": 64,
            "answer_too_long": 9,
            "out_of_fuel": 2,
        },
    }
    (folder / "task_set").mkdir(exist_ok=True)
    (folder / "task_set" / "manifest.json").write_text(json.dumps({"guest_hash": "3b" * 32}))
    (folder / "result.json").write_text(json.dumps(result))
