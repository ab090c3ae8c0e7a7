"""Does it generalize? 8 to 512 environments, filters, and three ways to learn, on two CPU cores.

    codegym study configs/study/miniature.py --out studies/miniature --workers 2

Device: 2 CPU cores. Not run yet.
"""

from codegym_jax.config import (
    AlgorithmConfig,
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

MAX_CALLS = 16


def study() -> StudyConfig:
    """Every setting that differs from the defaults."""
    return StudyConfig(
        title="A generalization study in miniature",
        base=RunConfig(
            policy=PolicyConfig(preset="micro"),
            synthesis=SynthesisConfig(  # as configs/task_set.py, whose task set serves
                sources=("humaneval", "codeio", "algorithms"),
                problems_per_source=4_000,
                tasks_per_environment=20,
            ),
            data=DataConfig(heldout_environments=2),
            sft=SftConfig(
                demonstrations_per_environment=4, max_demonstration_calls=MAX_CALLS, steps=300, rows=16
            ),
            rollout=RolloutConfig(slots=64, max_tokens=480, max_turn_tokens=24, max_turns=24),
            train=TrainConfig(
                steps=400,
                learning_rate=5e-4,
                episodes_per_update=32,
                rows_per_batch=8,
                checkpoint_every=20,
            ),
            algorithm=AlgorithmConfig(clip_high=0.28),
            evaluation=EvalConfig(max_tasks=384),
        ),
        pool=PoolConfig(
            max_calls=MAX_CALLS,
            max_chars=600,
            tasks_per_environment=6,
            test_configs=2,
            heldout_environments=64,
        ),
        budget=1_000_000,
        distill_steps=20,
        arms={
            "rl": Arm(method="rl", environments=32, about="RL on all training tasks"),
            "rl-hard": Arm(
                method="rl",
                environments=32,
                about="RL on tasks that the warm start solves at most once in four (the paper's bound)",
                keep=FilterConfig(max_pass_rate=0.25),
            ),
            "rl-within-reach": Arm(
                method="rl",
                environments=32,
                about="RL on tasks that it solves once to three times in four",
                keep=FilterConfig(min_pass_rate=0.25, max_pass_rate=0.75),
            ),
            "rl-within-reach-free": Arm(
                method="rl",
                environments=32,
                about="the same, the filter's attempts not counted",
                keep=FilterConfig(min_pass_rate=0.25, max_pass_rate=0.75, is_charged=False),
            ),
            "sft": Arm(method="sft", environments=32, about="more SFT, on oracle episodes of all tasks"),
            "distill": Arm(method="distill", environments=32, about="SFT on own episodes that succeeded"),
            "rl-8": Arm(method="rl", environments=8, about="RL on 8 environments"),
            "rl-128": Arm(method="rl", environments=128, about="RL on 128 environments"),
            "rl-512": Arm(method="rl", environments=512, about="RL on 512 environments"),
        },
        questions=(
            Question(
                title="RL on filtered or unfiltered tasks",
                arms=("rl", "rl-hard", "rl-within-reach", "rl-within-reach-free"),
            ),
            Question(title="Oracle-SFT, distillation or RL", arms=("rl", "sft", "distill")),
            Question(
                title="How many environments to train on",
                arms=("rl-8", "rl", "rl-128", "rl-512"),
                by_environments=True,
            ),
        ),
    )
