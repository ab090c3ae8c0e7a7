"""placeholder"""

from codegym_jax.config import RunConfig


def config() -> RunConfig:
    """Every setting that differs from the defaults."""
    return RunConfig()
