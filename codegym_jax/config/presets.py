"""Published ways to train, by name: each a list of settings, in the form of `--set`.

A preset holds what its source says and leaves the rest to the experiment: sizes that depend on the machine,
and numbers that the source does not give. `codegym train CONFIG --preset dapo` applies it after the file and
before `--set`.
"""

from collections.abc import Sequence

from codegym_jax.config.errors import ConfigError
from codegym_jax.config.parse import apply_overrides
from codegym_jax.config.run import RunConfig

PRESETS: dict[str, tuple[str, ...]] = {
    # CodeGym, arXiv 2509.17325, appendix E.1: 512 prompts of 8 attempts, 8 updates a step, no KL.
    "codegym-paper": (
        "rollout.tasks_per_step=512",
        "rollout.attempts_per_task=8",
        "rollout.temperature=1.0",
        "train.episodes_per_update=512",
        "train.optimizer=adamw",
        "train.learning_rate=1e-6",
        "train.warmup_steps=5",
        "train.weight_decay=0.1",
        "train.adam_b1=0.9",
        "train.adam_b2=0.95",
        "train.max_grad_norm=1.0",
        "algorithm.name=grpo",
        "algorithm.clip_low=0.2",
        "algorithm.clip_high=0.2",
        "algorithm.kl=none",
    ),
    # arXiv 2402.03300, section 4.2: group baseline, mean over each output first, KL of 0.04 in the loss (k3).
    "grpo": (
        "algorithm.name=grpo",
        "algorithm.mean=episode",
        "algorithm.kl=k3",
        "algorithm.kl_coefficient=0.04",
    ),
    # arXiv 2503.14476: clip-higher, dynamic sampling, mean over tokens, soft punishment over the last fifth.
    "dapo": (
        "algorithm.name=dapo",
        "algorithm.clip_low=0.2",
        "algorithm.clip_high=0.28",
        "algorithm.overlong=penalty",
        "algorithm.overlong_buffer=0.2",
        "curriculum.dynamic_sampling=true",
    ),
    # arXiv 2503.20783: no deviation, no length in a denominator.
    "dr-grpo": ("algorithm.name=dr_grpo",),
    # arXiv 2507.18071: one ratio for an episode, so the bounds are a thousand times narrower.
    "gspo": ("algorithm.name=gspo", "algorithm.clip_low=3e-4", "algorithm.clip_high=4e-4"),
    # arXiv 2506.13585: bounded weights in place of bounded gains; no lower bound.
    "cispo": ("algorithm.name=cispo", "algorithm.clip_low=1.0", "algorithm.clip_high=0.28"),
    # arXiv 2402.14740.
    "rloo": ("algorithm.name=rloo",),
    # arXiv 2501.03262: advantages normalized over the whole step.
    "reinforce-pp": ("algorithm.name=reinforce_pp",),
    # arXiv 1707.06347, with the critic of actor and critic in one network.
    "ppo": ("algorithm.name=ppo", "algorithm.gae_discount=1.0", "algorithm.gae_lambda=0.95"),
}


def apply_presets(config: RunConfig, names: Sequence[str]) -> RunConfig:
    """The config with the settings of these presets, the last of which wins.

    Raises:
      ConfigError: when there is no such preset.
    """
    for name in names:
        if name not in PRESETS:
            raise ConfigError(f"--preset must be one of {', '.join(PRESETS)}, got {name!r}")
        config = apply_overrides(config, PRESETS[name])
    return config
