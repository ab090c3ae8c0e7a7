"""`docs/metrics.md` says what the table says."""

from pathlib import Path

from codegym_jax.metrics import METRICS, RULES
from codegym_jax.metrics.document import markdown


def test_the_document_is_the_one_that_the_table_makes():
    path = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert path.read_text() == markdown(), "python -m codegym_jax.metrics.document > docs/metrics.md"


def test_every_metric_and_alarm_has_one_row():
    lines = markdown().splitlines()
    for name in [*METRICS, *RULES]:
        assert sum(line.startswith(f"| `{name}` |") for line in lines) == 1, name
