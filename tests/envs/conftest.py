"""One sandbox for all tests of guests; the first ever on a machine compiles the artefact."""

import pytest
from hypothesis import settings

from codegym_jax.envs.sandbox import Sandbox

settings.register_profile("patient", deadline=None)  # a busy machine must not fail a test
settings.load_profile("patient")


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    return Sandbox()
