"""What a check found, alone and of several processes together. Shows no secret, whatever a check was told."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY|_KEY$", re.IGNORECASE
)
_SHORTEST_SECRET = 6
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_HIDDEN = "***"
_LONGEST = 400


class Status(StrEnum):
    """How a check ended, the worst first."""

    FAIL = "FAIL"
    """A run would not work."""
    WARN = "WARN"
    """It would, but not as it should."""
    NOT_CHECKED = "NOT CHECKED"
    """There was nothing to check it with, or no need to."""
    OK = "OK"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the table."""

    check: str
    status: Status
    found: str
    """The value, or why there is none."""
    fix: str = ""
    """What to do; empty where there is nothing to do."""


def ok(check: str, found: str) -> Finding:
    return Finding(check, Status.OK, found)


def warn(check: str, found: str, fix: str) -> Finding:
    return Finding(check, Status.WARN, found, fix)


def fail(check: str, found: str, fix: str) -> Finding:
    return Finding(check, Status.FAIL, found, fix)


def not_checked(check: str, why: str, fix: str = "") -> Finding:
    return Finding(check, Status.NOT_CHECKED, why, fix)


def first_line(error: BaseException) -> str:
    """An error in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def without_secrets(finding: Finding, environment: Mapping[str, str] = os.environ) -> Finding:
    """The finding with `***` in place of what is secret, cut to a length that a table can show.

    Secret are names and passwords in addresses, and what an environment variable holds whose name says so.
    """
    secrets = [
        value
        for name, value in environment.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET
    ]

    def cleaned(text: str) -> str:
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, _HIDDEN)
        text = _IN_ADDRESS.sub(_HIDDEN, text)
        return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

    return Finding(finding.check, finding.status, cleaned(finding.found), cleaned(finding.fix))


@dataclass(frozen=True, slots=True)
class Row:
    """A finding, and the processes that made it."""

    finding: Finding
    processes: tuple[int, ...] = ()
    """Empty where all of them did, or where there is one."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self.finding), "processes": list(self.processes)}


def together(of_each: Sequence[Sequence[Finding]]) -> list[Row]:
    """What several processes found, in the order of the first one's checks.

    Where they agree on a status, one row tells it for all of them, with what the first of them found. Else
    there is a row for each status, the worst first.
    """
    checks = list(dict.fromkeys(finding.check for findings in of_each for finding in findings))
    rows = []
    for check in checks:
        by_status: dict[Status, list[tuple[int, Finding]]] = {}
        for process, findings in enumerate(of_each):
            for finding in findings:
                if finding.check == check:
                    by_status.setdefault(finding.status, []).append((process, finding))
        for status in Status:
            found = by_status.get(status, [])
            if found:
                who = tuple(sorted({process for process, _ in found}))
                rows.append(Row(found[0][1], () if len(who) == len(of_each) else who))
    return rows


def failed(findings: Sequence[Finding]) -> bool:
    """Whether a run would not work."""
    return any(finding.status is Status.FAIL for finding in findings)
