"""GRPO of Qwen2.5-7B-Instruct on one TPU v5p slice of 32 chips.

    codegym run configs/qwen2_5_7b_v5p.py --run runs/qwen2_5_7b_v5p

Device: v5p-64 (32 chips, 8 machines of 4). Never run yet; the figures below are planned.

The settings are the paper's (CodeGym, arXiv 2509.17325, appendix E.1) where it gives them: 512 tasks x 8
attempts, 8 updates a step, learning rate 1e-6 with 5 steps of warm-up, AdamW 0.9 / 0.95, weight decay 0.1,
clip 0.2, no KL, 100 steps,
5,120 tokens of prompt and 24,576 of response.

`task_sets/codegym` is the published data set after `codegym import`; any task set will do.

    codegym plan configs/qwen2_5_7b_v5p.py --devices v5p-64

    qwen2.5-7b on v5p-64: 32 x 95.00 GB
      mesh data=1 fsdp=8 tensor=4; to sample data=1 fsdp=1 tensor=4 in each of 8 processes
      a step: 8 updates of at most 64 batches of 8 rows of 29,696 tokens
      its arithmetic, were no episode shorter: 9.8e+18 FLOP, 666 s at peak speed

    GB on each device
      stays                      70.99
        parameters                0.95  7.62 G, float32
        optimizer                 1.91  adamw: two moments, float32
        key-value cache          68.13  160 slots here x 29,696 tokens x 14,336 B, bfloat16
      learning                   11.81
        gradients                 1.91  float32, and a sum in float32
        batches                   0.05  64 of 1 rows here x 29,696 tokens
        activations kept          5.96  28 layers, policy.remat=full
        one layer                 3.54  all of its activations, attention by splash
        weights, whole            0.23  two layers, gathered over fsdp
        gradients, whole          0.12  of a layer, not yet scattered
      optimizer's step            3.33
        gradients                 0.95  float32
        the step                  2.38  it, and what takes the place of the old only at the end
      sampling                   13.04
        parameters to sample      3.81  a copy over data 1 x fsdp 1 x tensor 4, bfloat16
        prefill                   6.81  16 slots, taken out and put back
        attention scores          2.13  of one layer, by xla
        logits                    0.29  every slot: values, sorted, shares; float32
      peak                       84.03  88% of 95.00: fits (10% are to stay free)

    GB that each device sends
      all-gather over fsdp          5.95  a batch: weights, 2 times, and the head
      all-reduce over data, fsdp   20.02  a batch: gradients, the head's 29 times; half where XLA scatters
      all-reduce over tensor       71.52  a batch: activations, 8 a layer
      reshard to sample             3.81  a step: to data 1 x fsdp 1 x tensor 4 of each process
      all-reduce over tensor        0.17  a token: activations, 2 a layer; logits
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
            slots=1280,
            max_tokens=29_696,
            max_turn_tokens=1_024,
            max_turns=256,
            max_errors=256,
        ),
        train=TrainConfig(
            steps=100,
            learning_rate=1e-6,
            episodes_per_update=512,
            rows_per_batch=8,
            chunk_tokens=1_024,
        ),
        mesh=MeshConfig(data=1, fsdp=8, tensor=4),
        sampling_mesh=SamplingMeshConfig(data=-1, fsdp=1, tensor=4),
    )
