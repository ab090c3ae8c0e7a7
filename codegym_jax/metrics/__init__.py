"""What a run measures: every name with its unit and meaning, the rows on disk, and what is alarming in them.

`table` says what each number means, `rows` writes and reads `metrics.jsonl`, `sinks` shows the same rows to
other tools, `alarms` says in words which values are known smells, `document` writes `docs/metrics.md`.
"""

from codegym_jax.metrics.alarms import RULES as RULES
from codegym_jax.metrics.alarms import Alarm as Alarm
from codegym_jax.metrics.alarms import AlarmBell as AlarmBell
from codegym_jax.metrics.alarms import alarms as alarms
from codegym_jax.metrics.rows import MetricsWriter as MetricsWriter
from codegym_jax.metrics.rows import read_metrics as read_metrics
from codegym_jax.metrics.rows import series as series
from codegym_jax.metrics.rows import stage_rows as stage_rows
from codegym_jax.metrics.rows import without_clock as without_clock
from codegym_jax.metrics.sinks import SINKS as SINKS
from codegym_jax.metrics.sinks import MissingExtra as MissingExtra
from codegym_jax.metrics.sinks import Sink as Sink
from codegym_jax.metrics.sinks import open_sinks as open_sinks
from codegym_jax.metrics.table import GROUPS as GROUPS
from codegym_jax.metrics.table import METRICS as METRICS
from codegym_jax.metrics.table import Metric as Metric
