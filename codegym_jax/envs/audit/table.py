"""An audit's report as a table for a terminal.

What an environment said is hostile: nothing of it is markup here, and no control character goes out.
"""

import sys

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from codegym_jax.envs.audit.finding import Report, Verdict
from codegym_jax.envs.printable import printable

_STYLES = {Verdict.PASS: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}
_WIDTH = 118
"""Of the table where the output is no terminal, so that files do not depend on who wrote them."""


def show(report: Report) -> None:
    """Prints a report to the standard output."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    console.print(report_table(report))


def report_table(report: Report) -> Group:
    """Check, verdict, finding and hint of every finding, and the conclusion."""
    hinted = any(finding.hint for finding in report.findings)
    table = Table(expand=True)
    table.add_column("check", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("found", ratio=3, overflow="fold")
    table.add_column("hint", ratio=2 if hinted else None, overflow="fold")
    previous = ""
    for finding in report.findings:
        table.add_row(
            Text(finding.check if finding.check != previous else ""),
            Text(finding.verdict.value, style=_STYLES[finding.verdict]),
            Text(printable(finding.found)),
            Text(printable(finding.hint)),
        )
        previous = finding.check
    name = report.env_id or report.path
    return Group(table, Text(printable(f"{name}: {report.conclusion}")))
