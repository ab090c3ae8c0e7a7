"""One sandbox for all tests of guests; the first ever on a machine compiles the artefact."""

import pytest

from codegym_jax.envs.sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    return Sandbox()
