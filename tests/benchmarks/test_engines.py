"""Benchmarks of the policy's engines: what is asked, what is made of the answers, what is missing or fails.

How fast anything is, no test says.
"""

import dataclasses
import json
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks import decode, multi_turn, rl_step, train_step
from benchmarks.engines import processes, rounds
from benchmarks.engines.checkpoint import SHAPES, ensure_checkpoint, read_shape
from benchmarks.engines.workload import BOS, Decode, MultiTurn, RlStep, TrainStep
from codegym_jax.models.weights import open_weights

BENCHMARKS = {"decode": decode, "multi_turn": multi_turn, "rl_step": rl_step, "train_step": train_step}
TINY = SHAPES["tiny"]


def lines_of(capsys: pytest.CaptureFixture[str], name: str, code: int, *arguments: str) -> list[dict]:
    assert BENCHMARKS[name].main(["--shape", "tiny", "--threads", "1", "--runs", "1", *arguments]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_smollm2_has_its_published_size():
    assert SHAPES["smollm2-135m"].parameters == 134_515_008
    assert SHAPES["smollm2-135m"].cached_per_token == 2 * 30 * 3 * 64


def test_a_checkpoint_is_a_function_of_shape_and_seed(tmp_path):
    first, again = ensure_checkpoint(tmp_path / "a", "tiny"), ensure_checkpoint(tmp_path / "b", "tiny")
    other = ensure_checkpoint(tmp_path / "a", "tiny", seed=1)
    read = [(folder / "model.safetensors").read_bytes() for folder in (first, again, other)]
    assert read[0] == read[1] != read[2] and first.name == again.name != other.name
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert ensure_checkpoint(tmp_path / "a", "tiny") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written


def test_our_loader_takes_the_checkpoint(tmp_path):
    """Every tensor is accounted for there, or opening fails."""
    folder = ensure_checkpoint(tmp_path, "tiny")
    assert read_shape(folder) == TINY
    weights = open_weights(str(folder))
    assert (weights.config.width, weights.config.rope_theta) == (TINY.width, TINY.rope_theta)
    assert sum(tensor.size for tensor in load_file(folder / "model.safetensors").values()) == TINY.parameters


def test_work_is_counted_by_hand():
    """4 tokens: 24 for a parameter; 12 x layers x query channels x 4 x half of 4 positions."""
    shape = dataclasses.replace(TINY, layers=3, query_heads=2, kv_heads=1, head_width=8)
    assert TrainStep(rows=1, tokens=4).flops(shape) == 24 * shape.parameters + 4 * 12 * 3 * 16 * 2
    step = Decode(rows=2, prompt_tokens=10, new_tokens=4).step_bytes(shape, 2)
    assert step == 2 * (shape.parameters + 2 * 12 * (2 * 3 * 8))


def test_prompts_are_shared_by_attempts_and_new_in_every_round():
    work = MultiTurn()
    assert (work.episodes, work.policy_tokens, work.length) == (8, 1920, 128 + 240 + 150)
    assert work.task_of_episodes(0) == [0] * 4 + [1] * 4
    prompts = [
        tuple(work.prompt(task, 512)) for number in (-2, -1, 0, 1) for task in work.tasks_of_round(number)
    ]
    assert len(set(prompts)) == 8 and {len(ids) for ids in prompts} == {128}
    assert {ids[0] for ids in prompts} == {BOS} and min(min(ids[1:]) for ids in prompts) > 2
    rows_BT = Decode().prompts(512)
    assert rows_BT.shape == (8, 128) and len(np.unique(rows_BT, axis=0)) == 8


def test_distinct_is_that_of_the_worst_task():
    work = MultiTurn(tasks=2, attempts=3)
    assert work.distinct([[1], [2], [3], [4], [4], [5]]) == 2
    assert work.distinct([[1], [1], [1], [1], [2], [3]]) == 1


def test_a_reward_is_the_sum_of_its_messages():
    """Ids that add up to 8 and to 24, over 16 tokens and a vocabulary of 100."""
    work = RlStep(turns=2, message_tokens=8)
    first, second = [1] * 8, [3] * 8
    assert work.reward(first + second, 100) == 32 / 1600
    assert work.reward(first, 100) + work.reward(second, 100) == work.reward(first + second, 100)
    assert work.reward([99] * 16, 100) == 0.99


def test_a_task_whose_attempts_earn_the_same_teaches_nothing():
    work = RlStep(tasks=2, attempts=2)
    episodes = [[1], [2, 3], [4], [5]]
    assert work.learned_tokens(episodes, [0.1, 0.2, 0.5, 0.5]) == 3
    assert work.learned_tokens(episodes, [0.1, 0.2, 0.5, 0.6]) == 5
    assert work.learned_tokens(episodes, [0.1] * 4) == 0


def test_steps_of_learning_are_compared_by_their_rewards_and_by_what_moved():
    work = RlStep(tasks=1, attempts=2, turns=1, message_tokens=2)
    load = rounds.Load(workload=work, shape=dataclasses.replace(TINY, vocabulary=10), number_bytes=4)
    reply = {
        "episodes": [[1, 2], [3, 4]],
        "rewards": [0.15, 0.35],
        "moved": True,
        "total": 2.0,
        "rollout": 1.0,
    }
    measured = rl_step.BENCHMARK.measured(reply, load)
    assert measured == {"step": 2.0, "tokens_per_s": 2.0, "rollout": 1.0, "distinct": 2, "learned": 4}
    agrees = {
        name: rl_step.BENCHMARK.first(reply, {**reply, **changes}, load)["agrees"]
        for name, changes in {
            "same": {},
            "kept still": {"moved": False},
            "other rewards": {"rewards": [0.15, 0.36]},
            "nothing to learn": {"episodes": [[1, 2]] * 2, "rewards": [0.15] * 2, "moved": False},
            "moved by nothing": {"episodes": [[1, 2]] * 2, "rewards": [0.15] * 2},
            "cut short": {"episodes": [[1, 2], [3]], "rewards": [0.15, 0.15]},
        }.items()
    }
    assert [name for name, agreed in agrees.items() if agreed] == ["same", "nothing to learn"]
    with pytest.raises(ValueError, match="other rewards"):
        rl_step.BENCHMARK.measured({**reply, "rewards": [0.15, 0.36]}, load)
    with pytest.raises(ValueError, match="sampled 3 tokens, not 4"):
        rl_step.BENCHMARK.measured({**reply, "episodes": [[1, 2], [3]]}, load)


def test_a_ratio_is_that_of_the_medians_and_a_share_that_of_each_round():
    """Ours 20, 30, 100 and theirs 10, 20, 10: medians 30 and 10. Shares of 200, 100, 50: 0.1, 0.3, 2."""
    values = {
        ("tokens_per_s", "codegym"): {0: 20.0, 1: 30.0, 2: 100.0},
        ("tokens_per_s", "torch"): {0: 10.0, 1: 20.0, 2: 10.0},
        ("train_rate", "codegym"): {0: 20.0, 1: 30.0, 2: 100.0},
        ("matmul_rate", "machine"): {0: 200.0, 1: 100.0, 2: 50.0},
    }
    lines = {(line["measure"], line["variant"]): line for line in rounds.report(train_step.BENCHMARK, values)}
    ratio = lines["ratio", "torch"]
    assert ratio["value"] == 3.0 and ratio["values"] == [2.0, 1.5, 10.0] and ratio["runs"] == 3
    assert (ratio["goal"], ratio["met"], ratio["of"]) == (1.0, True, "tokens_per_s")
    assert lines["mfu", "codegym"]["values"] == [0.1, 0.3, 2.0]
    assert ("ratio", "codegym") not in lines and ("mfu", "machine") not in lines
    less = rounds.report(decode.BENCHMARK, {("prefill", "codegym"): {0: 2.0}, ("prefill", "tunix"): {0: 3.0}})
    assert [line["value"] for line in less if line["measure"] == "ratio"] == [1.5]


def test_engines_that_are_missing_or_fail_are_told_and_the_others_measured(tmp_path, capsys, monkeypatch):
    """This interpreter has no PyTorch: that engine fails. Of Tunix there is no environment."""
    monkeypatch.setattr(processes, "PEERS", tmp_path)
    lines = lines_of(capsys, "train_step", 1, "--python", f"torch={sys.executable}")
    by_measure = {line["measure"]: line for line in lines if line.get("variant") != "machine"}
    assert by_measure["failed"]["variant"] == "torch" and "No module" in by_measure["failed"]["reason"]
    assert by_measure["absent"]["variant"] == "tunix" and "make bench-peers" in by_measure["absent"]["reason"]
    assert by_measure["settings"]["parameters"] == TINY.parameters
    assert by_measure["tokens_per_s"]["value"] > 0 and by_measure["tokens_per_s"]["runs"] == 1
    assert by_measure["mfu"]["value"] > 0 and by_measure["compiled"]["rounds"] == 0
    assert {"copy_bandwidth", "matmul_rate"} <= {
        line["measure"] for line in lines if line.get("variant") == "machine"
    }
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert train_step.main(["--table", str(path)]) == 0
    assert "| `codegym` |" in capsys.readouterr().out


@pytest.mark.slow
def test_our_sampler_runs(capsys):
    lines = lines_of(capsys, "multi_turn", 0, "--only", "codegym", "--set", "attempts=3")
    found = {line["measure"]: line for line in lines}
    assert found["distinct"]["value"] == 3 and found["compiled"]["rounds"] == 0
    assert found["settings"]["workload"]["attempts"] == 3
    work = MultiTurn(**found["settings"]["workload"])
    # Both prompts once, and the results of all turns but the last.
    results = work.episodes * (work.turns - 1) * work.result_tokens
    assert 0 < found["prefilled"]["value"] <= work.tasks * work.prompt_tokens + results
    lines = lines_of(capsys, "decode", 0, "--only", "codegym")
    assert {"tokens_per_s", "prefill", "copy_bandwidth"} <= {line["measure"] for line in lines}


@pytest.mark.slow
def test_our_step_learns(capsys):
    """Parts add up to the step, and every round finds its programs compiled."""
    lines = lines_of(capsys, "rl_step", 0, "--only", "codegym", "--set", "attempts=3")
    found = {line["measure"]: line for line in lines}
    work = RlStep(**found["settings"]["workload"])
    assert found["distinct"]["value"] == 3 and found["learned"]["value"] == work.policy_tokens
    assert found["compiled"]["rounds"] == 0
    parts = sum(found[part]["value"] for part in ("rollout", "update", "host"))
    assert parts == pytest.approx(found["step"]["value"], rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "codegim"], "no variant codegim; there are codegym, hf_dynamic"),
        (["--set", "rows"], "--set takes SIZE=N, got 'rows'"),
        (["--set", "rows=two"], "--set takes SIZE=N, got 'rows=two'"),
    ],
)
def test_what_the_command_line_refuses(arguments, message, capsys):
    with pytest.raises(SystemExit):
        decode.main(arguments)
    assert message in capsys.readouterr().err


def test_an_unknown_size_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(SystemExit, match="no size row; there are new_tokens, prompt_tokens, rows"):
        decode.main(["--shape", "tiny", "--checkpoints", str(tmp_path), "--set", "row=2"])
