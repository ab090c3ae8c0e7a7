"""A study that proves that the machinery works, and nothing about learning.

    codegym study configs/study/tiny.py --out studies/tiny

A dozen environments of HumanEval, a policy of a few thousand parameters, one seed unless more are asked for.

Device: 2 CPU cores.
"""

from codegym_jax.config import (
    DataConfig,
    EvalConfig,
    PolicyConfig,
    RolloutConfig,
    RunConfig,
    SftConfig,
    SynthesisConfig,
    TrainConfig,
)
from codegym_jax.config.study import Arm, FilterConfig, PoolConfig, Question, StudyConfig


def study() -> StudyConfig:
    """Every setting that differs from the defaults."""
    return StudyConfig(
        title="A tiny study",
        base=RunConfig(
            policy=PolicyConfig(preset="nano"),
            synthesis=SynthesisConfig(
                sources=("humaneval",),
                problems_per_source=24,
                tasks_per_environment=12,
                learnable_environments=2,
                tasks_per_learnable_environment=12,
            ),
            data=DataConfig(heldout_environments=0, max_vocabulary=400),
            sft=SftConfig(demonstrations_per_environment=4, max_demonstration_calls=16, steps=160, rows=8),
            rollout=RolloutConfig(
                tasks_per_step=4, attempts_per_task=4, slots=16, max_tokens=256, max_turns=16
            ),
            train=TrainConfig(steps=40, episodes_per_update=16, rows_per_batch=8, checkpoint_every=2),
            evaluation=EvalConfig(max_tasks=8),
        ),
        pool=PoolConfig(
            max_calls=12, max_chars=400, tasks_per_environment=4, test_configs=1, heldout_environments=2
        ),
        budget=8_000,
        distill_steps=2,
        arms={
            "rl": Arm(method="rl", environments=4, about="reinforcement learning on all training tasks"),
            "rl-filtered": Arm(
                method="rl",
                environments=4,
                about="only tasks that the warm start does not always solve",
                keep=FilterConfig(tries=2, max_pass_rate=0.5),
            ),
            "sft": Arm(method="sft", environments=4, about="the oracle's episodes"),
            "distill": Arm(method="distill", environments=4, about="its own episodes that earned the reward"),
            "rl-2": Arm(method="rl", environments=2, about="two environments"),
        },
        questions=(
            Question(title="Filtered or unfiltered tasks", arms=("rl", "rl-filtered")),
            Question(title="Ways to learn", arms=("rl", "sft", "distill")),
            Question(title="Environments to train on", arms=("rl-2", "rl"), by_environments=True),
        ),
        seeds=(0,),
    )
