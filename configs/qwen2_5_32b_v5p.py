"""GRPO of Qwen2.5-32B-Instruct on one TPU v5p slice of 64 chips.

    codegym run configs/qwen2_5_32b_v5p.py --run runs/qwen2_5_32b_v5p

Device: v5p-128 (64 chips, 16 machines of 4). Never run yet; the figures below are planned.

The settings are the paper's (CodeGym, arXiv 2509.17325, appendix E.1) where it gives them: 512 tasks x 8
attempts, 8 updates a step, learning rate 1e-6 with 5 steps of warm-up, AdamW 0.9 / 0.95, weight decay 0.1,
clip 0.2, no KL, 100 steps,
5,120 tokens of prompt and 24,576 of response.

`task_sets/codegym` is the published data set after `codegym import`; any task set will do.

    codegym plan configs/qwen2_5_32b_v5p.py --devices v5p-128

    qwen2.5-32b on v5p-128: 64 x 95.00 GB
      mesh data=1 fsdp=8 tensor=8; to sample data=1 fsdp=1 tensor=4 in each of 16 processes
      a step: 8 updates of at most 64 batches of 8 rows of 29,696 tokens
      its arithmetic, were no episode shorter: 4.1e+19 FLOP, 1,382 s at peak speed

    GB on each device
      stays                      33.40
        parameters                2.05  32.8 G, float32
        optimizer                 4.10  adamw: two moments, float32
        key-value cache          27.25  14 slots here x 29,696 tokens x 65,536 B, bfloat16
      learning                   27.77
        gradients                 4.10  float32, and a sum in float32
        batches                   0.05  64 of 1 rows here x 29,696 tokens
        activations kept         19.47  64 layers, policy.remat=full
        one layer                 3.79  all of its activations, attention by splash
        weights, whole            0.24  two layers, gathered over fsdp
        gradients, whole          0.12  of a layer, not yet scattered
      optimizer's step            7.18
        gradients                 2.05  float32
        the step                  5.13  it, and what takes the place of the old only at the end
      sampling                   45.78
        parameters to sample     16.38  a copy over data 1 x fsdp 1 x tensor 4, bfloat16
        prefill                  27.25  14 slots, taken out and put back
        attention scores          2.13  of one layer, by xla
        logits                    0.03  every slot: values, sorted, shares; float32
      peak                       79.18  83% of 95.00: fits (10% are to stay free)

    GB that each device sends
      all-gather over fsdp         13.82  a batch: weights, 2 times, and the head
      all-reduce over data, fsdp   24.21  a batch: gradients, the head's 29 times; half where XLA scatters
      all-reduce over tensor       272.5  a batch: activations, 8 a layer
      reshard to sample            16.38  a step: to data 1 x fsdp 1 x tensor 4 of each process
      all-reduce over tensor        0.03  a token: activations, 2 a layer; logits
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
            preset="qwen2.5-32b",
            weights="hub:Qwen/Qwen2.5-32B-Instruct",
            compute_dtype="bfloat16",
            scan_layers=True,
            remat="full",
        ),
        data=DataConfig(task_set="task_sets/codegym"),
        sft=SftConfig(steps=0),
        rollout=RolloutConfig(
            tasks_per_step=512,
            attempts_per_task=8,
            slots=224,
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
        mesh=MeshConfig(data=1, fsdp=8, tensor=8),
        sampling_mesh=SamplingMeshConfig(data=-1, fsdp=1, tensor=4),
    )
