"""One sandbox for all tests of the filters."""

import pytest

from codegym_jax.envs.sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    return Sandbox()
