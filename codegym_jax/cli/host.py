"""What commands use of this machine: a place for caches, and JAX with its compiled programs kept there."""

import argparse
import contextlib
import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from codegym_jax.config import RunConfig, UserError
from codegym_jax.metrics import MissingExtra, Sink, open_sinks


def cache_dir() -> pathlib.Path:
    """Where compiled guests, compiled programs and task sets are kept between runs."""
    from codegym_jax.envs.artefact import default_cache_dir

    return default_cache_dir()


def with_jax() -> None:
    """Readies JAX for a command: compiled programs are kept, and only errors are told.

    They lie where JAX is told to by JAX_COMPILATION_CACHE_DIR, a folder or a bucket, else on this machine.
    """
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):  # else JAX has read it
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    logging.getLogger("jax").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)


@contextmanager
def joined(options: argparse.Namespace) -> Iterator[Any]:
    """Readies JAX and joins the processes that the options name (`experiment_file.add_processes`), if any.

    Gives `pipelines.processes.Processes`.
    """
    with_jax()
    from codegym_jax.pipelines import processes

    with processes.joined(options.coordinator, options.process_id, options.process_count) as together:
        yield together


@contextmanager
def trackers(options: argparse.Namespace, config: RunConfig, processes: Any) -> Iterator[list[Sink]]:
    """The tools that `--log` names (`experiment_file.add_trackers`), on the process that writes the metrics.

    Raises:
      UserError: when the package of one is not installed.
    """
    names = options.log if processes.is_first else []
    with contextlib.ExitStack() as stack:
        try:
            sinks = stack.enter_context(open_sinks(names, options.run, dataclasses.asdict(config)))
        except MissingExtra as error:
            raise UserError(str(error)) from error
        yield sinks
