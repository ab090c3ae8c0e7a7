"""What is served is the policy of the run or the weights that were named; what cannot be is told at once."""

import contextlib
import dataclasses
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import openai
import pytest

from codegym_jax.config import ConfigError
from codegym_jax.data.chat import special_tokens
from codegym_jax.data.conversation import render_conversation
from codegym_jax.data.tokenizer import train_bpe
from codegym_jax.models import checkpoint_hf, sharding
from codegym_jax.models.compute import Compute
from codegym_jax.models.transformer import Transformer
from codegym_jax.models.weights import WeightsError
from codegym_jax.pipelines.served_policy import ServedPolicy, open_policy
from codegym_jax.pipelines.stages import START
from codegym_jax.pipelines.workbench import Workbench, open_run
from codegym_jax.rollout.completions import CompletionRequest
from codegym_jax.rollout.token_sampler import episode_key
from tests.models.tiny_checkpoints import tiny_config

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder as Hugging Face lays it out, of a model that says anything."""
    folder = tmp_path_factory.mktemp("pretrained") / "mine"
    tokenizer = train_bpe(["hello"] * 3, max_vocabulary=300, special_tokens=special_tokens("hermes"))
    config = tiny_config(vocabulary=300, max_positions=200)
    model = Transformer(config, 300, Compute())
    mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    params = sharding.init_parameters(model, mesh, 0, jnp.zeros((1, 2), jnp.int32))
    checkpoint_hf.save(folder, params, model)
    tokenizer.save(folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_task_set, tiny_config):
    """A run in which nothing has been learned yet."""
    folder = tmp_path_factory.mktemp("runs") / "chat"
    config = dataclasses.replace(tiny_config, style="hermes")
    open_run(config, folder)
    bench = Workbench(config, folder, folder / "cache")
    bench.copy_task_set(tiny_task_set)
    return bench


def say(policy: ServedPolicy) -> tuple[int, ...]:
    prompt = tuple(render_conversation(policy.renderer, HELLO, []))
    key = episode_key(0, "hello", 0)
    return policy.engine.complete([CompletionRequest(token_ids=prompt, max_tokens=9, key=key)])[0].token_ids


def test_a_run_is_served_with_its_parameters_tokenizer_and_context(run):
    with open_policy(str(run.folder), cache=run.cache, stage=START, slots=3) as policy:
        assert policy.model_name == "chat"
        assert policy.context_tokens == policy.engine.context_tokens == run.config.rollout.max_tokens
        assert policy.engine.load().slots == 8, "a multiple of the devices"
        first = say(policy)
    sampler = run.sampler  # the one that the run itself would sample with
    prompt = render_conversation(run.renderer, HELLO, [])
    params = run.sampling_params(run.init_params())
    sampler.start({0: episode_key(0, "hello", 0)})
    sampler.append(params, {0: prompt})
    out = sampler.decode(params, np.array([9] + [0] * (sampler.slots - 1)), 1.0)
    assert first == tuple(out.tokens_BT[0, : out.count_B[0]].tolist())


def test_weights_are_served(weights, tmp_path):
    with open_policy(str(weights), cache=tmp_path, context_tokens=150, name="other") as policy:
        assert (policy.model_name, policy.context_tokens) == ("other", 150)
        assert say(policy) == say(policy)


def test_what_cannot_be_served_is_told(weights, run, tmp_path):
    with pytest.raises(ConfigError, match="was made for 200 tokens, and 201 are asked for"):
        open_policy(str(weights), cache=tmp_path, context_tokens=201)
    with pytest.raises(WeightsError, match="not found"):
        open_policy(str(tmp_path / "nothing"), cache=tmp_path)
    compact = tmp_path / "compact"
    config = dataclasses.replace(run.config, style="compact")
    open_run(config, compact)
    Workbench(config, compact, run.cache).copy_task_set(run.folder / "task_set")
    with pytest.raises(ConfigError, match="style hermes"):
        open_policy(str(compact), cache=run.cache, stage=START)


@contextlib.contextmanager
def killed_at_last(process):
    """A test that fails must not wait for what would go on serving."""
    try:
        yield
    finally:
        process.kill()


def test_the_command_serves_until_it_is_told_to_stop(weights):
    command = [sys.executable, "-m", "codegym_jax.cli", "serve", str(weights), "--port", "0", "--slots", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, killed_at_last(process):
        name, _, url = process.stdout.readline().split()[:3]
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300) as client:
            answer = client.chat.completions.create(model=name, messages=HELLO, max_tokens=3)
        assert answer.usage.completion_tokens <= 3
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    refused = subprocess.run([*command, "--host", "0.0.0.0"], capture_output=True, text=True)
    assert refused.returncode == 2 and "must bring a token" in refused.stderr
