"""The policy that a config names: its shape, weights, tokenizer and layouts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codegym_jax.config import ConfigError, PolicyConfig, SamplingMeshConfig
from codegym_jax.data.chat import special_tokens
from codegym_jax.data.splits import TEST_CONFIG
from codegym_jax.data.tokenizer import train_bpe
from codegym_jax.models import checkpoint_hf, layers_layout
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Transformer
from codegym_jax.pipelines.stages import START, newest_stage, stage_params
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.rollout.agent import EpisodeRequest

SHAPE = ModelConfig(width=32, layers=2, query_heads=2, kv_heads=1, head_width=16, ffn_width=48)


@pytest.fixture
def bench_of(tmp_path, tiny_config, tiny_task_set):
    """Makes the workbench of a run with these settings of the policy."""

    def make(**policy) -> Workbench:
        config = dataclasses.replace(tiny_config, policy=PolicyConfig(**{"preset": "nano", **policy}))
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        bench = Workbench(config, folder, tmp_path)
        bench.adopt_task_set(tiny_task_set)
        return bench

    return make


def episodes_of(bench: Workbench, params, count: int = 6):
    tasks = bench.tasks(TEST_CONFIG)[:count]
    requests = [EpisodeRequest(spec=bench.spec_of(task), task=task, attempt=0) for task in tasks]
    return bench.play(params, requests, temperature=1.0)


def same(one, other) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.token_ids.tolist() == b.token_ids.tolist() and a.stop_reason is b.stop_reason
        np.testing.assert_allclose(a.policy_logp, b.policy_logp, atol=1e-4)


def test_stacked_layers_play_the_episodes_of_layers_by_themselves(bench_of):
    stacked = bench_of(scan_layers=True)
    apart = bench_of()
    params = stacked.init_params()
    same(episodes_of(stacked, params), episodes_of(apart, layers_layout.unstack(params)))


def test_a_layout_for_sampling_changes_no_episode(bench_of):
    bench = bench_of()
    other = dataclasses.replace(
        bench,
        config=dataclasses.replace(bench.config, sampling_mesh=SamplingMeshConfig(data=4, fsdp=1, tensor=2)),
    )
    assert dict(other.sampling_mesh.shape) == {"data": 4, "fsdp": 1, "tensor": 2}
    params = bench.init_params()
    same(episodes_of(bench, params), episodes_of(other, params))


@pytest.fixture
def pretrained(tmp_path):
    """A folder as the hub has them: weights, config, tokenizer."""
    tokenizer = train_bpe(["a call"], max_vocabulary=400, special_tokens=special_tokens("compact"))
    model = Transformer(SHAPE, tokenizer.vocabulary_size)
    params = nn.meta.unbox(model.init(jax.random.key(3), jnp.zeros((1, 2), jnp.int32))["params"])
    return model, params, tokenizer


def test_weights_bring_their_shape_and_tokenizer(tmp_path, bench_of, pretrained):
    model, params, tokenizer = pretrained
    folder = tmp_path / "weights"
    checkpoint_hf.save(folder, params, model, tokenizer_json=tokenizer.to_json())
    bench = bench_of(preset="tiny", weights=str(folder))
    assert bench.model.config.width == SHAPE.width and newest_stage(bench) == START
    assert bench.renderer.tokenizer.to_json() == tokenizer.to_json()
    loaded = stage_params(bench, START)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), loaded, params))
    assert all(episode.turns or episode.stop_reason for episode in episodes_of(bench, loaded, 2))


def test_weights_without_a_tokenizer_and_with_too_few_ids_are_named(tmp_path, bench_of, pretrained):
    model, params, _ = pretrained
    folder = tmp_path / "weights"
    checkpoint_hf.save(folder, params, model)
    with pytest.raises(ConfigError, match=r"policy.weights: .*weights has no tokenizer.json"):
        bench_of(weights=str(folder)).renderer  # noqa: B018
    names = [*special_tokens("compact"), "<|one|>", "<|more|>"]
    (tmp_path / "more").mkdir()
    train_bpe(["a call"], max_vocabulary=400, special_tokens=names).save(tmp_path / "more" / "tokenizer.json")
    too_many = bench_of(weights=str(folder), tokenizer=str(tmp_path / "more"))
    with pytest.raises(ConfigError, match=r"policy.tokenizer: its ids go up to"):
        _ = too_many.model


def test_an_unknown_preset_is_named_with_those_there_are(bench_of):
    with pytest.raises(ConfigError, match=r"policy.preset must be one of nano, .*, got 'huge'"):
        bench_of(preset="huge").model  # noqa: B018
