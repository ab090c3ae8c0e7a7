"""Presets have the parameter counts that their publishers state."""

import jax
import jax.numpy as jnp
import pytest

from codegym_jax.models.compute import Compute
from codegym_jax.models.presets import PRESETS, ModelConfig
from codegym_jax.models.transformer import Transformer

# The safetensors metadata of each checkpoint; a tied head is counted once.
PUBLISHED = {
    "smollm2-135m": 134_515_008,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwq-32b": 32_763_876_352,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
}


def parameter_count(config: ModelConfig) -> int:
    model = Transformer(config, config.vocabulary, Compute(scan_layers=True))  # traces one layer, not 80
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_every_published_shape_is_checked():
    assert set(PUBLISHED) == {name for name, config in PRESETS.items() if config.vocabulary}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    assert parameter_count(PRESETS[name]) == PUBLISHED[name]


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match=r"query_heads \(3\) must be a multiple of kv_heads \(2\)"):
        ModelConfig(width=8, layers=1, query_heads=3, kv_heads=2, head_width=4, ffn_width=8)
