"""GRPO of Qwen2.5-32B-Instruct on one TPU v6e pod of 256 chips.

    codegym run configs/qwen2_5_32b_v6e.py --run runs/qwen2_5_32b_v6e

Device: v6e-256 (256 chips, 64 machines of 4; a whole pod). Never run yet; the figures below are planned.

The settings are the paper's (CodeGym, arXiv 2509.17325, appendix E.1) where it gives them: 512 tasks x 8
attempts, 8 updates a step, learning rate 1e-6 with 5 steps of warm-up, AdamW 0.9 / 0.95, weight decay 0.1,
clip 0.2, no KL, 100 steps; episodes have 16,384 tokens where the paper allows 29,696.

`task_sets/codegym` is the published data set after `codegym import`; any task set will do.

    codegym plan configs/qwen2_5_32b_v6e.py --devices v6e-256

    qwen2.5-32b on v6e-256: 256 x 32.00 GB
      mesh data=1 fsdp=32 tensor=8; to sample data=1 fsdp=1 tensor=4 in each of 64 processes
      a step: 8 updates of at most 16 batches of 32 rows of 16,384 tokens
      its arithmetic, were no episode shorter: 2e+19 FLOP, 85 s at peak speed

    GB on each device
      stays                       5.84
        parameters                0.51  32.8 G, float32
        optimizer                 1.03  adamw: two moments, float32
        key-value cache           4.30  4 slots here x 16,384 tokens x 65,536 B, bfloat16
      learning                   14.23
        gradients                 1.03  float32, and a sum in float32
        batches                   0.01  16 of 1 rows here x 16,384 tokens
        activations kept         10.74  64 layers, policy.remat=full
        one layer                 2.09  all of its activations, attention by splash
        weights, whole            0.24  two layers, gathered over fsdp
        gradients, whole          0.12  of a layer, not yet scattered
      optimizer's step            1.80
        gradients                 0.51  float32
        the step                  1.29  it, and what takes the place of the old only at the end
      sampling                   21.02
        parameters to sample     16.38  a copy over data 1 x fsdp 1 x tensor 4, bfloat16
        prefill                   4.29  4 slots, taken out and put back
        attention scores          0.34  of one layer, by xla
        logits                    0.01  every slot: values, sorted, shares; float32
      peak                       26.86  84% of 32.00: fits (10% are to stay free)

    GB that each device sends
      all-gather over fsdp         15.30  a batch: weights, 2 times, and the head
      all-reduce over data, fsdp   21.34  a batch: gradients, the head's 16 times; half where XLA scatters
      all-reduce over tensor       150.3  a batch: activations, 8 a layer
      reshard to sample            16.38  a step: to data 1 x fsdp 1 x tensor 4 of each process
      all-reduce over tensor        0.01  a token: activations, 2 a layer; logits
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
            slots=256,
            max_tokens=16_384,
            max_turn_tokens=1_024,
            max_turns=256,
            max_errors=256,
        ),
        train=TrainConfig(
            steps=100,
            learning_rate=1e-6,
            episodes_per_update=512,
            rows_per_batch=32,
            chunk_tokens=1_024,
        ),
        mesh=MeshConfig(data=1, fsdp=32, tensor=8),
        sampling_mesh=SamplingMeshConfig(data=-1, fsdp=1, tensor=4),
    )
