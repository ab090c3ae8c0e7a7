"""Laws of the learner, on episodes that a real policy played: what it judges, what learns, what stays."""

import dataclasses

import jax
import numpy as np
import pytest

from codegym_jax.config import AlgorithmConfig, ConfigError, LoraConfig, TrainConfig, apply_overrides
from codegym_jax.data.splits import TRAIN
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines.learner import Learner
from codegym_jax.pipelines.workbench import Workbench, open_run
from codegym_jax.rollout.agent import EpisodeRequest
from codegym_jax.trainer.state import params_hash


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("learner")


@pytest.fixture(scope="module")
def bench(folder, tiny_task_set, tiny_config):
    open_run(tiny_config, folder)
    bench = Workbench(tiny_config, folder, folder / "cache")
    bench.__dict__["sandbox"] = Sandbox(tiny_config.sandbox)
    bench.adopt_task_set(tiny_task_set)
    return bench


@pytest.fixture(scope="module")
def start(bench):
    """Random parameters, on the host."""
    return jax.device_get(bench.init_params())


@pytest.fixture(scope="module")
def episodes(bench):
    """Two groups of four; a random policy earns nothing, so rewards are dealt out by hand."""
    requests = [
        EpisodeRequest(spec=bench.spec_of(task), task=task, attempt=g)
        for task in bench.tasks(TRAIN)[:2]
        for g in range(4)
    ]
    played = bench.play(bench.init_params(), requests, temperature=1.0)
    return [dataclasses.replace(one, reward=float(i % 3 == 0)) for i, one in enumerate(played)]


def make_learner(bench, start, *overrides, **changes):
    config = dataclasses.replace(apply_overrides(bench.config, overrides), **changes)
    other = Workbench(config, bench.folder, bench.cache)
    other.__dict__.update({"sandbox": bench.sandbox, "mesh": bench.mesh})
    return Learner(other, on_devices(bench, start))


def on_devices(bench, params):
    return jax.device_put(params, jax.tree.map(lambda leaf: leaf.sharding, bench.init_params()))


def taught(learner, episodes):
    """Metrics of each update of one step."""
    learned = learner.learn(1, episodes, learner.judge(episodes))
    return [{name: float(value) for name, value in one.items()} for one in jax.device_get(learned.metrics)]


def test_the_learner_judges_as_the_sampler_sampled(bench, start, episodes):
    """The same graph samples and learns: log-probabilities agree to 1e-4 on every token of the policy. With
    no update made yet, learner and reference are one policy, and every importance weight is 1."""
    learner = make_learner(
        bench,
        start,
        "algorithm.importance=truncated",
        "algorithm.kl=k3",
        "algorithm.kl_coefficient=0.1",
        "train.episodes_per_update=100",
    )
    for episode, judged in zip(episodes, learner.judge(episodes), strict=True):
        own = episode.is_policy
        np.testing.assert_allclose(judged.old_logp[own], episode.policy_logp[own], atol=1e-4)
        np.testing.assert_array_equal(judged.old_logp, judged.reference_logp)
    [metrics] = taught(learner, episodes)
    assert metrics["importance_weight"] == pytest.approx(1, abs=1e-4)
    assert metrics["kl_reference"] == pytest.approx(0, abs=1e-6)
    assert metrics["ratio_max"] == pytest.approx(1, abs=1e-4)
    [later] = taught(learner, episodes)
    assert later["kl_reference"] > 1e-5, "the reference stays where the policy was"


def test_adapters_learn_and_their_base_stays(bench, start, episodes):
    learner = make_learner(bench, start, lora=LoraConfig(rank=2, targets=("q", "v")))
    before = params_hash(bench.init_params())
    assert params_hash(learner.policy()) == before
    taught(learner, episodes)
    after = jax.device_get(learner.policy())
    changed = {
        jax.tree_util.keystr(path)
        for (path, old), new in zip(
            jax.tree_util.tree_leaves_with_path(start), jax.tree.leaves(after), strict=True
        )
        if not np.array_equal(old, new)
    }
    assert changed == {f"['blocks_{i}']['{name}']" for i in range(len(changed) // 2) for name in "qv"}
    assert params_hash(learner._frozen) == before
    assert len(jax.tree.leaves(learner.state.params)) == 2 * len(changed), "nothing else is kept or saved"


def test_a_critic_learns_beside_the_policy(bench, start, episodes):
    """Its first values are 0, so its first error is the mean squared return; then it falls."""
    learner = make_learner(
        bench,
        start,
        algorithm=AlgorithmConfig(name="ppo", gae_lambda=1.0, value_clip=0.0),
        train=TrainConfig(episodes_per_update=100, rows_per_batch=8, learning_rate=1e-2, warmup_steps=0),
    )
    tokens = np.array([one.is_policy[1:].sum() for one in episodes])
    share = (tokens * [one.reward for one in episodes]).sum() / tokens.sum()
    errors = [taught(learner, episodes)[0]["value_loss"] for _ in range(4)]
    assert errors[0] == pytest.approx(share, rel=1e-4)
    assert errors[-1] < 0.9 * errors[0]
    assert "critic" not in learner.policy()


def test_a_step_in_which_nobody_differs_changes_nothing(bench, start, episodes):
    learner = make_learner(bench, start)
    same = [dataclasses.replace(one, reward=1.0) for one in episodes]
    assert taught(learner, same) == []
    assert params_hash(learner.policy()) == params_hash(bench.init_params())


def test_a_step_that_keeps_no_group_changes_nothing(bench, start):
    """Dynamic sampling may find no group with a signal in all its draws."""
    learner = make_learner(bench, start, "curriculum.dynamic_sampling=true")
    before = params_hash(learner.state.params)
    learned = learner.learn(1, [], learner.judge([]))
    assert (learned.metrics, learned.lengths) == ([], [])
    assert params_hash(learner.state.params) == before


def test_how_rows_are_packed_changes_no_update(bench, start, episodes):
    """Narrow rows of one episode and wide rows of several: the same gradient, to rounding."""
    norms = []
    for row_tokens in (96, 384):
        learner = make_learner(
            bench, start, f"train.row_tokens={row_tokens}", "train.episodes_per_update=100"
        )
        norms.append(taught(learner, episodes)[0]["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_an_unknown_algorithm_is_named(bench, start):
    with pytest.raises(ConfigError, match=r"algorithm.name must be one of grpo, .* got 'grp'"):
        make_learner(bench, start, "algorithm.name=grp")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.row_tokens=20"], "train.row_tokens must be 0, or at least rollout.max_tokens = .* got 20"),
        (["algorithm.name=cispo", "algorithm.dual_clip=3"], "algorithm.dual_clip must be 0 with .*cispo"),
        (["algorithm.name=ppo", "rollout.temperature=0.7"], "truncated or masked with rollout.temperature"),
        (
            ["algorithm.name=ppo", "train.max_off_policy_steps=1"],
            "algorithm.importance must be truncated or masked with train.max_off_policy_steps",
        ),
    ],
)
def test_settings_that_contradict_are_named(bench, start, overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_learner(bench, start, *overrides)
