"""GRPO of Qwen2.5-1.5B-Instruct on one H100.

    codegym run configs/qwen2_5_1_5b_h100.py --run runs/qwen2_5_1_5b_h100

Device: 1 x H100 80 GB. Never run yet; the figures below are planned.

The settings are the paper's (CodeGym, arXiv 2509.17325, appendix E.1) where it gives them: 512 tasks x 8
attempts, 8 updates a step, learning rate 1e-6 with 5 steps of warm-up, AdamW 0.9 / 0.95, weight decay 0.1,
clip 0.2, no KL, 100 steps; but an eighth of the tasks a step, and episodes of 8,192 tokens where the
paper allows 29,696.

`task_sets/codegym` is the published data set after `codegym import`; any task set will do.

    codegym plan configs/qwen2_5_1_5b_h100.py --devices h100-1

    qwen2.5-1.5b on h100-1: 1 x 80.00 GB
      mesh data=1 fsdp=1 tensor=1
      a step: 8 updates of at most 32 batches of 2 rows of 8,192 tokens
      its arithmetic, were no episode shorter: 6.4e+16 FLOP, 64 s at peak speed

    GB on each device
      stays                      33.56
        parameters                6.17  1.54 G, float32
        optimizer                12.35  adamw: two moments, float32
        key-value cache          15.03  64 slots here x 8,192 tokens x 28,672 B, bfloat16
      learning                   18.44
        gradients                12.35  float32, and a sum in float32
        batches                   0.01  32 of 2 rows here x 8,192 tokens
        activations kept          1.41  28 layers, policy.remat=full
        logits                    3.73  1,024 positions: values, shares, gradients; float32
        head, whole               0.93  in bfloat16, and its gradient
      optimizer's step           21.61
        gradients                 6.17  float32
        the step                 15.44  it, and what takes the place of the old only at the end
      sampling                    7.77
        parameters to sample      3.09  a copy over data 1 x fsdp 1 x tensor 1, bfloat16
        prefill                   3.76  16 slots, taken out and put back
        attention scores          0.81  of one layer, by xla
        logits                    0.12  every slot: values, sorted, shares; float32
      peak                       55.17  69% of 80.00: fits (10% are to stay free)
"""

from codegym_jax.config import DataConfig, PolicyConfig, RolloutConfig, RunConfig, SftConfig, TrainConfig


def config() -> RunConfig:
    """Every setting that differs from the defaults."""
    return RunConfig(
        style="hermes",
        policy=PolicyConfig(
            preset="qwen2.5-1.5b",
            weights="hub:Qwen/Qwen2.5-1.5B-Instruct",
            compute_dtype="bfloat16",
            scan_layers=True,
            remat="full",
        ),
        data=DataConfig(task_set="task_sets/codegym"),
        sft=SftConfig(steps=0),
        rollout=RolloutConfig(
            tasks_per_step=64,
            attempts_per_task=8,
            slots=64,
            max_tokens=8_192,
            max_turn_tokens=1_024,
            max_turns=256,
            max_errors=256,
        ),
        train=TrainConfig(
            steps=100,
            learning_rate=1e-6,
            episodes_per_update=64,
            rows_per_batch=2,
            chunk_tokens=1_024,
        ),
    )
