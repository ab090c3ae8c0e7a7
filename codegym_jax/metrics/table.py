"""Every metric by name, with its unit and what it means: the list that rows, documents and charts go by."""

import re
from typing import NamedTuple


class Metric(NamedTuple):
    """What a metric's number means."""

    unit: str
    meaning: str
    group: str


GROUPS = {
    "outcome": "What the policy achieved. Rewards are the tasks' own: shaped terms never enter here",
    "episode": "What its episodes were like. Means are over all episodes that were played for the step",
    "groups": "What comparing the attempts at one task can teach",
    "learning": "What the updates did. Means over the step's updates, of means over their policy tokens; of"
    " `*_max` the largest",
    "clock": "What depends on the machine and on when the process was started. Two runs with the same seed"
    " agree on everything else, whatever was killed and resumed between",
}
"""What the metrics of a group have in common; in the order in which they are told."""

METRICS: dict[str, Metric] = {
    "reward": Metric("1", "mean reward of the valid episodes of a step", "outcome"),
    "success": Metric("1", "share of the valid episodes that earned reward 1", "outcome"),
    "ci_low": Metric("1", "lower end of the success rate's 95% interval", "outcome"),
    "ci_high": Metric("1", "upper end of the success rate's 95% interval", "outcome"),
    "n": Metric("episodes", "episodes behind the success rate", "outcome"),
    "success/<split>": Metric("1", "share of a split's episodes that earned reward 1", "outcome"),
    "ci_low/<split>": Metric("1", "lower end of its 95% interval", "outcome"),
    "ci_high/<split>": Metric("1", "upper end of its 95% interval", "outcome"),
    "n/<split>": Metric("episodes", "episodes behind it", "outcome"),
    "pass_at/<k>": Metric(
        "1",
        "chance that at least one of k attempts at a task succeeds, from its group without bias",
        "outcome",
    ),
    "valid_fraction": Metric("1", "share of episodes in which the host did not fail", "outcome"),
    "turns_per_episode": Metric(
        "turns", "mean whole messages of an episode, with or without a call", "episode"
    ),
    "calls_per_episode": Metric("calls", "mean tool calls of an episode, `Done` included", "episode"),
    "tokens_per_episode": Metric("tokens", "mean length of an episode, prompt included", "episode"),
    "tokens_per_turn": Metric(
        "tokens", "mean length of the policy's messages, those that outran their budget included", "episode"
    ),
    "policy_tokens": Metric("tokens", "tokens that the policy produced in a step", "episode"),
    "stop/<reason>": Metric("1", "share of episodes that ended so (`records.StopReason`)", "episode"),
    "call_error/<kind>": Metric("1", "share of turns that failed so (`records.CallError`)", "episode"),
    "shaped_reward": Metric(
        "1", "mean of the rewards that advantages are made of, shaped terms added", "groups"
    ),
    "signal_share": Metric(
        "1", "share of the drawn groups whose valid attempts did not all earn the same", "groups"
    ),
    "solved_share": Metric("1", "share of the drawn groups whose valid attempts all succeeded", "groups"),
    "failed_share": Metric("1", "share of the drawn groups in which no valid attempt succeeded", "groups"),
    "drawn_groups": Metric("groups", "tasks that were drawn for a step", "groups"),
    "refilled_attempts": Metric(
        "episodes", "attempts that were played again since the host failed", "groups"
    ),
    "used_episodes": Metric("episodes", "episodes with an advantage other than 0", "groups"),
    "staleness": Metric(
        "updates", "mean updates that the learner was ahead of the policy that played an episode", "groups"
    ),
    "updates": Metric("updates", "optimizer steps in a step", "learning"),
    "tokens": Metric("tokens", "tokens that the loss counted in a step", "learning"),
    "padding_share": Metric("1", "share of the batches' positions that held no token", "learning"),
    "loss": Metric("1", "what the optimizer lowers; for SFT the nats per policy token", "learning"),
    "entropy": Metric("nats", "mean entropy of the policy at its own tokens", "learning"),
    "ratio_max": Metric(
        "1", "largest ratio of a token's probability now to that before the step's first update", "learning"
    ),
    "clip_fraction": Metric("1", "share of policy tokens whose gradient the clip removed", "learning"),
    "clip_fraction_low": Metric("1", "of these, by the lower bound of the ratio", "learning"),
    "clip_fraction_high": Metric("1", "of these, by the upper bound of the ratio", "learning"),
    "mismatch_kl": Metric(
        "nats", "estimated KL from the sampler's distribution to the learner's", "learning"
    ),
    "kl_reference": Metric(
        "nats", "estimated KL from the learner's distribution to that of the starting policy", "learning"
    ),
    "importance_weight": Metric(
        "1", "mean weight that makes the sampler's tokens stand for the learner's", "learning"
    ),
    "importance_dropped": Metric("1", "share of policy tokens whose weight is 0", "learning"),
    "value_loss": Metric("1", "mean square error of the critic", "learning"),
    "value_clip_fraction": Metric(
        "1", "share of policy tokens at which the critic's clip decided", "learning"
    ),
    "explained_variance": Metric(
        "1",
        "share of the returns' variance that the critic foresaw; below 0 it is worse than none",
        "learning",
    ),
    "grad_norm": Metric("1", "global gradient norm before clipping", "learning"),
    "update_norm": Metric("1", "global norm of what the updates changed in the parameters", "learning"),
    "learning_rate": Metric("1", "of the last update", "learning"),
    "sampled_tokens_per_second": Metric(
        "tokens/s", "tokens of the policy while episodes are played", "clock"
    ),
    "tokens_per_second": Metric(
        "tokens/s", "of training, prompts and results included, padding not", "clock"
    ),
    "mfu": Metric(
        "1", "floating-point operations that the model needs, over those that the devices could do", "clock"
    ),
    "mfu_rollout": Metric("1", "the same of sampling: the policy's own tokens over `sampling_s`", "clock"),
    "mfu_update": Metric("1", "the same of learning: all tokens of its episodes over `update_s`", "clock"),
    "rollout_s": Metric("s", "time a step spent waiting for its episodes", "clock"),
    "sampling_s": Metric("s", "time spent playing them; longer where they were played ahead", "clock"),
    "tools_s": Metric(
        "s", "of that, time in tools and text, while the device had nothing to sample", "clock"
    ),
    "score_s": Metric("s", "time a step spent on log-probabilities and values before its updates", "clock"),
    "update_s": Metric("s", "time a step spent on updates", "clock"),
    "checkpoint_s": Metric("s", "time spent on the checkpoint before this step", "clock"),
    "step_s": Metric("s", "time from the row before this one, all in all", "clock"),
    "compiles": Metric("programs", "programs compiled, or loaded from the cache of compiled ones", "clock"),
    "compile_s": Metric("s", "time spent on that", "clock"),
    "wall_s": Metric("s", "time since this process opened the file", "clock"),
}
"""A name that ends in `/<word>` stands for every name with that beginning."""

CLOCK = frozenset(name for name, metric in METRICS.items() if metric.group == "clock")
"""What two runs with one seed need not agree on."""

_PATTERN = re.compile("|".join(re.sub(r"<\w+>", r"[a-z0-9_]+", name) for name in METRICS))


def declared(name: str) -> bool:
    """Whether `METRICS` says what this name means."""
    return _PATTERN.fullmatch(name) is not None
