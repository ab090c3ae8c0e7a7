"""The whole way on a laptop CPU: real problems to verified environments, a warm start, GRPO, evaluation.

    make smoke                          # = codegym run configs/smoke_cpu.py --run runs/smoke
    codegym control configs/smoke_cpu.py --run runs/smoke

All of HumanEval and 164 problems of CodeI/O become environments. Of those, the learnable ones are trained
on (`synthesis/learnable.py`): at most 12 oracle calls, scalars of at most 3 characters, no lists and no
visible inputs, parameters copied from what was seen, answers copied or boolean and varied.

The policy starts from random weights. The head-room for RL is natural: 16 demonstrations per environment,
none longer than 8 calls, and 120 updates, while training and testing go up to 12 calls.

Device: 2 CPU cores. Measured results are in `LOG.md`.
"""

from codegym_jax.config import (
    AlgorithmConfig,
    DataConfig,
    PolicyConfig,
    RolloutConfig,
    RunConfig,
    SftConfig,
    SynthesisConfig,
    TrainConfig,
)


def config() -> RunConfig:
    """Every setting that differs from the defaults."""
    return RunConfig(
        policy=PolicyConfig(preset="micro"),
        synthesis=SynthesisConfig(
            problems_per_source=164,
            tasks_per_environment=16,
            learnable_environments=11,
            tasks_per_learnable_environment=260,
        ),
        data=DataConfig(heldout_environments=2, validation_configs=20, test_configs=65),
        sft=SftConfig(demonstrations_per_environment=16, max_demonstration_calls=8, steps=120),
        rollout=RolloutConfig(slots=64, max_tokens=160, max_turns=24),
        train=TrainConfig(
            steps=110,
            learning_rate=5e-4,
            episodes_per_update=32,
            rows_per_batch=16,
            checkpoint_every=20,
        ),
        algorithm=AlgorithmConfig(clip_high=0.28),
    )
