"""Known smells in a run's metrics, told in words: what was seen, what it means, and which setting to try.

A pure function of the rows so far. Each rule speaks once a stage, at the first row at which it holds. Where
no source is named, a threshold is one that the runs of `LOG.md` that learned stayed clear of.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Rows = Sequence[Mapping[str, Any]]
"""Of one stage, the oldest first."""


class Alarm(NamedTuple):
    """What a rule has to say about a run."""

    name: str
    """A key of `RULES`."""
    stage: str
    step: int
    seen: str
    """The numbers that set it off."""
    advice: str
    """What it means and what to try."""

    @property
    def text(self) -> str:
        """All of it, in two sentences or three."""
        return f"{self.name.replace('_', ' ')} at {self.stage} step {self.step}: {self.seen}. {self.advice}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A smell."""

    when: str
    """The condition in words."""
    advice: str
    check: Callable[[Rows], str]
    """What was seen in the last row and those before it; "" where there is nothing to say."""


def _mean(rows: Rows, name: str) -> float:
    """The mean of one metric over the rows that have it; NaN where none has."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return sum(values) / len(values) if values else math.nan


def _total(rows: Rows, *beginnings: str) -> float:
    """The mean over rows of the sum of all metrics that begin so; NaN where no row has one."""
    sums = [
        sum(row[name] or 0.0 for name in names)
        for row in rows
        if (names := [name for name in row if name.startswith(beginnings)])
    ]
    return sum(sums) / len(sums) if sums else math.nan


def _above(name: str, bound: float, words: str, *, steps: int = 5) -> Callable[[Rows], str]:
    """Says `words` (with the value) when a mean over the last steps is above a bound."""

    def check(rows: Rows) -> str:
        value = _mean(rows[-steps:], name) if len(rows) >= steps else math.nan
        return words.format(value) if value > bound else ""

    return check


def _entropy_collapse(rows: Rows) -> str:
    first, now = _mean(rows[:5], "entropy"), _mean(rows[-5:], "entropy")
    if len(rows) < 10 or not (now < 0.15 * first and now < 0.1):
        return ""
    return f"entropy is {now:.2g} nats a token, {now / first:.0%} of the {first:.2g} of the first 5 steps"


def _no_signal(rows: Rows) -> str:
    share = _mean(rows[-5:], "signal_share")
    if len(rows) < 5 or not share < 0.1:
        return ""
    solved, failed = _mean(rows[-5:], "solved_share"), _mean(rows[-5:], "failed_share")
    return (
        f"the attempts differ in {share:.1%} of the groups; all succeed in {solved:.0%}, none in {failed:.0%}"
    )


def _invalid(rows: Rows) -> str:
    share = 1.0 - _mean(rows[-3:], "valid_fraction")
    return f"the host failed in {share:.1%} of the episodes of the last 3 steps" if share > 0.05 else ""


def _truncation(rows: Rows) -> str:
    cut = _total(rows[-5:], "stop/max_tokens", "stop/turn_too_long", "stop/max_turns")
    if len(rows) < 5 or not cut > 0.4:
        return ""
    return f"{cut:.0%} of the episodes were cut off by a budget of tokens or turns"


def _failing_calls(rows: Rows) -> str:
    failed = _total(rows[-5:], "call_error/")
    return f"{failed:.0%} of the turns ended in an error" if len(rows) >= 5 and failed > 0.5 else ""


def _not_finite(rows: Rows) -> str:
    last = rows[-1]
    lost = [name for name in ("loss", "entropy") if name in last and last[name] is None]
    return f"{' and '.join(lost)} {'is' if len(lost) == 1 else 'are'} not finite" if lost else ""


def _no_reward(rows: Rows) -> str:
    last = [row.get("reward") for row in rows[-10:]]
    return (
        "no episode of the last 10 steps earned anything"
        if len(rows) >= 10 and not any(last) and 0 in last
        else ""
    )


def _reward_fell(rows: Rows) -> str:
    rows = rows[-200:]
    if len(rows) < 20:
        return ""
    now = _mean(rows[-10:], "reward")
    best = max(
        _finite(_mean(rows[at : at + 10], "reward") for at in range(0, len(rows) - 10, 5)), default=0.0
    )
    return f"reward is {now:.3f} over the last 10 steps, and was {best:.3f}" if now < 0.7 * best else ""


def _useless_critic(rows: Rows) -> str:
    foreseen = _mean(rows[-10:], "explained_variance")
    if len(rows) < 20 or not foreseen < 0.0:
        return ""
    return f"the critic explains {foreseen:.2f} of the variance of the returns"


def _host_waits(rows: Rows) -> str:
    tools_s, sampling_s = _mean(rows[-5:], "tools_s"), _mean(rows[-5:], "sampling_s")
    if len(rows) < 5 or not tools_s > 0.5 * sampling_s:
        return ""
    return f"{tools_s:.1f} of {sampling_s:.1f} s of sampling a step went into tools while the device waited"


def _compiles(rows: Rows) -> str:
    steps = sum(bool(row.get("compiles")) for row in rows[-10:])
    return f"{steps} of the last 10 steps compiled programs" if len(rows) >= 15 and steps >= 5 else ""


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


RULES: dict[str, Rule] = {
    "not_finite": Rule(
        when="a loss or an entropy is NaN or infinite (a gradient that is ends the run)",
        advice="Look for extreme ratios; try a lower train.learning_rate, a smaller train.max_grad_norm, or"
        " float32 in policy.compute_dtype.",
        check=_not_finite,
    ),
    "no_reward": Rule(
        when="the reward is 0 in 10 steps in a row",
        advice="There is nothing to learn from. Warm-start longer (sft.steps), take easier tasks"
        " (curriculum.order=easy_first, codegym filter), or read a transcript: does the policy write calls?",
        check=_no_reward,
    ),
    "reward_fell": Rule(
        when="the mean reward of 10 steps is below 70% of the best 10 of the last 200",
        advice="The policy is getting worse. Try a lower train.learning_rate, fewer updates a step"
        " (train.episodes_per_update), or a KL to the starting policy (algorithm.kl=k3).",
        check=_reward_fell,
    ),
    "no_group_signal": Rule(
        when="in less than 10% of the groups, over 5 steps, the attempts earn different rewards",
        advice="Comparing attempts teaches little then. Try curriculum.dynamic_sampling=true,"
        " curriculum.prefer_learnable, a larger rollout.attempts_per_task, or tasks of another difficulty.",
        check=_no_signal,
    ),
    "entropy_collapse": Rule(
        when="the mean entropy of 5 steps is below 0.1 nats and below 15% of that of the first 5"
        " (the smell: Yu et al. 2025, https://arxiv.org/abs/2503.14476, section 3.1)",
        advice="The policy has stopped to explore. Try a higher algorithm.clip_high (0.28), an"
        " algorithm.entropy_coefficient, or a lower train.learning_rate.",
        check=_entropy_collapse,
    ),
    "large_ratios": Rule(
        when="the largest ratio of a step, over 5 steps, is above 10 on average",
        advice="Single tokens move far within a step. Try fewer updates a step (train.episodes_per_update), a"
        " lower train.learning_rate, or algorithm.dual_clip=3.",
        check=_above("ratio_max", 10.0, "the largest ratio of a step is {:.3g} on average"),
    ),
    "sampler_mismatch": Rule(
        when="the KL from sampler to learner is above 0.05 nats a token over 5 steps",
        advice="The learner scores other distributions than the sampler draws from. Look at"
        " policy.compute_dtype and rollout.temperature; algorithm.importance=truncated corrects a part.",
        check=_above("mismatch_kl", 0.05, "the KL from sampler to learner is {:.2g} nats a token"),
    ),
    "clipping": Rule(
        when="the clip removes the gradient of more than 30% of the tokens over 5 steps",
        advice="Updates go further than the clip allows, so much of the batch is wasted. Try a lower"
        " train.learning_rate or fewer updates a step (train.episodes_per_update).",
        check=_above("clip_fraction", 0.3, "the clip removed the gradient of {:.0%} of the tokens"),
    ),
    "kl_runaway": Rule(
        when="the KL to the starting policy is above 0.5 nats a token over 5 steps",
        advice="The policy is far from where it began. If it should not be, raise algorithm.kl_coefficient or"
        " lower train.learning_rate.",
        check=_above("kl_reference", 0.5, "the KL to the starting policy is {:.2g} nats a token"),
    ),
    "useless_critic": Rule(
        when="after 20 steps, the critic explains less than nothing of the returns' variance over 10 steps",
        advice="Advantages are then noisier than without it. Try a higher algorithm.value_coefficient, a"
        " longer warm start, or an algorithm without a critic.",
        check=_useless_critic,
    ),
    "truncation": Rule(
        when="more than 40% of the episodes of 5 steps are cut off by a budget",
        advice="A cut episode earns 0 whatever it did. Raise rollout.max_tokens, rollout.max_turn_tokens or"
        " rollout.max_turns, or see algorithm.overlong.",
        check=_truncation,
    ),
    "failing_calls": Rule(
        when="more than half of the turns of 5 steps end in an error",
        advice="The policy has not learned how calls are written. Read a transcript; warm-start longer"
        " (sft.steps), or try another style.",
        check=_failing_calls,
    ),
    "host_failures": Rule(
        when="the host fails in more than 5% of the episodes of 3 steps",
        advice="Such attempts neither learn nor teach, and cost time. Look for workers that ran out of memory"
        " (sandbox.memory_bytes times rollout.slots); train.max_invalid_fraction ends the run.",
        check=_invalid,
    ),
    "device_waits": Rule(
        when="more than half of the time of sampling, over 5 steps, goes into tools",
        advice="Give the device more to do meanwhile: more rollout.slots, or train.max_off_policy_steps=1.",
        check=_host_waits,
    ),
    "recompiles": Rule(
        when="after 15 steps, 5 of 10 still compile programs",
        advice="Shapes differ from step to step. Fix train.row_tokens and train.rows_per_batch.",
        check=_compiles,
    ),
}
"""Rules by name, in the order in which they speak."""


class AlarmBell:
    """Rings for each new row that sets off a rule.

    Args:
      rows: of the run so far, of all stages; what they set off has been told already.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._rows: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self._rung: set[tuple[str, str]] = set()
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> list[Alarm]:
        """The alarms that this row sets off, none of them for a second time in its stage."""
        stage = row["stage"]
        rows = self._rows[stage]
        rows.append(row)
        found = []
        for name, rule in RULES.items():
            if (stage, name) not in self._rung and (seen := rule.check(rows)):
                self._rung.add((stage, name))
                found.append(Alarm(name, stage, row["step"], seen, rule.advice))
        return found


def alarms(rows: Iterable[Mapping[str, Any]]) -> list[Alarm]:
    """All alarms of a run, in the order in which they rang."""
    bell = AlarmBell()
    return [alarm for row in rows for alarm in bell.add(row)]
