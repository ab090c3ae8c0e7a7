"""Sandboxes for the attacks, one for each set of limits; all share one compiled guest."""

import functools

import pytest

from codegym_jax.envs.sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox_with():
    return functools.cache(Sandbox)
