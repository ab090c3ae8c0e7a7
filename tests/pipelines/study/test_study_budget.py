"""What a token costs, and what a budget pays for."""

import dataclasses
import json

import numpy as np

from codegym_jax.data.chat import Demonstration
from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.pipelines.sft import run_sft
from codegym_jax.pipelines.study.budget import Spent, affordable_steps, spent_by_rl, spent_by_sft
from codegym_jax.pipelines.train import run_train
from codegym_jax.pipelines.workbench import Workbench, open_run
from codegym_jax.trainer.state import params_hash


def demonstration(policy_tokens: int) -> Demonstration:
    is_policy = np.array([False, *[True] * policy_tokens])
    return Demonstration(token_ids=np.zeros(len(is_policy), np.int32), is_policy=is_policy)


def test_a_learned_token_costs_three():
    assert Spent(sampled=10, learned=4).total == 22
    assert (Spent(1, 2) + Spent(3, 4)) == Spent(4, 6)


def test_updates_that_a_budget_pays_for():
    """16 rows of 20 tokens on average cost 960; 10,000 pay for 10.4 of them."""
    rows = [demonstration(10), demonstration(30)]
    assert affordable_steps(10_000, rows, 16) == 10
    assert affordable_steps(1, rows, 16) == 1


def test_rows_of_other_stages_and_of_later_steps_are_not_counted(tmp_path):
    rows = [
        {"stage": "sft", "step": 1, "tokens": 7.0},
        {"stage": "train", "step": 1, "policy_tokens": 100.0, "tokens": 40.0},
        {"stage": "train", "step": 2, "policy_tokens": 90.0},
        {"stage": "train", "step": 3, "policy_tokens": 80.0, "tokens": 20.0},
        {"stage": "control", "step": 1, "tokens": 11.0},
    ]
    lines = [json.dumps({"wall_s": 0.0, **row}) + "\n" for row in rows]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    assert spent_by_rl(tmp_path, 2) == Spent(190, 40)
    assert spent_by_rl(tmp_path, 99) == Spent(270, 60)
    assert spent_by_sft(tmp_path, "control") == Spent(0, 11)


def test_a_run_that_has_enough_ends_as_a_shorter_one(tiny_task_set, tiny_config, tmp_path):
    def train(name: str, steps: int, **more) -> str:
        settings = dataclasses.replace(tiny_config.train, steps=steps, checkpoint_every=3)
        sft = dataclasses.replace(tiny_config.sft, steps=4)
        config = dataclasses.replace(tiny_config, train=settings, sft=sft)
        open_run(config, tmp_path / name)
        bench = Workbench(config, tmp_path / name, default_cache_dir())
        bench.adopt_task_set(tiny_task_set)
        return params_hash(run_train(bench, run_sft(bench), **more))

    asked: list[int] = []

    def enough(step: int) -> bool:
        asked.append(step)
        return step >= 2

    expected = train("short", 2)
    assert train("long", 5, enough=enough) == expected
    assert asked == [1, 2]
    assert train("long", 5, enough=enough) == expected, "resumed, it plays nothing more"
    assert asked == [1, 2, 2]
