"""Builds a run folder like a real one, from a seed, for tests and pictures of the report."""

import itertools
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codegym_jax.config import RunConfig, to_json
from codegym_jax.evals.in_domain import from_counts
from codegym_jax.evals.in_domain import to_json as rate_to_json
from codegym_jax.metrics import MetricsWriter
from codegym_jax.report.run_folder import SPLITS

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
COUNTS = {"environments": 212, "learnable_environments": 24, "tasks": {"train": 6000, "test_config": 480}}


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
    _write(folder / "task_set" / "manifest.json", {"counts": COUNTS, "guest_hash": "3b" * 32})
    if "train" in stages:
        for step in (1, 30, 60):
            _episodes(folder / "episodes" / "train" / f"step_{step:06d}.jsonl", rng, 0.25 + step / 120)
        _evaluate(folder, rng, "before", 0.36)
    if "result" in stages:
        _evaluate(folder, rng, "after", 0.68)
        _evaluate(folder, rng, "control", 0.43)
        _result(folder)
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
            "signal_share": 0.6 + 0.1 * rng.random(),
            "solved_share": 0.3 * skill,
            "failed_share": 0.3 * (1 - skill),
            **{f"pass_at/{k}": 1 - (1 - reward) ** (1 + 0.6 * math.log2(k)) for k in (1, 2, 4, 8)},
            "sampled_tokens_per_second": 3500 + rng.randrange(400),
            "mfu": 0.04 + 0.01 * rng.random(),
            "step_s": 4.8 + 0.2 * rng.random(),
            "sampling_s": 1.6,
            "tools_s": 0.4 + 0.1 * rng.random(),
            "compiles": 11 if step == 1 else 0,
            "staleness": 0,
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


def _episodes(
    path: Path, rng: random.Random, skill: float, env_ids: Sequence[str] = tuple(ENVIRONMENTS)
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for env_id in env_ids:
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


def _evaluate(folder: Path, rng: random.Random, phase: str, skill: float) -> None:
    """Each split lies below the one before it, and greedy a little above sampled."""
    rates: dict[str, dict[str, Any]] = {"sampled": {}, "greedy": {}}
    for mode, lift in (("sampled", 0.0), ("greedy", 0.04)):
        for split, env_ids, drop, n in (("test_config", SEEN, 0.0, 80), ("test_env", UNSEEN, 0.2, 120)):
            counts = {}
            for env_id in env_ids:
                chance = min(0.97, max(0.02, skill + lift - drop + 0.2 * rng.gauss(0, 1)))
                counts[env_id] = (sum(rng.random() < chance for _ in range(n)), n)
            rates[mode][split] = rate_to_json(from_counts(counts))
            path = folder / "episodes" / f"eval_{phase}" / f"{split}_{mode}.jsonl"
            _episodes(path, random.Random(phase), skill + lift - drop, env_ids)
    _write(folder / "evaluations" / f"{phase}.json", rates)


def _result(folder: Path) -> None:
    figures: dict[str, dict[str, Any]] = {"sampled": {}, "greedy": {}}
    for phase in ("before", "after", "control"):
        rates = json.loads((folder / "evaluations" / f"{phase}.json").read_text())
        for mode, (split, key) in itertools.product(figures, SPLITS.items()):
            rate = rates[mode][split]
            figures[mode][f"{key}_{phase}"] = {name: rate[name] for name in ("success", "ci95", "n")}
    rejections = {"no_access_tool": 41, "single_tool_returns_answer": 33, "too_many_calls": 27}
    rejections |= {"unsupported_syntax": 64, "answer_too_long": 9, "out_of_fuel": 2}
    result = {
        "environments": 212,
        "tasks": 6480,
        "learnable_environments": 24,
        **figures["sampled"],
        "greedy": figures["greedy"],
        "reverified": 960,
        "reverified_identical": True,
        "compiled_programs": 11,
        "params_hash": "9f" * 32,
        "wall_s": {
            "synth": 131.0,
            "sft": 118.2,
            "eval": 61.4,
            "train": 264.9,
            "reverify": 4.6,
            "total": 580.1,
        },
        "rejections": rejections,
    }
    _write(folder / "result.json", result)


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
