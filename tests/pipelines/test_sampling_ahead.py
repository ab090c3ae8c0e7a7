"""A real policy and real tools: sampled while it learns, with the parameters that it is about to lose."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import pytest

from codegym_jax.data.chat import make_renderer, special_tokens
from codegym_jax.data.curriculum import Curriculum
from codegym_jax.data.tokenizer import train_bpe
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.env import Env
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.models import sharding
from codegym_jax.models.presets import PRESETS
from codegym_jax.models.transformer import Transformer
from codegym_jax.pipelines.episode_source import SampledEpisodes, own_copy
from codegym_jax.pipelines.rollouts import StepPlayer, StepRules
from codegym_jax.records import Task
from codegym_jax.rollout.agent import Agent, EpisodeLimits
from codegym_jax.rollout.episode_log import digest, read_episodes, step_path, write_episodes
from codegym_jax.rollout.generate import Sampler

SPEC = load_environment(pathlib.Path(__file__).parents[1] / "fixtures" / "tiny" / "Test_1__PeekEnv.py")
TASKS = [Task(env_id=SPEC.env_id, config_json=f'{{"xs":[7,{n}]}}') for n in range(5)]
LIMITS = EpisodeLimits(max_tokens=96, max_turn_tokens=6, max_turns=3, max_errors=9)
TEXTS = ["Peek(0)", "Observe()", "Spin()", "Done(7)", "Error: 0123456789"]
STEPS = 3


@functools.partial(jax.jit, donate_argnums=0)
def update(params):
    """Stands for learning: other parameters, and the given ones are gone."""
    return jax.tree.map(lambda leaf: leaf * jnp.asarray(0.5, leaf.dtype), params)


@pytest.fixture(scope="module")
def parts():
    """The policy on all fake devices, and what plays with it; one for both orders, so it compiles once."""
    special = special_tokens("compact")
    renderer = make_renderer("compact", train_bpe(TEXTS * 3, max_vocabulary=300, special_tokens=special))
    mesh = sharding.make_mesh(data=4, fsdp=2)
    model = Transformer(PRESETS["nano"], renderer.vocabulary_size)
    stops = ((renderer.stop_id,), *((token,) for token in range(8, renderer.vocabulary_size, 3)))
    sampler = Sampler(model, mesh, slots=8, max_tokens=96, max_message_tokens=6, stop_sequences=stops)
    sandbox = Sandbox()
    agent = Agent(sampler, renderer, lambda spec, config: Env(sandbox, spec, config), LIMITS, seed=1)

    def start():
        return sharding.init_parameters(model, mesh, 0, jnp.zeros((1, 2), jnp.int32))

    return agent, start


def make_source(agent, folder, overlap):
    def play(params, requests, policy_version):
        return agent.play(params, requests, temperature=4.0, policy_version=policy_version)

    curriculum = Curriculum(TASKS, seed=1, tasks_per_step=2, attempts_per_task=4)
    rules = StepRules(tasks_per_step=2, attempts_per_task=4)
    return SampledEpisodes(
        StepPlayer(curriculum, lambda task: SPEC, play, rules),
        prepare=own_copy,
        save=lambda step, played: write_episodes(step_path(folder, step), played, lambda episode: ""),
        load=lambda step: list(read_episodes(step_path(folder, step))),
        overlap=overlap,
        last_step=STEPS,
    )


def test_episodes_sampled_while_learning_are_those_of_the_older_parameters(parts, tmp_path):
    """To the bit, and across a resumption in the middle."""
    agent, start = parts
    source, params, ahead = make_source(agent, tmp_path / "ahead", overlap=True), start(), []
    for step in range(1, STEPS + 1):
        ahead.append(digest(source.next(step, params, step - 1).played))
        params = update(params)
        if step == 2:
            state = source.get_state()
    source.close()

    source, older, newer, plain = make_source(agent, tmp_path / "plain", overlap=False), start(), start(), []
    for step in range(1, STEPS + 1):
        version = max(step - 2, 0)
        plain.append(digest(source.next(step, older, version).played))
        older, newer = newer, update(own_copy(newer))
    assert ahead == plain
    assert len(set(ahead)) == STEPS

    resumed = make_source(agent, tmp_path / "ahead", overlap=True)
    resumed.set_state(state)
    assert digest(resumed.next(3, params, 2).played) == ahead[2]
    resumed.close()
    assert all(leaf.is_deleted() is False for leaf in jax.tree.leaves(params))
