"""The card of a task set: `README.md` for people and hubs, `card.html` with plots, `funnel.svg`.

All of it is made of the task set alone, so the same task set gives the same bytes.
"""

import importlib.resources
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from codegym_jax.data import splits
from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.codegym_tasks import VERSION
from codegym_jax.data.task_set import TaskSet
from codegym_jax.records import EnvSpec, Task, ToolSpec
from codegym_jax.report import charts
from codegym_jax.report.figures import Figure
from codegym_jax.report.funnel import funnel_svg, reasons
from codegym_jax.report.task_set_facts import BANDS, DUPLICATE, LONG, Bin, TaskSetFacts, facts_of, read_call

_MEANINGS = {
    splits.TRAIN: "configs to train on",
    splits.VALIDATION_CONFIG: "other configs of the same environments, to choose settings on",
    splits.TEST_CONFIG: "yet other configs of them, to report on",
    splits.TEST_ENV: "all configs of environments that are never trained on",
    splits.GENERAL: "all configs of every other environment",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_HUB_LICENSES = re.compile(
    r"(mit|apache-2\.0|bsd(-[23]-clause)?|cc0-1\.0|unlicense|isc|cc-by(-nc)?(-sa|-nd)?-[234]\.0|[al]?gpl-[23]\.[01])"
)
_BAND_COLORS = {"easy": "var(--c3)", "medium": "var(--c1)", "hard": "var(--c2)", "": "var(--c8)"}
_MOST_CALLS, _MOST_CHARS = 16, 160


def card(task_set: TaskSet) -> dict[str, str]:
    """The card's files: name -> text."""
    facts = facts_of(task_set)
    funnel = task_set.manifest.get("funnel") or []
    shown = {
        "facts": facts,
        "title": _title(facts),
        "version": VERSION,
        "digest": task_set.digest,
        "guest_hash": task_set.manifest.get("guest_hash", ""),
        "command": task_set.manifest.get("command", "codegym synth CONFIG"),
        "summary": _summary(facts),
        "meanings": _MEANINGS,
        "families_note": _families_note(facts),
        "diversity_note": _diversity_note(facts, task_set.manifest.get("diversity")),
        "bands": [(share, f"{low}–{high}") for share, (_, low, high) in zip(facts.bands, BANDS, strict=True)],
        "funnel": [(stage, reasons(stage)) for stage in funnel],
    }
    files = {"README.md": _markdown(facts, shown), "card.html": _page(facts, shown, funnel)}
    if funnel:
        files["funnel.svg"] = funnel_svg(funnel) + "\n"
    # A tool's result may hold lone surrogates, which no file of text can.
    return {name: text.encode("utf-8", "replace").decode("utf-8") for name, text in files.items()}


def write_card(folder: Path, out: Path | None = None) -> list[Path]:
    """Writes the card of a task set again.

    Args:
      folder: of the task set.
      out: where the files go; into the task set's own folder unless given.

    Returns:
      The files.

    Raises:
      TaskSetError: when there is no whole task set.
    """
    files = card(TaskSet.open(folder))
    target = out or folder
    for name, text in files.items():
        write_atomically(target / name, text)
    return [target / name for name in files]


def _markdown(facts: TaskSetFacts, shown: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["cell"] = _cell
    text = environment.from_string(_resource("card.md.j2")).render(
        **shown,
        license_ids=_license_ids(facts),
        size_category=next((name for limit, name in _SIZES if facts.tasks < limit), "1M<n<10M"),
        histogram=_text_histogram,
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _page(facts: TaskSetFacts, shown: Mapping[str, Any], funnel: Any) -> str:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return (
        environment.from_string(_resource("card.html.j2")).render(
            **shown,
            style=Markup(_resource("page.css") + _resource("card.css")),  # ours, so it may stand unescaped
            charts=_charts(facts),
            funnel_svg=Markup(funnel_svg(funnel)) if funnel else "",  # it escapes what it is given
            example=_example(*facts.example) if facts.example else None,
        )
        + "\n"
    )


def _title(facts: TaskSetFacts) -> str:
    names = [share.name or "problems" for share in facts.origins]
    if len(names) > 3:
        return f"Tool-use tasks from {names[0]}, {names[1]} and {len(names) - 2} other origins"
    return f"Tool-use tasks from {' and '.join(names) or 'nothing'}"


def _summary(facts: TaskSetFacts) -> list[tuple[str, str]]:
    """(what, figure); what nobody measured is left out."""
    rows: list[tuple[str, str | None]] = [
        ("environments", f"{facts.environments:,}"),
        ("tasks", f"{facts.tasks:,}"),
        ("good environments", None if facts.good is None else f"{facts.good:,}"),
        ("with hidden input", None if facts.hidden is None else f"{facts.hidden:,}"),
        ("families", None if facts.families is None else f"{facts.families:,}"),
        ("tools an environment, mean", f"{facts.mean_tools:.2f}"),
        ("oracle calls a task, median", f"{facts.median_calls:g}"),
        (
            f"oracle calls, mean over {LONG[0]}–{LONG[1]}",
            None if facts.mean_long_calls is None else f"{facts.mean_long_calls:.1f}",
        ),
    ]
    return [(name, value) for name, value in rows if value is not None]


def _families_note(facts: TaskSetFacts) -> str:
    known = facts.families is not None
    if facts.crossing:
        what = "families of near duplicates" if known else "environments"
        return f"{facts.crossing:,} {what} have tasks both in test_env and in other splits."
    more = ", nor are near duplicates of them" if known else ""
    return f"Environments of test_env are in no other split{more}."


def _diversity_note(facts: TaskSetFacts, measured: Mapping[str, Any] | None) -> str:
    found = facts.diversity
    note = (
        f"Names apart, the {facts.environments:,} environments have {found.distinct:,} different workflows. "
        f"In the median an environment shares {100 * found.median:.0f}% of its steps with the one most like"
        f" it; {found.duplicates:,} share more than {100 * DUPLICATE:.0f}%. A step is three calls in a row, "
        "each written as the place of its tool in the order of first use and its number of parameters."
    )
    if measured:
        limit, share = next(iter(measured["similarity"]["nearest"].items()))
        note += (
            f" By the origins of parameters and the types of results there are"
            f" {measured['steps']['3']['distinct']:,} distinct steps; {100 * share:.0f}% of the environments"
            f" have another one more than {100 * float(limit):.0f}% alike in tools and workflow."
        )
    return note


def _charts(facts: TaskSetFacts) -> list[Figure]:
    bands = [
        (_BAND_COLORS[share.name], f"{share.name} {low}–{high}: {share.tasks:,} tasks")
        for share, (_, low, high) in zip(facts.bands, BANDS, strict=True)
    ]
    answers = [Bin(label=share.name, count=share.tasks) for share in facts.answers]
    found = facts.diversity
    rows = [
        (
            "Oracle calls of a task",
            "Done included",
            f"median {facts.median_calls:g}",
            facts.calls,
            "tasks",
            bands,
        ),
        (
            "Tools of an environment",
            "Observe and Done included",
            f"mean {facts.mean_tools:.2f}",
            facts.tools,
            "environments",
            [],
        ),
        ("Answers", "tasks by JSON type", "", answers, "tasks", []),
        (
            "Workflows",
            "similarity of an environment to the one most like it, names apart",
            f"median {100 * found.median:.0f}%",
            found.histogram,
            "environments",
            [],
        ),
    ]
    return [
        Figure(
            title=title,
            note=note,
            trend=trend,
            chart=charts.histogram([_column(one, what) for one in bins], title=f"{title}: {note}"),
            legend=legend,
        )
        for title, note, trend, bins, what, legend in rows
        if bins
    ]


def _column(one: Bin, what: str) -> charts.Column:
    color = _BAND_COLORS[one.band] if one.band else "var(--c1)"
    return charts.Column(one.label, float(one.count), color, f"{one.label}: {one.count:,} {what}")


def _text_histogram(bins: tuple[Bin, ...], what: str, counted: str) -> str:
    """A Markdown table with bars of blocks."""
    most = max((one.count for one in bins), default=1) or 1
    lines = [f"| {what} | {counted} | |", "|---|---:|---|"]
    lines += [f"| {one.label} | {one.count:,} | {'█' * round(24 * one.count / most)} |" for one in bins]
    return "\n".join(lines)


def _license_ids(facts: TaskSetFacts) -> list[str]:
    """As hubs write them; `other` for what they have no word for."""
    names = [share.name.lower() for share in facts.licenses if share.name]
    known = [name if _HUB_LICENSES.fullmatch(name) else "other" for name in names]
    return list(dict.fromkeys(known)) or ["unknown"]


def _example(spec: EnvSpec, task: Task) -> dict[str, Any]:
    steps = []
    for action, observation in zip(task.oracle_actions, task.oracle_observations, strict=True):
        name, parameters = read_call(action)
        arguments = ", ".join(f"{key}={json.dumps(value)}" for key, value in parameters.items())
        steps.append((_cut(name), _cut(arguments), "" if name == "Done" else _cut(observation)))
    return {
        "env_id": spec.env_id,
        "statement": spec.statement.strip() or "(no statement)",
        "tools": [(_signature(tool), tool.doc.strip().partition("\n")[0]) for tool in spec.tools],
        "config": _cut(task.config_json),
        "steps": steps[:_MOST_CALLS],
        "left_out": len(steps[_MOST_CALLS:]),
    }


def _signature(tool: ToolSpec) -> str:
    names = (f"{one.name}: {one.type_name}" if one.type_name else one.name for one in tool.parameters)
    return f"{tool.name}({', '.join(names)})"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 1] + "…"


def _cell(text: object) -> str:
    """Text that cannot leave its cell of a Markdown table, nor become markup."""
    plain = " ".join(str(text).split())
    return re.sub(r"([\\`*\[\]<>|&#])", r"\\\1", plain)


def _resource(name: str) -> str:
    return (importlib.resources.files("codegym_jax.report") / name).read_text(encoding="utf-8")
