"""GRPO of Qwen2.5-7B-Instruct on one node of 8 H100.

    codegym run configs/qwen2_5_7b_8xh100.py --run runs/qwen2_5_7b_8xh100

Device: 8 x H100 80 GB (one host). Never run yet; the figures below are planned.

The settings are the paper's (CodeGym, arXiv 2509.17325, appendix E.1) where it gives them: 512 tasks x 8
attempts, 8 updates a step, learning rate 1e-6 with 5 steps of warm-up, AdamW 0.9 / 0.95, weight decay 0.1,
clip 0.2, no KL, 100 steps; but a quarter of the tasks a step, and episodes of 16,384 tokens where the paper
allows 29,696.

`task_sets/codegym` is the published data set after `codegym import`; any task set will do.

    codegym plan configs/qwen2_5_7b_8xh100.py --devices h100-8

    qwen2.5-7b on h100-8: 8 x 80.00 GB
      mesh data=1 fsdp=8 tensor=1; to sample data=2 fsdp=1 tensor=4
      a step: 8 updates of at most 16 batches of 8 rows of 16,384 tokens
      its arithmetic, were no episode shorter: 1.2e+18 FLOP, 148 s at peak speed

    GB on each device
      stays                      33.98
        parameters                3.81  7.62 G, float32
        optimizer                 7.62  adamw: two moments, float32
        key-value cache          22.55  96 slots here x 16,384 tokens x 14,336 B, bfloat16
      learning                   18.34
        gradients                 7.62  float32, and a sum in float32
        batches                   0.01  16 of 1 rows here x 16,384 tokens
        activations kept          3.29  28 layers, policy.remat=full
        one layer                 4.95  all of its activations, attention by cudnn
        attention mask            1.07  16,384 x 16,384 of each row, and its gradient
        weights, whole            0.93  two layers, gathered over fsdp
        gradients, whole          0.47  of a layer, not yet scattered
      optimizer's step           13.33
        gradients                 3.81  float32
        the step                  9.52  it, and what takes the place of the old only at the end
      sampling                    8.68
        parameters to sample      3.81  a copy over data 2 x fsdp 1 x tensor 4, bfloat16
        prefill                   3.76  16 slots, taken out and put back
        attention scores          0.94  of one layer, by xla
        logits                    0.18  every slot: values, sorted, shares; float32
      peak                       52.32  65% of 80.00: fits (10% are to stay free)

    GB that each device sends
      all-gather over fsdp         23.79  a batch: weights, 2 times, and the head
      all-reduce over data, fsdp   53.84  a batch: gradients, the head's 16 times; half where XLA scatters
      reshard to sample             3.81  a step: to data 2 x fsdp 1 x tensor 4
      all-reduce over tensor        0.10  a token: activations, 2 a layer; logits
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
            tasks_per_step=128,
            attempts_per_task=8,
            slots=192,
            max_tokens=16_384,
            max_turn_tokens=1_024,
            max_turns=256,
            max_errors=256,
        ),
        train=TrainConfig(
            steps=100,
            learning_rate=1e-6,
            episodes_per_update=128,
            rows_per_batch=8,
            chunk_tokens=1_024,
        ),
        mesh=MeshConfig(data=1, fsdp=8, tensor=1),
        sampling_mesh=SamplingMeshConfig(data=2, fsdp=1, tensor=4),
    )
