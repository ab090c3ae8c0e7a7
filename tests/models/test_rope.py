"""Rotary embeddings turn by known angles, and each published stretch gives the numbers of its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.models.rope import RopeScaling, rotate, scaled_frequencies


def test_rotation_depends_on_distance_only():
    """<rotate(q, m), rotate(k, n)> is a function of m - n."""
    q, k = (jax.random.normal(jax.random.key(i), (1, 1, 1, 8)) for i in (0, 1))

    def score(m, n):
        at = lambda p: jnp.array([[p]], jnp.int32)  # noqa: E731
        return (rotate(q, at(m), 500.0) * rotate(k, at(n), 500.0)).sum()

    np.testing.assert_allclose(score(9, 4), score(25, 20), rtol=1e-5)
    assert abs(score(9, 4) - score(9, 5)) > 1e-3


def test_rotation_of_a_known_angle():
    """With H = 2 there is one frequency, theta^0 = 1: position p turns (1, 0) to (cos p, sin p)."""
    x = jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2)
    turned = rotate(x, jnp.array([[2]], jnp.int32), 10_000.0).ravel()
    np.testing.assert_allclose(turned, [np.cos(2), np.sin(2)], atol=1e-6)


def test_linear_scaling_divides_every_frequency():
    """theta 10_000 and H = 4 give frequencies 1 and 1/100; four times longer texts turn four times slower."""
    scaling = RopeScaling(kind="linear", factor=4.0)
    np.testing.assert_allclose(scaled_frequencies(10_000.0, 4, scaling), [0.25, 0.0025], rtol=1e-12)
    x = jnp.array([1.0, 0.0, 0.0, 0.0]).reshape(1, 1, 1, 4)
    turned = rotate(x, jnp.array([[8]], jnp.int32), 10_000.0, scaling).ravel()
    np.testing.assert_allclose(turned, [np.cos(2), 0, np.sin(2), 0], atol=1e-6)


def test_llama3_scaling_keeps_short_wavelengths_and_stretches_long_ones():
    """Turns in the original length decide: 4 or more, kept; 1 or less, divided by 8; a line between.

    With theta = 16 and H = 8 the frequencies are 1, 1/2, 1/4 and 1/8, and 31 positions hold
    31 f / (2 pi) = 4.934, 2.467, 1.233 and 0.617 turns, so the share kept is 1, 0.489, 0.078 and 0.
    """
    scaling = RopeScaling(kind="llama3", factor=8.0, original_max_positions=31)
    kept = [1.0, (31 / (4 * np.pi) - 1) / 3, (31 / (8 * np.pi) - 1) / 3, 0.0]
    expected = [f * k + f / 8 * (1 - k) for f, k in zip([1, 1 / 2, 1 / 4, 1 / 8], kept, strict=True)]
    np.testing.assert_allclose(scaled_frequencies(16.0, 8, scaling), expected, rtol=1e-12)
    assert abs(kept[1] - 0.489) < 1e-3 and abs(kept[2] - 0.0778) < 1e-3


def test_llama3_scaling_as_published():
    """Llama 3.1: theta 500,000, H = 128, factor 8 over 8,192 positions."""
    frequency = scaled_frequencies(
        500_000.0, 128, RopeScaling(kind="llama3", factor=8.0, original_max_positions=8192)
    )
    plain = 500_000.0 ** (-np.arange(64) / 64)
    ratio = plain / frequency
    # Wavelengths are 2 pi theta^(i/64): of pair 28 it is 1,956, under 8,192 / 4, and of pair 29 2,402, over
    # it; of pair 34 it is 6,695, under 8,192, and of pair 35 8,219, over it.
    np.testing.assert_allclose(ratio[:29], 1.0, rtol=1e-12)
    np.testing.assert_allclose(ratio[35:], 8.0, rtol=1e-12)
    assert (np.diff(ratio[28:36]) > 0).all()


def test_yarn_scaling_as_published():
    """Qwen2.5 with YaRN: theta 1,000,000, H = 128, factor 4 over 32,768.

    The pair that turns b times in L positions is 64 ln(L / (2 pi b)) / ln theta: b = 32 gives 23.6, rounded
    down to 23; b = 1 gives 39.65, rounded up to 40. Pair 23 is kept, pair 40 divided by 4, and a straight
    ramp leads from one to the other: pair 31 keeps 9/17 of itself.
    """
    scaling = RopeScaling(kind="yarn", factor=4.0, original_max_positions=32_768)
    plain = 1_000_000.0 ** (-np.arange(64) / 64)
    share = scaled_frequencies(1_000_000.0, 128, scaling) / plain
    np.testing.assert_allclose(share[:24], 1.0, rtol=1e-12)
    np.testing.assert_allclose(share[40:], 0.25, rtol=1e-12)
    np.testing.assert_allclose(share[31], 9 / 17 + 8 / 17 / 4, rtol=1e-12)
    np.testing.assert_allclose(scaling.amplitude, 1.1386294361, rtol=1e-9)  # 0.1 ln 4 + 1


def test_yarn_scales_sine_and_cosine():
    """At position 0 nothing turns, and what remains is the amplitude."""
    scaling = RopeScaling(kind="yarn", factor=4.0, original_max_positions=16, attention_factor=1.5)
    turned = rotate(jnp.ones((1, 1, 1, 4)), jnp.zeros((1, 1), jnp.int32), 100.0, scaling)
    np.testing.assert_allclose(turned.ravel(), 1.5 * np.ones(4), rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "linear", "factor": 0.5}, "factor must be at least 1, got 0.5"),
        ({"kind": "yarn", "factor": 2.0}, "yarn needs original_max_positions, got 0"),
        (
            {"kind": "llama3", "factor": 2.0, "original_max_positions": 8, "low_freq_factor": 4.0},
            r"low_freq_factor \(4.0\) must be below",
        ),
    ],
)
def test_impossible_scalings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RopeScaling(**settings)
