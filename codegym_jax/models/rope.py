"""Rotary position embedding, and the published ways to stretch it over longer texts."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Kind = Literal["linear", "llama3", "yarn"]
KINDS: tuple[Kind, ...] = ("linear", "llama3", "yarn")


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeScaling:
    """Changes the rotary frequencies f_i of a model whose texts grow `factor` times longer.

    linear: f_i / factor.
    llama3: f_i for wavelengths under original / high_freq_factor, f_i / factor for those above
      original / low_freq_factor, and between them a blend that is linear in original / wavelength.
    yarn: f_i for pairs that turn more than beta_fast times in the original length, f_i / factor for those
      that turn less than beta_slow times, and a ramp between; sine and cosine are scaled by `amplitude`.

    A fourth kind that circulates, "dynamic", changes all frequencies with the length of the text, so that
    keys in the cache would not stay valid; it is refused.

    Raises:
      ValueError: when the kind is unknown, the factor is below 1, or `original_max_positions` is missing.

    Source: linear: Chen et al. 2023, https://arxiv.org/abs/2306.15595. llama3: the Llama 3.1 release, Dubey
      et al. 2024, https://arxiv.org/abs/2407.21783. yarn: Peng et al. 2023, https://arxiv.org/abs/2309.00071,
      sections 3.2 to 3.4. Field names and defaults as in the models' own config.json.
    """

    kind: Kind
    factor: float
    original_max_positions: int = 0  # the length that the model was first trained for; llama3 and yarn
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    attention_factor: float | None = None  # yarn; None: 0.1 ln(factor) + 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"rope_scaling: kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.factor < 1:
            raise ValueError(f"rope_scaling: factor must be at least 1, got {self.factor}")
        if self.kind != "linear" and self.original_max_positions < 1:
            raise ValueError(
                f"rope_scaling: {self.kind} needs original_max_positions, got {self.original_max_positions}"
            )
        if self.kind == "llama3" and self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                f"rope_scaling: low_freq_factor ({self.low_freq_factor}) must be below"
                f" high_freq_factor ({self.high_freq_factor})"
            )

    @property
    def amplitude(self) -> float:
        """What sine and cosine are multiplied by; 1 but for yarn."""
        if self.kind != "yarn":
            return 1.0
        return 0.1 * math.log(self.factor) + 1.0 if self.attention_factor is None else self.attention_factor


def scaled_frequencies(theta: float, head_width: int, scaling: RopeScaling) -> np.ndarray:
    """Turns in radians per position of each of the H/2 pairs, in float64."""
    half = head_width // 2
    frequency = float(theta) ** (-np.arange(half, dtype=np.float64) / half)
    if scaling.kind == "linear":
        return frequency / scaling.factor
    if scaling.kind == "llama3":
        cycles = scaling.original_max_positions * frequency / (2 * math.pi)  # original length over wavelength
        low, high = scaling.low_freq_factor, scaling.high_freq_factor
        kept = np.clip((cycles - low) / (high - low), 0.0, 1.0)
    else:
        first, last = (
            half * math.log(scaling.original_max_positions / (turns * 2 * math.pi)) / math.log(theta)
            for turns in (scaling.beta_fast, scaling.beta_slow)
        )
        first, last = max(math.floor(first), 0), min(math.ceil(last), head_width - 1)
        kept = 1.0 - np.clip((np.arange(half) - first) / max(last - first, 1e-3), 0.0, 1.0)
    return frequency * kept + frequency / scaling.factor * (1.0 - kept)


def rotate(
    x_BTNH: Float[Array, "B T N H"],
    positions_BT: Int[Array, "B T"],
    theta: float,
    scaling: RopeScaling | None = None,
) -> Float[Array, "B T N H"]:
    """Rotary position embedding, halves convention: pairs (i, i + H/2) turn by position * theta^(-2i/H).

    Turns in float32 whatever comes in. `scaling` changes the frequencies.

    Source: RoFormer, Su et al. 2021, https://arxiv.org/abs/2104.09864, eq. 34.
    """
    half = x_BTNH.shape[-1] // 2
    if scaling is None:
        frequency: Any = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    else:
        frequency = jnp.asarray(scaled_frequencies(theta, 2 * half, scaling), jnp.float32)
    angle = positions_BT[:, :, None, None].astype(jnp.float32) * frequency[None, None, None, :]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    if scaling is not None and scaling.amplitude != 1.0:
        cos, sin = cos * scaling.amplitude, sin * scaling.amplitude
    low, high = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)
    return turned.astype(x_BTNH.dtype)
