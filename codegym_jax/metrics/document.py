"""The metrics and alarms as a document: `python -m codegym_jax.metrics.document > docs/metrics.md`."""

from collections.abc import Iterable, Sequence

from codegym_jax.metrics.alarms import RULES
from codegym_jax.metrics.sinks import SINKS
from codegym_jax.metrics.table import GROUPS, METRICS

_HEAD = """# What a run measures

Written by `python -m codegym_jax.metrics.document`; do not edit it by hand.

Every run folder holds `metrics.jsonl`: one JSON object a line, with `stage` (`sft`, `train`, `control`),
`step` (from 1 in each stage), `wall_s`, and the values below by name. A name with `<word>` stands for one
name for each such word. A value that is not finite is null; what does not apply to a run is left out.
Shares lie between 0 and 1.
"""


def markdown() -> str:
    """`docs/metrics.md`, whole."""
    parts = [_HEAD]
    for group, says in GROUPS.items():
        rows = [
            (f"`{name}`", metric.unit, metric.meaning)
            for name, metric in METRICS.items()
            if metric.group == group
        ]
        parts.append(f"## {group.capitalize()}\n\n{says}.\n\n{_table(('metric', 'unit', 'meaning'), rows)}")
    parts.append(_sinks())
    parts.append(_alarms())
    return "\n".join(parts)


def _sinks() -> str:
    extras = " and ".join(f"`{name}`" for name in SINKS)
    return f"""## Other tools

The same rows go to {extras}, each an extra of that name: `pip install 'codegym-jax[tensorboard]'`.
TensorBoard's files lie in `<run>/tensorboard`, a folder a stage (`tensorboard --logdir
<run>/tensorboard`); those of Weights & Biases lie in `<run>/wandb`, and `WANDB_MODE=offline` keeps them
there. A run that was killed goes on with the same curves: `metrics.jsonl` is cut back to the checkpoint,
TensorBoard forgets the steps that are made again, in W&B they fall onto their first points.
"""


def _alarms() -> str:
    rows = [(f"`{name}`", rule.when, rule.advice) for name, rule in RULES.items()]
    return f"""## Alarms

Known smells are told in words while a run goes on, once each, and stand in its report. They are computed from
`metrics.jsonl` alone.

{_table(("alarm", "when", "what it means, what to try"), rows)}"""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    print(markdown(), end="")
