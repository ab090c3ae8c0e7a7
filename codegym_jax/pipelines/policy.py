"""The section `policy` of a config as a model's parts; wrong names and values are the user's to mend."""

from codegym_jax.config import ConfigError, PolicyConfig
from codegym_jax.models.compute import Compute
from codegym_jax.models.presets import PRESETS, ModelConfig


def find_preset(name: str) -> ModelConfig:
    """The model shape called `name`.

    Raises:
      ConfigError: when there is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"policy.preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def compute_of(policy: PolicyConfig) -> Compute:
    """How the policy computes.

    Raises:
      ConfigError: when a setting has a value that there is not.
    """
    try:
        return Compute(
            param_dtype=policy.param_dtype,
            compute_dtype=policy.compute_dtype,
            scan_layers=policy.scan_layers,
            remat=policy.remat,
            attention=policy.attention,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
