"""Builds run folders with what a run writes them with: the episode log, the metrics, a tokenizer."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codegym_jax.config import RunConfig, apply_overrides, to_json
from codegym_jax.data.tokenizer import Tokenizer, train_bpe
from codegym_jax.metrics import MetricsWriter
from codegym_jax.records import CallError, Episode, StopReason, Turn
from codegym_jax.rollout.episode_log import step_path, write_episodes

END = "<|end|>"
ENVIRONMENTS = ("Own_1__PeekEnv", "Own_2__CountNumsEnv", "Own_3__PairsSumToZeroEnv")
CONFIG = apply_overrides(RunConfig(), ["sft.steps=30", "sft.warmup_steps=5", "train.steps=12"])
PROMPT = "Find the number.\nObserve() Peek(at) Done(answer)"


def turn(
    tool: str = "Peek", observation: str = "7", error: CallError | None = None, **parameters: Any
) -> Turn:
    """One exchange."""
    shown = ", ".join(f"{name}={json.dumps(value)}" for name, value in parameters.items())
    action = json.dumps({"name": tool, "parameters": parameters})
    return Turn(message=f"{tool}({shown})", action=action, observation=observation, error=error)


def episode(
    turns: Sequence[Turn] = (),
    *,
    env: str = ENVIRONMENTS[0],
    config: str = "{}",
    attempt: int = 0,
    reward: float = 0.0,
    stop: StopReason = StopReason.DONE,
    tokens: Sequence[tuple[int, bool, float, float]] = ((5, False, 0.0, 0.0), (6, True, -0.5, -0.25)),
) -> Episode:
    """An episode; `tokens` are id, whether the policy's, log-probability as sampled, and of the policy."""
    ids, own, sampler, policy = zip(*tokens, strict=True)
    return Episode(
        task_id=f"codegym_v1@{env}@{config}",
        attempt=attempt,
        policy_version=3,
        token_ids=np.asarray(ids, np.int32),
        is_policy=np.asarray(own, bool),
        sampler_logp=np.asarray(sampler, np.float32),
        policy_logp=np.asarray(policy, np.float32),
        turns=tuple(turns),
        reward=reward,
        stop_reason=stop,
    )


def save(run: Path, step: int, episodes: Sequence[Episode]) -> Path:
    """Writes the episodes of a step of training, as a run does."""
    path = step_path(run / "episodes" / "train", step)
    write_episodes(path, episodes, lambda _: PROMPT)
    return path


def save_evaluation(run: Path, name: str, episodes: Sequence[Episode]) -> None:
    """Writes the episodes of an evaluation: `name` is such as `eval_before/test_env_greedy`."""
    write_episodes(run / "episodes" / f"{name}.jsonl", episodes, lambda _: PROMPT)


def start(run: Path, *, steps: int = 0) -> Path:
    """A run folder with its config, its tokenizer, and so many rows of training."""
    run.mkdir(parents=True)
    (run / "config.json").write_text(to_json(CONFIG))
    tokenizer().save(run / "tokenizer.json")
    add_rows(run, range(1, steps + 1))
    return run


def add_rows(run: Path, steps: Iterable[int], *, stage: str = "train", step_s: float = 2.0) -> None:
    """Appends rows of metrics, one every `step_s` seconds by the rows' own clock."""
    seconds = iter(range(10**6))
    clock = iter(lambda: step_s * next(seconds), None)
    with MetricsWriter(run / "metrics.jsonl", clock=lambda: next(clock)) as writer:
        for step in steps:
            learned = {"reward": step / 100, "valid_fraction": 1.0, "entropy": 1 / step, "step_s": step_s}
            writer.write(stage, step, learned if stage == "train" else {"loss": 1 / step})


def tokenizer() -> Tokenizer:
    """Of few words, with one special token."""
    texts = ["Find the number.", "Peek(at=1)", "Observe()", "Done(answer=7)"] * 4
    return train_bpe(texts, max_vocabulary=300, special_tokens=[END])


def spread(count: int) -> list[Episode]:
    """Episodes of all kinds, no two of them alike: what each one is follows from its number."""
    stops = list(StopReason)
    errors = [None, None, CallError.NOT_JSON, CallError.TOOL_RAISED]
    return [
        episode(
            [turn("Observe", f"start {at}")]
            + [turn(at=index, error=errors[at % 4]) for index in range(at % 5)],
            env=ENVIRONMENTS[at // 8 % 3],
            config=json.dumps({"n": at // 8}),
            attempt=at % 8,
            reward=(0.0, 1.0, 0.5)[at % 3],
            stop=stops[at % len(stops)],
        )
        for at in range(count)
    ]
