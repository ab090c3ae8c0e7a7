"""Laws of the transformer, for each family that it covers: causality, that all ways through it agree, and
that it computes what an independent program computes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codegym_jax.models import kv_cache, layers_layout
from codegym_jax.models.compute import REMAT, Compute
from codegym_jax.models.presets import PRESETS, ModelConfig
from codegym_jax.models.rope import RopeScaling
from codegym_jax.models.transformer import Transformer, project, transpose

VOCABULARY = 37
LLAMA = ModelConfig(width=24, layers=2, query_heads=4, kv_heads=2, head_width=6, ffn_width=20)
FAMILIES = {
    "nano": PRESETS["nano"],
    "llama": LLAMA,
    "qwen2": dataclasses.replace(LLAMA, qkv_bias=True),
    "qwen3": dataclasses.replace(LLAMA, qk_norm=True, tied_head=False),
}
EVERYTHING = dataclasses.replace(
    LLAMA,
    rope_theta=100.0,
    norm_eps=1e-3,
    logit_scale=0.7,
    token_shift=True,
    qkv_bias=True,
    qk_norm=True,
    tied_head=False,
    rope_scaling=RopeScaling(kind="yarn", factor=2.0, original_max_positions=100),
)
BF16 = Compute(param_dtype="bfloat16", compute_dtype="bfloat16")


def tokens(rows: int, length: int):
    return jax.random.randint(jax.random.key(1), (rows, length), 0, VOCABULARY, jnp.int32)


def random_params(model: Transformer, seed: int = 0):
    """Every parameter is random: gains around 1, biases too, so that none can be forgotten unnoticed."""
    boxed = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        around = 1.0 if jax.tree_util.keystr(path).endswith("'scale']") else 0.0
        return jnp.asarray(around + 0.3 * rng.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, nn.meta.unbox(boxed)["params"])


def run(model: Transformer, method: str, params, *inputs):
    return jax.jit(lambda p, *x: model.apply({"params": p}, *x, method=method))(params, *inputs)


@pytest.fixture(params=FAMILIES, scope="module")
def model(request):
    return Transformer(FAMILIES[request.param], VOCABULARY)


@pytest.fixture(scope="module")
def params(model):
    return random_params(model)


def test_it_computes_what_the_formulas_say():
    """Every option on, one row, against loops in float64 that share no line with the model."""
    c, model = EVERYTHING, Transformer(EVERYTHING, VOCABULARY)
    params = random_params(model)
    ids = np.asarray(tokens(1, 7))[0]
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def norm(x, scale):
        return x / np.sqrt((x**2).mean() + c.norm_eps) * scale

    # YaRN by hand: 3 pairs; 3 ln(100 / (2 pi 32)) / ln 100 < 0 and 3 ln(100 / 2 pi) / ln 100 = 1.803, so the
    # ramp runs from pair 0 to pair 2 and pair 1 is halfway: 1, 100^(-1/3) (1 + 1/2) / 2 and 100^(-2/3) / 2.
    turns = np.array([1.0, 100 ** (-1 / 3) * 0.75, 100 ** (-2 / 3) / 2])

    def turn(x, position):
        pairs = (x[:3] + 1j * x[3:]) * np.exp(1j * position * turns) * (0.1 * np.log(2) + 1)
        return np.concatenate([pairs.real, pairs.imag])

    x = [p["embedding"][i] + p["previous"][j] for i, j in zip(ids, [0, *ids[:-1]], strict=True)]
    for layer in range(c.layers):
        w = p[f"blocks_{layer}"]
        keys, values = [], []
        for t, before in enumerate(list(x)):
            h = norm(before, w["attention_norm"]["scale"])
            q = (h @ w["q"] + w["q_bias"]).reshape(4, 6)
            keys.append((h @ w["k"] + w["k_bias"]).reshape(2, 6))
            values.append((h @ w["v"] + w["v_bias"]).reshape(2, 6))
            keys[t] = [turn(norm(k, w["k_norm"]["scale"]), t) for k in keys[t]]
            mixed = []
            for head in range(4):
                turned = turn(norm(q[head], w["q_norm"]["scale"]), t)
                weights = np.exp([turned @ key[head // 2] / 6**0.5 for key in keys])
                mixed.append(
                    sum(a * v[head // 2] for a, v in zip(weights / weights.sum(), values, strict=True))
                )
            y = before + np.concatenate(mixed) @ w["o"]
            h = norm(y, w["ffn_norm"]["scale"])
            gate = h @ w["gate"]
            x[t] = y + (gate / (1 + np.exp(-gate)) * (h @ w["up"])) @ w["down"]
    expected = np.stack([norm(y, p["norm"]["scale"]) @ p["head"] * 0.7 for y in x])
    got = run(model, "__call__", params, tokens(1, 7))[0]
    np.testing.assert_allclose(got, expected, atol=2e-5, rtol=1e-4)


def test_a_logit_depends_on_no_later_token(model, params):
    """Changing token t leaves the logits before t as they were, bit for bit, and moves those at t."""
    tokens_BT = tokens(2, 12)
    changed_BT = tokens_BT.at[:, 7].set((tokens_BT[:, 7] + 1) % VOCABULARY)
    logits_BTV, changed_BTV = (run(model, "__call__", params, x) for x in (tokens_BT, changed_BT))
    np.testing.assert_array_equal(logits_BTV[:, :7], changed_BTV[:, :7])
    assert (jnp.abs(logits_BTV[:, 7] - changed_BTV[:, 7]).max(axis=-1) > 1e-4).all()


def test_a_logit_depends_on_every_earlier_token(model, params):
    """The gradient of the last logits with respect to each input position is not zero."""

    def last_logit(embedding):
        return model.apply({"params": {**params, "embedding": embedding}}, tokens_BT)[0, -1].std()

    tokens_BT = jnp.arange(10, dtype=jnp.int32)[None]
    gradient_VD = jax.jit(jax.grad(last_logit))(params["embedding"])
    assert (jnp.abs(gradient_VD[:10]).max(axis=-1) > 0).all()


def appended(model: Transformer, params, tokens_BT, split: int):
    """Hidden states of rows appended at different offsets, then token by token."""
    length = tokens_BT.shape[1]
    previous_BT = jnp.pad(tokens_BT, ((0, 0), (1, 0)))[:, :-1]
    cache = kv_cache.empty(model.config, 3, 16, model.compute.dtype)

    @jax.jit
    def extend(cache, from_B, count_B, width):
        at_BT = jnp.clip(from_B[:, None] + jnp.arange(width.size)[None, :], 0, length - 1)
        block, before = (jnp.take_along_axis(x, at_BT, axis=1) for x in (tokens_BT, previous_BT))
        return model.apply({"params": params}, cache, block, before, from_B, count_B, method="extend")

    offset_B = np.zeros(3, np.int32)
    count_B = np.array([split, max(split - 3, 1), 0], np.int32)
    cache, hidden_BTD = extend(cache, offset_B, count_B, np.zeros(split))
    found = np.zeros((3, length, model.config.width), np.float32)
    for _ in range(length + 1):
        for row in range(3):
            span = slice(offset_B[row], offset_B[row] + count_B[row])
            found[row, span] = hidden_BTD[row, : count_B[row]]
        offset_B = offset_B + count_B
        count_B = (offset_B < length).astype(np.int32)
        cache, hidden_BTD = extend(cache, offset_B, count_B, np.zeros(1))
    return found


@pytest.mark.parametrize("split", [1, 5, 11])
def test_ragged_appends_equal_the_whole_sequence(model, params, split):
    """Rows appended at different offsets, then token by token, give the states of one forward pass."""
    tokens_BT = tokens(3, 12)
    expected_BTD = run(model, "hidden", params, tokens_BT)
    np.testing.assert_allclose(appended(model, params, tokens_BT, split), expected_BTD, atol=2e-5)


def test_transposed_matrices_give_the_same_logits(model, params):
    """Whole sequences, and appends; and the parameters have the shapes that such a model asks for."""
    turned, swapped = model.clone(transposed=True), transpose(params)
    tokens_BT = tokens(3, 12)
    expected_BTV = run(model, "__call__", params, tokens_BT)
    np.testing.assert_allclose(run(turned, "__call__", swapped, tokens_BT), expected_BTV, atol=2e-5)
    expected_BTD = run(model, "hidden", params, tokens_BT)
    np.testing.assert_allclose(appended(turned, swapped, tokens_BT, 5), expected_BTD, atol=2e-5)
    initial = nn.meta.unbox(jax.eval_shape(turned.init, jax.random.key(0), tokens_BT)["params"])
    assert jax.tree.map(jnp.shape, initial) == jax.tree.map(jnp.shape, swapped)


def test_ragged_appends_in_bfloat16(model):
    """The same in bfloat16, up to four roundings of states near 1. (On a CPU: no difference at all.)"""
    model = Transformer(model.config, VOCABULARY, BF16)
    params = random_params(model)
    tokens_BT = tokens(3, 12)
    hidden_BTD = run(model, "hidden", params, tokens_BT)
    assert hidden_BTD.dtype == jnp.bfloat16
    difference = np.abs(appended(model, params, tokens_BT, 5) - np.asarray(hidden_BTD, np.float32))
    assert difference.mean() < 2**-8 and difference.max() < 4 * 2**-8 * np.abs(hidden_BTD).max()


def test_bfloat16_keeps_to_float32(model):
    """Logits in bfloat16 are those of the same numbers in float32, up to rounding, and come as float32."""
    low = Transformer(model.config, VOCABULARY, BF16)
    params = random_params(low)
    got_BTV = run(low, "__call__", params, tokens(2, 12))
    exact = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    expected_BTV = run(model, "__call__", exact, tokens(2, 12))
    assert got_BTV.dtype == jnp.float32
    difference = np.asarray(jnp.abs(got_BTV - expected_BTV) / expected_BTV.std())
    assert difference.mean() < 0.02 and difference.max() < 0.2


def test_compute_type_casts_float32_parameters(model, params):
    """Parameters kept in float32 and used in bfloat16 give what bfloat16 parameters give, bit for bit."""
    kept = Transformer(model.config, VOCABULARY, Compute(compute_dtype="bfloat16"))
    cast = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    low = Transformer(model.config, VOCABULARY, BF16)
    got_BTV, expected_BTV = (run(m, "__call__", p, tokens(2, 5)) for m, p in ((kept, params), (low, cast)))
    np.testing.assert_array_equal(got_BTV, expected_BTV)


def test_logits_are_summed_in_float32():
    """257 ones make 257, which bfloat16 cannot hold: it would say 256."""
    logits_BTV = project(jnp.ones((1, 1, 257), jnp.bfloat16), jnp.ones((257, 1), jnp.bfloat16))
    assert logits_BTV.item() == 257.0


def test_packed_sequences_do_not_see_each_other(model, params):
    """Two sequences in one row give the states that each gives alone, whatever their segments' numbers."""
    tokens_BT = tokens(1, 12)
    segment_BT = jnp.array([[7] * 5 + [2] * 7])
    packed_BTD = run(model, "hidden", params, tokens_BT, segment_BT)
    alone = [run(model, "hidden", params, part) for part in (tokens_BT[:, :5], tokens_BT[:, 5:])]
    np.testing.assert_allclose(packed_BTD, jnp.concatenate(alone, axis=1), atol=2e-5)
    counted_BT = jnp.concatenate([jnp.arange(5), jnp.arange(7)])[None]
    given_BTD = run(model, "hidden", params, tokens_BT, segment_BT, counted_BT)
    np.testing.assert_array_equal(packed_BTD, given_BTD)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_rematerialization_changes_nothing_but_memory(scan_layers):
    """Same gradients under every policy; what the backward pass keeps shrinks from none to dots to full."""
    config = dataclasses.replace(EVERYTHING, layers=4)
    tokens_BT = tokens(4, 32)
    params = random_params(Transformer(config, VOCABULARY))
    params = layers_layout.stack(params) if scan_layers else params

    def compiled(remat):
        model = Transformer(config, VOCABULARY, Compute(scan_layers=scan_layers, remat=remat))
        loss = lambda p: jax.nn.logsumexp(model.apply({"params": p}, tokens_BT), axis=-1).mean()  # noqa: E731
        return jax.jit(jax.grad(loss)).lower(params).compile()

    programs = {remat: compiled(remat) for remat in REMAT}
    gradients = {remat: program(params) for remat, program in programs.items()}
    for remat in ("dots", "full"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5),
            gradients[remat],
            gradients["none"],
        )
    kept = {remat: program.memory_analysis().temp_size_in_bytes for remat, program in programs.items()}
    assert kept["full"] < kept["dots"] < kept["none"]


def test_an_append_of_no_tokens_changes_nothing(model, params):
    cache = kv_cache.KVCache(*jax.tree.map(jnp.ones_like, kv_cache.empty(model.config, 2, 8)))
    block, nothing = jnp.zeros((2, 4), jnp.int32), jnp.zeros(2, jnp.int32)
    after, _ = run(model, "extend", params, cache, block, block, nothing + 6, nothing)
    jax.tree.map(np.testing.assert_array_equal, after, cache)


def test_writes_past_the_end_are_dropped():
    cache_BKCH = jnp.zeros((1, 1, 3, 2))
    entries_BKTH = jnp.ones((1, 1, 2, 2))
    written = kv_cache.write(cache_BKCH, entries_BKTH, jnp.array([[2, 3]]))
    np.testing.assert_array_equal(written[0, 0], [[0, 0], [0, 0], [1, 1]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"remat": "some"}, "policy.remat must be one of none, full, dots, got 'some'"),
        (
            {"compute_dtype": "float16"},
            "policy.compute_dtype must be one of float32, bfloat16, got 'float16'",
        ),
    ],
)
def test_unknown_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Compute(**settings)


def test_an_impossible_backend_is_refused_before_anything_runs():
    model = Transformer(LLAMA, VOCABULARY, Compute(attention="splash"))
    with pytest.raises(ValueError, match=r"policy\.attention: 'splash': runs on tpu"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
