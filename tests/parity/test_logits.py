"""The same weights give the same logits here and in transformers, whoever wrote them.

float32: no logit differs by more than 2e-4, and the likeliest token is the same at every position.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.models import checkpoint_hf, sharding
from codegym_jax.models.compute import Compute
from codegym_jax.models.presets import PRESETS
from codegym_jax.models.transformer import Transformer
from codegym_jax.models.weights import Weights, open_weights

pytestmark = pytest.mark.parity

LARGEST_DIFFERENCE = 2e-4
SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama, tied, llama3 scaling": ("Llama", {"tie_word_embeddings": True, "rope_parameters": LLAMA3}, "5GB"),
    "llama, untied, sharded": ("Llama", {"tie_word_embeddings": False}, "100KB"),
    "llama, untied, yarn": ("Llama", {"tie_word_embeddings": False, "rope_parameters": YARN}, "5GB"),
    "llama, tied, linear scaling": ("Llama", {"tie_word_embeddings": True, "rope_parameters": LINEAR}, "5GB"),
    "qwen2, tied, sharded": ("Qwen2", {"tie_word_embeddings": True}, "100KB"),
    "qwen2, untied, yarn": ("Qwen2", {"tie_word_embeddings": False, "rope_parameters": YARN}, "5GB"),
    "qwen3, tied": ("Qwen3", {"tie_word_embeddings": True}, "5GB"),
    "qwen3, untied, sharded": ("Qwen3", {"tie_word_embeddings": False}, "100KB"),
}
TEXT = """A binary search finds a value in a sorted list by halving: it looks at the middle element, keeps the
half that may hold the value, and stops when one element is left. For 1,000,000 elements that takes 20 looks.
def search(values, wanted):
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low
"""


def some_tokens(vocabulary: int) -> np.ndarray:
    """Two rows, longer than the lengths for which scaled models were first made."""
    return np.random.default_rng(0).integers(0, vocabulary, (2, 128), np.int32)


def our_logits(weights: Weights, tokens_BT: np.ndarray, *, devices: int = 1, **compute: Any) -> np.ndarray:
    model = Transformer(weights.config, weights.vocabulary_size, Compute(**compute))
    mesh = sharding.make_mesh(1, devices, 1, devices=jax.devices()[:devices])
    params = weights.load(model, mesh)
    return np.asarray(jax.jit(model.apply)({"params": params}, jnp.asarray(tokens_BT)))


def their_logits(model: Any, tokens_BT: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(tokens_BT.astype(np.int64))).logits.numpy()


def load_theirs(folder: pathlib.Path, **settings: Any) -> Any:
    """What transformers makes of a folder, in float32 unless said otherwise; no tensor is missing or over."""
    import torch
    import transformers

    settings = {"dtype": torch.float32} | settings
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, **settings
    )
    assert not any(info.values()), info
    return model.eval()


def compare(name: str, ours_BTV: np.ndarray, theirs_BTV: np.ndarray) -> None:
    difference = np.abs(ours_BTV - theirs_BTV).max()
    agreement = (ours_BTV.argmax(-1) == theirs_BTV.argmax(-1)).mean()
    spread = theirs_BTV.std()
    print(
        f"\n{name}: {ours_BTV[..., 0].size} positions, logits of spread {spread:.2f}:"
        f" largest difference {difference:.1e}, same likeliest token {agreement:.1%}"
    )
    assert spread > 0.5, "logits so small would agree anyway"
    assert difference <= LARGEST_DIFFERENCE
    assert agreement == 1.0


def write_theirs(case: str, folder: pathlib.Path) -> Any:
    """A random checkpoint as transformers writes it; biases and norms are random as well."""
    import torch
    import transformers

    architecture, settings, shard = CASES[case]
    config = getattr(transformers, f"{architecture}Config")(**SIZES, **settings)
    torch.manual_seed(0)
    model = getattr(transformers, f"{architecture}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder, max_shard_size=shard)
    assert len(list(folder.glob("*.safetensors"))) == 1 or shard != "5GB"
    return model


@pytest.mark.parametrize("case", CASES)
def test_checkpoints_that_transformers_wrote(case, tmp_path):
    theirs = write_theirs(case, tmp_path)
    tokens_BT = some_tokens(SIZES["vocab_size"])
    expected_BTV = their_logits(theirs, tokens_BT)
    weights = open_weights(str(tmp_path))
    compare(case, our_logits(weights, tokens_BT), expected_BTV)
    compare(
        f"{case}; scanned, 8 devices",
        our_logits(weights, tokens_BT, devices=8, scan_layers=True),
        expected_BTV,
    )


@pytest.mark.parametrize("case", CASES)
def test_checkpoints_that_transformers_reads(case, tmp_path):
    """What was read from theirs and saved here is loaded there: complete, bit for bit, the same logits."""
    theirs = write_theirs(case, tmp_path / "theirs")
    weights = open_weights(str(tmp_path / "theirs"))
    model = Transformer(weights.config, weights.vocabulary_size)
    params = weights.load(model, sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1]))
    checkpoint_hf.save(tmp_path / "ours", params, model, shard_bytes=100_000)
    again = load_theirs(tmp_path / "ours")
    expected, got = theirs.state_dict(), again.state_dict()
    assert expected.keys() == got.keys()
    for name in expected:
        assert expected[name].numpy().tobytes() == got[name].numpy().tobytes(), name
    tokens_BT = some_tokens(SIZES["vocab_size"])
    np.testing.assert_array_equal(their_logits(theirs, tokens_BT), their_logits(again, tokens_BT))


def test_bfloat16_checkpoints_that_transformers_reads(tmp_path):
    import torch

    config = dataclasses.replace(PRESETS["smollm2-135m"], layers=2)
    model = Transformer(config, 320, Compute(param_dtype="bfloat16"))
    mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    params = sharding.init_parameters(model, mesh, 0, jnp.zeros((1, 1), jnp.int32))
    checkpoint_hf.save(tmp_path / "ours", params, model)
    theirs = load_theirs(tmp_path / "ours", dtype="auto").state_dict()
    assert {tensor.dtype for tensor in theirs.values()} == {torch.bfloat16}
    q_DN = theirs["model.layers.1.self_attn.q_proj.weight"].T.contiguous().view(torch.uint16).numpy()
    np.testing.assert_array_equal(q_DN, np.asarray(params["blocks_1"]["q"]).view(np.uint16))


@pytest.fixture(scope="module")
def theirs_of_smollm2(smollm2_file):
    return load_theirs(smollm2_file.parent, gguf_file=smollm2_file.name)


@pytest.fixture(scope="module")
def text_1T(smollm2_file):
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2_file.parent, gguf_file=smollm2_file.name)
    return np.asarray([tokenizer(TEXT).input_ids], np.int32)


def test_the_gguf_file_of_smollm2(smollm2, theirs_of_smollm2, text_1T):
    assert smollm2.config == PRESETS["smollm2-135m"]
    compare("SmolLM2-135M from GGUF", our_logits(smollm2, text_1T), their_logits(theirs_of_smollm2, text_1T))


def test_smollm2_saved_here_is_the_same_model_there(smollm2, theirs_of_smollm2, text_1T, tmp_path):
    model = Transformer(smollm2.config, smollm2.vocabulary_size)
    params = smollm2.load(model, sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1]))
    checkpoint_hf.save(tmp_path / "saved", params, model, shard_bytes=200_000_000)
    again = load_theirs(tmp_path / "saved")
    for name, tensor in theirs_of_smollm2.state_dict().items():
        assert tensor.numpy().tobytes() == again.state_dict()[name].numpy().tobytes(), name
    np.testing.assert_array_equal(their_logits(theirs_of_smollm2, text_1T), their_logits(again, text_1T))


def test_a_tokenizer_saved_beside_the_weights_is_loaded_as_it_is(tmp_path):
    """Digits stay apart, though a Llama's own tokenizer class knows no such rule."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    ours = Tokenizer(models.BPE(vocab=alphabet | {"12": len(alphabet)}, merges=[("1", "2")]))
    digits = pre_tokenizers.Digits(individual_digits=True)
    ours.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    ours.decoder = decoders.ByteLevel()
    config = dataclasses.replace(PRESETS["smollm2-135m"], layers=1, width=72, ffn_width=8)
    model = Transformer(config, 320)
    mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    params = sharding.init_parameters(model, mesh, 0, jnp.zeros((1, 1), jnp.int32))
    checkpoint_hf.save(tmp_path / "saved", params, model, ours.to_str())
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs("a 1200 b").input_ids == ours.encode("a 1200 b").ids
    assert len(ours.encode("12").ids) == 2
