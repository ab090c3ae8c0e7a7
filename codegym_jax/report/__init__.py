"""One self-contained HTML page that shows a run. Knows only the files of the run folder."""

from codegym_jax.report.page import write_report as write_report
from codegym_jax.report.run_folder import ReportError as ReportError
