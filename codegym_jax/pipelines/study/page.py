"""The page of a study: what was run, each question with a picture and tables, and what it does not show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codegym_jax.config.study import Question, StudyConfig
from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.splits import TEST_CONFIG, TEST_ENV
from codegym_jax.pipelines.study.blocks import (
    Block,
    Heading,
    Items,
    Picture,
    Table,
    Text,
    to_html,
    to_markdown,
)
from codegym_jax.pipelines.study.budget import LEARNED
from codegym_jax.pipelines.study.figures import Gap, Point, Results, Rows, gap, point, read_results
from codegym_jax.pipelines.study.limits import limits
from codegym_jax.pipelines.study.measure import FIRST, GREEDY, SAMPLED, TITLES, TRAINED, UNSEEN
from codegym_jax.pipelines.study.picture import Mark, Panel, picture
from codegym_jax.pipelines.study.runs import start_name

_PANELS = {
    TRAINED: "Unseen configs, of its own environments",
    FIRST: "Unseen configs, of all arms' environments",
    UNSEEN: "Unseen environments",
}
_MINUS = "−"


def write_page(study: StudyConfig, folder: Path) -> list[Path]:
    """Writes `study.md`, its pictures and `study.html` from what a study has so far; returns their paths."""
    blocks = page(study, read_results(folder))
    pictures = {block.name: block.svg for block in blocks if isinstance(block, Picture)}
    files = {"study.md": to_markdown(blocks), "study.html": to_html(study.title, blocks), **pictures}
    for name, text in files.items():
        write_atomically(folder / name, text)
    return [folder / name for name in files]


def page(study: StudyConfig, results: Results) -> list[Block]:
    """The page as blocks."""
    blocks: list[Block] = [Heading(study.title, 1), *_what_was_run(study, results)]
    for number, question in enumerate(study.questions, 1):
        blocks += _answer(study, results, question, f"question_{number}.svg")
    blocks += _suites(study, results)
    blocks += [Heading("What the runs spent"), _spent(study, results)]
    blocks += [Heading("What this does not show"), Items(limits(study, results))]
    return blocks


def _what_was_run(study: StudyConfig, results: Results) -> list[Block]:
    pool, base = results.head["pool"], study.base
    tasks = pool["tasks"]
    rows = [
        ["environments in the task set", f"{pool['environments']:,}"],
        ["of these, the policy can hold", f"{pool['qualified']:,}"],
        ["may be trained on", f"{pool['trainable']:,}, with {tasks['train']:,} tasks"],
        ["never trained on, with their families", f"{pool['heldout']:,}, with {tasks['test_env']:,} tasks"],
        ["chosen as learnable by a tiny policy (`synthesis/learnable.py`)", f"{pool['learnable']:,}"],
        [f"solved by always answering `{pool['guess']['answer']}`, the commonest answer", _guessed(pool)],
        ["policy", f"`{base.policy.weights or base.policy.preset}`, style `{base.style}`"],
        ["warm start", f"{base.sft.steps:,} updates of {base.sft.rows} demonstrations"],
        ["budget after it", f"{study.budget:,} policy tokens"],
        ["seeds", ", ".join(map(str, sorted({seed for rows in results.arms.values() for seed in rows})))],
    ]
    return [
        Text(_who_takes_part(study)),
        Text(
            "Arms of a seed on the same environments begin with one warm start, which has seen these"
            " environments only. The budget counts policy tokens: a sampled one 1, one learned from"
            f" {LEARNED} (forward, and backward twice that), so that it is one of computation, whatever the"
            " machine. What an arm plays in order to filter or to choose is paid for out of it, unless the"
            " arm says otherwise."
        ),
        Table(["", ""], rows),
        Text(
            "Figures are success in percent: sampled at the temperature of training, up to four attempts at a"
            " task where there are few, and greedy. In brackets behind them stands the 95% interval of the"
            " mean over seeds (Student's t), with the number of seeds; it covers the draw of environments, of"
            " warm starts and of chance. The column `pooled` is Wilson's interval of all seeds' tasks as if"
            " they were independent: it is narrower, and holds for these seeds only; where all seeds came to"
            " the same, such as 0, the interval over seeds has no width, and the pooled one is the better"
            " guide. Differences, over the arm's own warm start and over another arm, are in points, means of"
            " pairs with the same seed."
        ),
    ]


def _guessed(pool: Mapping[str, Any]) -> str:
    own, unseen = (100 * pool["guess"][split] for split in (TEST_CONFIG, TEST_ENV))
    return f"{own:.1f}% of unseen configs, {unseen:.1f}% of tasks of unseen environments"


def _who_takes_part(study: StudyConfig) -> str:
    settings = study.pool
    least, most = settings.tasks_per_environment, settings.max_tasks_per_environment
    used = f"{least}" if least == most else f"{least} to {most}"
    copied = (
        ", and the oracle computes nothing by itself: whatever it hands to a tool, or in, it has seen, or is"
        " a constant, or one more or less than what it saw last"
    )
    return (
        "Several ways to learn from the same environments, each for the same budget. An environment takes"
        f" part that has at least {least} tasks that the policy can hold: their oracle makes at most"
        f" {settings.max_calls} calls, what the policy reads and writes has at most {settings.max_chars:,}"
        f" characters{copied if settings.copied_only else ''}. Of each, {used} such tasks are used,"
        f" {settings.test_configs} of them only to test. Every seed draws its own environments to train on, a"
        " smaller number as a part of a larger one; those held out are the same for all."
    )


def _answer(study: StudyConfig, results: Results, question: Question, name: str) -> list[Block]:
    there = [arm for arm in question.arms if arm in results.arms]
    blocks: list[Block] = [Heading(question.title)]
    if not there:
        return [*blocks, Text("Not run yet.")]
    sets = [TRAINED, *([FIRST] if question.by_environments else []), UNSEEN]
    told = "Success, sampled: mean over seeds and its 95% interval; small: each seed; gray: the warm start"
    drawn = picture(
        [Panel(_PANELS[which], _marks(study, results, there, which, question)) for which in sets],
        _labels(study, there, question),
        lines=question.by_environments,
        told=told,
    )
    blocks.append(Picture(name, drawn, f"{question.title}. {told}"))
    for which in sets:
        blocks += [Heading(_capital(TITLES[which]), 3), _table(study, results, there, which)]
    return blocks


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _labels(study: StudyConfig, arms: Sequence[str], question: Question) -> list[str]:
    if question.by_environments:
        return [f"{study.arms[name].environments}" for name in arms]
    return list(arms)


def _marks(
    study: StudyConfig, results: Results, arms: Sequence[str], which: str, question: Question
) -> list[Mark]:
    marks = []
    for place, name in enumerate(arms):
        start = results.arms.get(start_name(study.arms[name].environments))
        if start and (question.by_environments or place == 0 or _other_start(study, arms, place)):
            marks.append(Mark(place, "start", point(start, SAMPLED, which)))
        marks.append(Mark(place, "arm", point(results.arms[name], SAMPLED, which)))
    return marks


def _other_start(study: StudyConfig, arms: Sequence[str], place: int) -> bool:
    """Whether an arm begins elsewhere than the one before it."""
    return study.arms[arms[place]].environments != study.arms[arms[place - 1]].environments


def _table(study: StudyConfig, results: Results, arms: Sequence[str], which: str) -> Table:
    base = arms[0]
    head = ["", "what", "sampled [over seeds]", "pooled", "greedy [over seeds]"]
    head += ["over its warm start", f"over `{base}`"]
    lines = []
    numbers = list(dict.fromkeys(study.arms[name].environments for name in arms))
    for number in numbers:
        if rows := results.arms.get(start_name(number)):
            lines.append([f"warm start, {number}", "where the arms begin", *_rates(rows, which), "", ""])
    for name in arms:
        arm, rows = study.arms[name], results.arms[name]
        start = results.arms.get(start_name(arm.environments), {})
        other = {} if name == base else results.arms[base]
        gaps = [_signed(gap(rows, held, SAMPLED, which)) for held in (start, other)]
        lines.append([f"`{name}`", arm.about, *_rates(rows, which), *gaps])
    return Table(head, lines)


def _rates(rows: Rows, which: str) -> list[str]:
    drawn, greedy = point(rows, SAMPLED, which), point(rows, GREEDY, which)
    low, high = drawn.pooled
    return [_rate(drawn), f"[{100 * low:.1f}, {100 * high:.1f}] n={drawn.tasks:,}", _rate(greedy)]


def _rate(one: Point) -> str:
    seeds = len(one.by_seed)
    told = "" if one.interval is None else f" [{100 * one.interval[0]:.1f}, {100 * one.interval[1]:.1f}]"
    return f"{100 * one.mean:.1f}{told} ({seeds} seed{'s' if seeds > 1 else ''})"


def _signed(one: Gap | None) -> str:
    if one is None:
        return ""
    told = "" if one.interval is None else f" [{_points(one.interval[0])}, {_points(one.interval[1])}]"
    return f"{_points(one.mean)}{told}"


def _points(share: float) -> str:
    """Percentage points with their sign; what rounds to 0 has a plus."""
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("-", _MINUS)


def _suites(study: StudyConfig, results: Results) -> list[Block]:
    """Means over seeds on the suites; what is played in a suite is the same for all."""
    if not study.suites.names:
        return []
    columns = sorted(
        {name for rows in results.arms.values() for row in rows.values() for name in row["suites"]}
    )
    lines = []
    for name, rows in results.arms.items():
        cells = [_suite_cell(rows, column) for column in columns]
        lines.append([f"`{name}`", *cells])
    settings = study.suites
    runs = f"{settings.runs} run{'s' if settings.runs > 1 else ''}"
    told = (
        f"As `codegym eval --suite {settings.names}` plays them: at most {settings.limit} tasks of each"
        f" subset, {runs} of each, temperature 0.7 and top-p 0.95. The oracle was right everywhere, or there"
        " would be no figure."
    )
    return [Heading("Suites"), Text(told), Table(["", *columns], lines)]


def _suite_cell(rows: Rows, column: str) -> str:
    from codegym_jax.evals.suites.statistics import mean, t_interval

    means = [row["suites"][column]["mean"] for _, row in sorted(rows.items()) if column in row["suites"]]
    if not means:
        return ""
    return _rate(Point(mean(means), t_interval(means), (0.0, 1.0), means, 0))


def _spent(study: StudyConfig, results: Results) -> Table:
    def mean(rows: Rows, value: Any) -> str:
        values = [value(row) for row in rows.values()]
        return f"{sum(values) / len(values):,.0f}"

    lines = []
    for name, rows in results.arms.items():
        arm = study.arms.get(name)
        lines.append(
            [
                f"`{name}`",
                arm.about if arm else "a warm start",
                mean(rows, lambda row: row["environments"]),
                mean(rows, lambda row: row["train_tasks"]),
                mean(rows, lambda row: row["spent"]["sampled"]),
                mean(rows, lambda row: row["spent"]["learned"]),
                mean(rows, lambda row: row["spent"]["total"]),
                f"{len(rows)}",
            ]
        )
    head = ["", "what", "environments", "training tasks", "tokens sampled", "learned from", "cost", "seeds"]
    return Table(head, lines)
