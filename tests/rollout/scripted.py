"""Episodes by script, for several tests: what a policy says is given, everything else is real."""

import json
from collections.abc import Sequence

import numpy as np

from codegym_jax.data.chat import Renderer, make_renderer, special_tokens
from codegym_jax.data.tokenizer import train_bpe
from codegym_jax.envs.env import Env
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Episode, Task
from codegym_jax.rollout.agent import Agent, EpisodeLimits, EpisodeRequest
from codegym_jax.rollout.token_sampler import Sampled

LIMITS = EpisodeLimits(max_tokens=4000, max_turn_tokens=200, max_turns=20, max_errors=9)


def act(name: str, **parameters: object) -> str:
    """One action, as environments take it."""
    return json.dumps({"name": name, "parameters": parameters})


def small_renderer(style: str) -> Renderer:
    """Of a tokenizer that knows little more than bytes."""
    trained = train_bpe(["Peek Observe"] * 3, max_vocabulary=300, special_tokens=special_tokens(style))
    return make_renderer(style, trained)


class Script:
    """Stands in for the device: one slot that says its messages one after the other, with odd scores."""

    slots = 1

    def __init__(self, renderer: Renderer, messages: Sequence[list[int]]):
        self.stop_sequences = renderer.stop_sequences
        self._messages, self._rest = iter(messages), []

    def start(self, slot_keys):
        pass

    def append(self, params, tokens_of):
        if tokens_of:
            self._rest = next(self._messages)

    def decode(self, params, budget_B, temperature):
        ids, self._rest = self._rest[: budget_B[0]], self._rest[budget_B[0] :]
        logp_BT = -np.arange(1, len(ids) + 1, dtype=np.float32)[None] / 7
        return Sampled(np.array([ids], np.int32), logp_BT, logp_BT / 3, np.array([len(ids)], np.int32))


def play(
    sandbox: Sandbox,
    renderer: Renderer,
    spec: EnvSpec,
    config_json: str,
    said: Sequence[str],
    limits: EpisodeLimits = LIMITS,
) -> Episode:
    """One episode.

    Args:
      said: actions, written in the renderer's style, and other messages, which are said as they are.
    """
    messages = []
    for one in said:
        is_action = one.startswith('{"name"')
        stop = [renderer.stop_id]
        messages.append(
            renderer.render_call(one, spec) if is_action else [*renderer.tokenizer.encode(one), *stop]
        )
    agent = Agent(Script(renderer, messages), renderer, lambda *of: Env(sandbox, *of), limits=limits, seed=0)
    request = EpisodeRequest(spec=spec, task=Task(env_id=spec.env_id, config_json=config_json), attempt=2)
    return agent.play(None, [request], temperature=1.0, policy_version=5)[0]
