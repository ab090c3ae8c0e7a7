"""placeholder"""

from codegym_jax.config import (
    DataConfig,
    EvalConfig,
    RolloutConfig,
    RunConfig,
    SftConfig,
    SynthesisConfig,
    TrainConfig,
)


def config() -> RunConfig:
    """Every setting that differs from the defaults."""
    return RunConfig(
        model="micro",
        synthesis=SynthesisConfig(
            problems_per_source=164,
            tasks_per_environment=16,
            learnable_environments=14,
            tasks_per_learnable_environment=150,
        ),
        data=DataConfig(heldout_environments=3, validation_configs=18, test_configs=37),
        sft=SftConfig(demonstrations_per_environment=12, max_demonstration_calls=8, steps=140),
        rollout=RolloutConfig(slots=64, max_tokens=176, max_turns=24),
        train=TrainConfig(
            steps=80,
            learning_rate=4e-4,
            rows_per_update=16,
            rows_per_batch=16,
            clip_high=0.28,
            checkpoint_every=20,
        ),
        evaluation=EvalConfig(max_tasks=480),
    )
