"""Shapes a run's numbers for the page: sentences, rows and charts. No HTML here but what `charts` returns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from codegym_jax.metrics import METRICS, Alarm, series
from codegym_jax.metrics import alarms as find_alarms
from codegym_jax.report import charts
from codegym_jax.report.run_folder import MODES, PHASES, SPLITS, RunFolder
from codegym_jax.report.timeline import duration

_NAMES = {"test_config": "Unseen configs", "test_env": "Unseen environments"}
_NOTES = {
    "test_config": "environments it trained on, inputs it never saw",
    "test_env": "environments it never saw, with tools of their own",
}
_PHASE_LABELS = {"before": "before RL", "after": "after RL", "control": "control, more SFT"}
_DIAGNOSTICS = (
    ("Groups with a signal", "signal_share", True),
    ("Groups that all solve", "solved_share", True),
    ("Groups that none solves", "failed_share", True),
    ("Used episodes", "used_episodes", False),
    ("Shaped reward", "shaped_reward", False),
    ("Policy loss", "loss", False),
    ("Gradient norm", "grad_norm", False),
    ("Update norm", "update_norm", False),
    ("Clip fraction", "clip_fraction", True),
    ("Largest ratio", "ratio_max", False),
    ("KL, sampler to learner", "mismatch_kl", False),
    ("KL, learner to start", "kl_reference", False),
    ("Importance weight", "importance_weight", False),
    ("Value loss", "value_loss", False),
    ("Explained variance", "explained_variance", False),
    ("Valid episodes", "valid_fraction", True),
    ("Turns per episode", "turns_per_episode", False),
    ("Tokens per episode", "tokens_per_episode", False),
    ("Tokens per turn", "tokens_per_turn", False),
    ("Staleness", "staleness", False),
    ("Sampled tokens per second", "sampled_tokens_per_second", False),
    ("Learned tokens per second", "tokens_per_second", False),
    ("Model FLOPs utilization", "mfu", True),
    ("Seconds in tools", "tools_s", False),
    ("Programs compiled", "compiles", False),
)
"""Title, metric, and whether it is shown times 100."""
_PALETTE = tuple(f"var(--c{index})" for index in range(1, 9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A success rate as a dot with whiskers; positions in percent of the scale."""

    phase: str
    label: str
    text: str
    interval: str
    n: int
    at: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One held-out split: what is said of it, and its rates as sampled and greedy."""

    name: str
    note: str
    sentence: str
    sampled: list[Rate]
    greedy: list[Rate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart with its words."""

    title: str
    note: str
    trend: str
    chart: Markup
    legend: list[tuple[str, str]]
    """(color, label); empty for a single series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvRow:
    """One environment before and after; positions in percent."""

    env_id: str
    split: str
    n: int
    before: float | None
    after: float | None
    control: float | None
    change: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A labeled count with its share of the longest."""

    label: str
    text: str
    share: float
    color: str = "var(--c1)"


def headline(run: RunFolder) -> list[Split]:
    """The held-out splits that have been evaluated."""
    found = []
    for split in SPLITS:
        sampled, greedy = (_rates(run, mode, split) for mode in MODES)
        if sampled or greedy:
            found.append(
                Split(
                    name=_NAMES[split],
                    note=_NOTES[split],
                    sentence=_sentence(run, split),
                    sampled=sampled,
                    greedy=greedy,
                )
            )
    return found


def curves(run: RunFolder) -> tuple[list[Figure], list[Figure]]:
    """The learning curves, and the diagnostics behind them; what was not measured is left out."""
    main = [
        _lines(run, "SFT loss", "loss", {"sft": "warm start", "control": "control"}),
        _lines(run, "Reward", "reward", {"train": "reward"}, percent=True),
        _by_kind(run, "Pass@k", "pass_at/", stacked=False, label="k = {}"),
        _by_kind(run, "How episodes end", "stop/", stacked=True),
        _lines(run, "Calls per episode", "calls_per_episode", {"train": "calls"}),
        _lines(run, "Entropy", "entropy", {"train": "entropy"}),
        _by_kind(run, "Calls that fail", "call_error/", stacked=True),
        _by_kind(run, "Success on held-out tasks", "success/", stacked=False),
    ]
    more = [
        _lines(run, title, name, {"train": name}, percent=percent)
        for title, name, percent in _DIAGNOSTICS
        if any(series(run.metrics, "train", name)[1])  # what was 0 throughout says nothing
    ]
    return [figure for figure in main if figure], [figure for figure in more if figure]


def alarms(run: RunFolder) -> list[Alarm]:
    """What in the run's metrics is a known smell, in the order in which it was seen."""
    return find_alarms(run.metrics)


def environments(run: RunFolder) -> list[EnvRow]:
    """Success by environment, the largest change first within each split."""
    rows = []
    for split in SPLITS:
        counts = {phase: run.rate("sampled", split, phase).get("by_env", {}) for phase in PHASES}
        found = [
            _env_row(env_id, _NAMES[split], {phase: by_env.get(env_id) for phase, by_env in counts.items()})
            for env_id in sorted({env_id for by_env in counts.values() for env_id in by_env})
        ]
        rows += sorted(found, key=lambda row: -row.change)
    return rows


def accepted(run: RunFolder) -> str:
    """What passed verification, in one sentence; empty while that is not known."""
    environment_count, task_count = run.counts.get("environments"), run.counts.get("tasks")
    if environment_count is None or task_count is None:
        return ""
    return f"{environment_count:,} environments with {task_count:,} tasks passed verification in the sandbox."


def rejections(run: RunFolder) -> list[Bar]:
    """How often synthesis and verification said no, and why; the commonest reason first."""
    reasons = run.result.get("rejections") or run.manifest.get("rejections") or {}
    counts = [(reason, count) for reason, count in reasons.items() if isinstance(count, int)]
    counts.sort(key=lambda item: (-item[1], item[0]))
    longest = max((count for _, count in counts), default=1)
    return [
        Bar(label=reason.replace("_", " "), text=f"{count:,}", share=100 * count / max(longest, 1))
        for reason, count in counts
    ]


def facts(run: RunFolder) -> list[tuple[str, str]]:
    """The run in a line: (figure, what it counts)."""
    result = run.result
    found = [
        (f"{run.counts[key]:,}", name)
        for key, name in (
            ("environments", "verified environments"),
            ("tasks", "verified tasks"),
            ("learnable_environments", "learnable by this policy"),
        )
        if key in run.counts
    ]
    if "reverified" in result:
        verdict = "all identical" if result.get("reverified_identical") else "NOT identical"
        found.append((f"{result['reverified']:,}", f"episodes reverified, {verdict}"))
    if "compiled_programs" in result:
        found.append((f"{result['compiled_programs']:,}", "compiled programs"))
    if "total" in result.get("wall_s", {}):
        found.append((duration(result["wall_s"]["total"]), "of computing"))
    return found


def progress(run: RunFolder) -> str:
    """How far an unfinished run has got, in one sentence."""
    if not run.metrics:
        return "No step has been measured yet."
    stage: str = run.metrics[-1]["stage"]
    step: int = run.metrics[-1]["step"]
    of = run.config.get("sft" if stage == "control" else stage, {})
    planned = of.get("steps") if isinstance(of, dict) else None
    return f"Last seen in stage {stage} at step {step}" + (f" of {planned}." if planned else ".")


def _rates(run: RunFolder, mode: str, split: str) -> list[Rate]:
    found = []
    for phase, label in _PHASE_LABELS.items():
        if entry := run.rate(mode, split, phase):
            low, high = entry["ci95"]
            found.append(
                Rate(
                    phase=phase,
                    label=label,
                    text=_percent(entry["success"]),
                    interval=f"{100 * low:.1f}–{100 * high:.1f}",
                    n=entry["n"],
                    at=_position(entry["success"]),
                    low=_position(low),
                    high=_position(high),
                )
            )
    return found


def _sentence(run: RunFolder, split: str) -> str:
    """Says in words what changed, and whether the intervals allow to say so."""
    before, after, control = (run.rate("sampled", split, phase) for phase in PHASES)
    if not before or not after:
        return ""
    change = after["success"] - before["success"]
    apart = after["ci95"][0] > before["ci95"][1] or after["ci95"][1] < before["ci95"][0]
    verb = "rose" if change > 0 else "fell"
    if not change:
        return f"Success stayed at {_percent(after['success'])}."
    points = f"{100 * change:+.1f}".replace("-", "−")
    sentence = (
        f"Success {verb} from {_percent(before['success'])} to {_percent(after['success'])}: "
        f"{points} points; the 95% intervals {'do not overlap' if apart else 'overlap'}."
    )
    if control:
        sentence += f" The same time spent on more SFT gives {_percent(control['success'])}."
    return sentence


def _lines(
    run: RunFolder, title: str, name: str, stages: Mapping[str, str], *, percent: bool = False
) -> Figure | None:
    found = []
    for (stage, label), color in zip(stages.items(), _PALETTE, strict=False):
        steps, values = series(run.metrics, stage, name)
        if any(map(math.isfinite, values)):
            found.append(charts.Series(label, color, steps, values))
    if not found:
        return None
    return Figure(
        title=title,
        note=METRICS[name].meaning.replace("`", ""),
        trend=_trend(found[0].values, percent),
        chart=charts.line_chart(found, title=f"{title} by step", percent=percent),
        legend=[(one.color, one.label) for one in found] if len(found) > 1 else [],
    )


def _by_kind(run: RunFolder, title: str, prefix: str, *, stacked: bool, label: str = "{}") -> Figure | None:
    """All metrics of RL that begin with `prefix`, as bands or as lines."""
    rows = [row for row in run.metrics if row["stage"] in ("train", "eval")]
    names = sorted({name for row in rows for name in row if name.startswith(prefix)})
    rows = [row for row in rows if any(name in row for name in names)]
    names = [name for name in names if any(row.get(name) for row in rows)]
    if not names:
        return None
    totals = {name: sum(row.get(name) or 0.0 for row in rows) for name in names}
    names.sort(key=lambda name: -totals[name])
    steps = [row["step"] for row in rows]
    found = []
    for name, color in zip(names, _cycle(len(names)), strict=True):
        missing = 0.0 if stacked else math.nan
        values = [missing if row.get(name) is None else float(row[name]) for row in rows]
        kind = name.removeprefix(prefix).replace("_", " ")
        found.append(charts.Series(label.format(kind), color, steps, values))
    draw = charts.stacked_area if stacked else charts.line_chart
    note = next(metric.meaning for name, metric in METRICS.items() if name.startswith(prefix))
    return Figure(
        title=title,
        note=note.partition(" (`")[0],
        trend="",
        chart=draw(found, title=f"{title} by step", percent=True),
        legend=[(one.color, f"{one.label} {charts.number(one.values[-1], True)}") for one in found],
    )


def _trend(values: Sequence[float], percent: bool) -> str:
    """The mean of the first and of the last tenth."""
    finite = [value for value in values if math.isfinite(value)]
    size = max(1, len(finite) // 10)
    if len(finite) < 2:
        return charts.number(finite[0], percent)
    first, last = sum(finite[:size]) / size, sum(finite[-size:]) / size
    return f"{charts.number(first, percent)} → {charts.number(last, percent)}"


def _env_row(env_id: str, split: str, counts: Mapping[str, Sequence[int] | None]) -> EnvRow:
    share = {phase: _share(pair) for phase, pair in counts.items()}
    before, after = share["before"], share["after"]
    n = max((pair[1] for pair in counts.values() if pair), default=0)
    change = after - before if before is not None and after is not None else 0.0
    return EnvRow(
        env_id=env_id, split=split, n=n, before=before, after=after, control=share["control"], change=change
    )


def _share(pair: Sequence[int] | None) -> float | None:
    return 100 * pair[0] / pair[1] if pair and pair[1] else None


def _cycle(count: int) -> list[str]:
    return [_PALETTE[index % len(_PALETTE)] for index in range(count)]


def _position(share: float) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 2)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
