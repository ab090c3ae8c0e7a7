"""What commands use of this machine: a place for caches, and JAX with its compiled programs kept there."""

import logging
import pathlib


def cache_dir() -> pathlib.Path:
    """Where compiled guests, compiled programs and task sets are kept between runs."""
    from codegym_jax.envs.artefact import default_cache_dir

    return default_cache_dir()


def with_jax() -> None:
    """Readies JAX for a command: compiled programs are kept, and only errors are told."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    logging.getLogger("jax").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
