"""A training set from all coding problems of three pip packages, offline: no language model, no network.

    codegym synth configs/task_set.py --out task_set

HumanEval (164 problems, MIT), CodeI/O (3,002, Apache-2.0) and `algorithms` (398, MIT) become environments
with hidden inputs. Two learnable environments, with their families, are held out as `test_env`; environments
that are too much for a tiny policy are the split `general`.

Device: 2 CPU cores. Measured results are in `LOG.md`; the card is `docs/task_set/README.md`.
"""

from codegym_jax.config import DataConfig, RunConfig, SynthesisConfig


def config() -> RunConfig:
    """Every setting that differs from the defaults."""
    return RunConfig(
        synthesis=SynthesisConfig(
            sources=("humaneval", "codeio", "algorithms"),
            problems_per_source=4_000,
            tasks_per_environment=20,
        ),
        data=DataConfig(heldout_environments=2),
    )
