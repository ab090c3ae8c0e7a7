"""Does it generalize? 8 to 512 environments, filters, and three ways to learn, on two CPU cores.

    codegym study configs/study/miniature.py --out studies/miniature --workers 2

The task set is that of `configs/task_set.py`: 1,516 environments, made in 50 minutes unless it is in the
cache, or given by `--task-set FOLDER`. 71 of them meet the criteria of `synthesis/learnable.py`, too few to
ask about 512; 594 have 5 tasks of at most 12 calls and 550 characters, which a context of 480 tokens holds.
These take part, 64 of them held out. A policy of 0.7 million parameters will not solve many of them.

The budget is about 45 steps of reinforcement learning. A pilot of a harder pool (16 calls, 600 characters),
on 32 environments: after 144 updates of the warm start its loss was 0.024, and 6 of 64 training tasks, 1 of
64 unseen configs and none of 64 tasks of unseen environments were solved; an update took 1.6 CPU seconds, 64
episodes 2.5, of 54 policy tokens each.

Device: 2 CPU cores. Not run yet; 39 runs, by the pilot 9 to 11 CPU minutes each: 3 to 3.5 hours.
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

MAX_CALLS = 12


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
                demonstrations_per_environment=4, max_demonstration_calls=MAX_CALLS, steps=400, rows=16
            ),
            rollout=RolloutConfig(slots=64, max_tokens=480, max_turn_tokens=24, max_turns=24),
            train=TrainConfig(
                steps=2_000,  # the budget ends it
                learning_rate=5e-4,
                episodes_per_update=32,
                rows_per_batch=4,
                checkpoint_every=20,
            ),
            algorithm=AlgorithmConfig(clip_high=0.28),
            evaluation=EvalConfig(max_tasks=384),
        ),
        pool=PoolConfig(
            max_calls=MAX_CALLS,
            max_chars=550,
            tasks_per_environment=5,
            test_configs=1,
            heldout_environments=64,
        ),
        budget=800_000,
        distill_steps=20,
        arms={
            "rl": Arm(method="rl", environments=32, about="RL on all training tasks"),
            "rl-hard": Arm(
                method="rl",
                environments=32,
                about="RL on tasks that the warm start solves at most once in four (the paper's bound)",
                keep=FilterConfig(max_pass_rate=0.25),
            ),
            "rl-reach": Arm(
                method="rl",
                environments=32,
                about="RL on tasks that it solves once to three times in four",
                keep=FilterConfig(min_pass_rate=0.25, max_pass_rate=0.75),
            ),
            "rl-reach-free": Arm(
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
                arms=("rl", "rl-hard", "rl-reach", "rl-reach-free"),
            ),
            Question(title="Oracle-SFT, distillation or RL", arms=("rl", "sft", "distill")),
            Question(
                title="How many environments to train on",
                arms=("rl-8", "rl", "rl-128", "rl-512"),
                by_environments=True,
            ),
        ),
    )
