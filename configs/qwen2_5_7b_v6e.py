"""GRPO of Qwen2.5-7B-Instruct on one TPU v6e slice of 64 chips.

    codegym run configs/qwen2_5_7b_v6e.py --run runs/qwen2_5_7b_v6e

Device: v6e-64 (64 chips, 16 machines of 4). Never run yet; the figures below are planned.

The settings are the paper's (CodeGym, arXiv 2509.17325, appendix E.1) where it gives them: 512 tasks x 8
attempts, 8 updates a step, learning rate 1e-6 with 5 steps of warm-up, AdamW 0.9 / 0.95, weight decay 0.1,
clip 0.2, no KL, 100 steps; episodes have 16,384 tokens where the paper allows 29,696.

`task_sets/codegym` is the published data set after `codegym import`; any task set will do.

    codegym plan configs/qwen2_5_7b_v6e.py --devices v6e-64

    qwen2.5-7b on v6e-64: 64 x 32.00 GB
      mesh data=1 fsdp=16 tensor=4; to sample data=1 fsdp=1 tensor=4 in each of 16 processes
      a step: 8 updates of at most 32 batches of 16 rows of 16,384 tokens
      its arithmetic, were no episode shorter: 4.7e+18 FLOP, 80 s at peak speed

    GB on each device
      stays                      16.47
        parameters                0.48  7.62 G, float32
        optimizer                 0.95  adamw: two moments, float32
        key-value cache          15.04  64 slots here x 16,384 tokens x 14,336 B, bfloat16
      learning                    6.56
        gradients                 0.95  float32, and a sum in float32
        batches                   0.01  32 of 1 rows here x 16,384 tokens
        activations kept          3.29  28 layers, policy.remat=full
        one layer                 1.96  all of its activations, attention by splash
        weights, whole            0.23  two layers, gathered over fsdp
        gradients, whole          0.12  of a layer, not yet scattered
      optimizer's step            1.67
        gradients                 0.48  float32
        the step                  1.19  it, and what takes the place of the old only at the end
      sampling                    8.62
        parameters to sample      3.81  a copy over data 1 x fsdp 1 x tensor 4, bfloat16
        prefill                   3.76  16 slots, taken out and put back
        attention scores          0.94  of one layer, by xla
        logits                    0.12  every slot: values, sorted, shares; float32
      peak                       25.09  78% of 32.00: fits (10% are to stay free)

    GB that each device sends
      all-gather over fsdp          6.37  a batch: weights, 2 times, and the head
      all-reduce over data, fsdp   14.55  a batch: gradients, the head's 16 times; half where XLA scatters
      all-reduce over tensor       39.46  a batch: activations, 8 a layer
      reshard to sample             3.81  a step: to data 1 x fsdp 1 x tensor 4 of each process
      all-reduce over tensor        0.07  a token: activations, 2 a layer; logits
"""

from codegym_jax.config import (
    DataConfig,
    MeshConfig,
    PolicyConfig,
    RolloutConfig,
    RunConfig,
    SamplingMeshConfig,
    SftConfig,
    TrainConfig,
)


def config() -> RunConfig:
    """Every setting that differs from the defaults."""
    return RunConfig(
        style="hermes",
        policy=PolicyConfig(
            preset="qwen2.5-7b",
            weights="hub:Qwen/Qwen2.5-7B-Instruct",
            compute_dtype="bfloat16",
            scan_layers=True,
            remat="full",
        ),
        data=DataConfig(task_set="task_sets/codegym"),
        sft=SftConfig(steps=0),
        rollout=RolloutConfig(
            tasks_per_step=512,
            attempts_per_task=8,
            slots=1024,
            max_tokens=16_384,
            max_turn_tokens=1_024,
            max_turns=256,
            max_errors=256,
        ),
        train=TrainConfig(
            steps=100,
            learning_rate=1e-6,
            episodes_per_update=512,
            rows_per_batch=16,
            chunk_tokens=1_024,
        ),
        mesh=MeshConfig(data=1, fsdp=16, tensor=4),
        sampling_mesh=SamplingMeshConfig(data=-1, fsdp=1, tensor=4),
    )
