"""What an audit says: findings with a verdict and a hint, and the report that they make up."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

MAX_EXCERPT_CHARS = 120
MAX_FOUND_CHARS = 600


class Verdict(StrEnum):
    """How bad a finding is, from good to bad."""

    PASS = "pass"
    WARN = "warn"
    """Worth a look: it may be meant."""
    FAIL = "fail"
    """The environment, or one of its configs, cannot be trusted."""


CHECKS = (
    "format",  # the published interface
    "docstrings",  # what agents are told about each tool
    "source",  # habits that surprise later
    "configs",  # what the other checks could look at
    "oracle",  # its own solution earns the reward, only by calling tools
    "answer",  # the reference answer, and others that win
    "determinism",  # the same calls give the same, one by one and in a batch
    "guest builds",  # and on another build, where strings hash otherwise
    "leaks",  # hidden data, or the answer, shown by a single call
    "tools",  # what the oracle uses
    "bad calls",  # calls that a policy gets wrong
    "cost",  # fuel, memory and lengths against their limits
)
"""Every check, in the order of a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found; what an environment said is cut in it, and escaped only when it is shown."""

    check: str
    verdict: Verdict
    found: str
    hint: str = ""
    """What to do; "" where nothing is to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything an audit found about one environment."""

    path: str
    env_id: str
    """"" when the file is no environment."""
    guest_hash: str
    config_count: int
    findings: tuple[Finding, ...]
    """In the order of `CHECKS`, the worst of each first."""

    @property
    def accepted(self) -> bool:
        """Whether nothing failed."""
        return all(finding.verdict is not Verdict.FAIL for finding in self.findings)

    @property
    def conclusion(self) -> str:
        """The verdict in words."""
        if not self.accepted:
            return "refused"
        warned = any(finding.verdict is Verdict.WARN for finding in self.findings)
        return "accepted with warnings" if warned else "accepted"

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "conclusion": self.conclusion,
            "path": self.path,
            "env_id": self.env_id,
            "guest_hash": self.guest_hash,
            "configs": self.config_count,
            "findings": [asdict(finding) for finding in self.findings],
        }


def passed(check: str, found: str, hint: str = "") -> Finding:
    """All is well, and what was looked at."""
    return _finding(check, Verdict.PASS, found, hint)


def warned(check: str, found: str, hint: str) -> Finding:
    """Something to look at."""
    return _finding(check, Verdict.WARN, found, hint)


def failed(check: str, found: str, hint: str) -> Finding:
    """Something to repair."""
    return _finding(check, Verdict.FAIL, found, hint)


def _finding(check: str, verdict: Verdict, found: str, hint: str) -> Finding:
    return Finding(check=check, verdict=verdict, found=excerpt(found, MAX_FOUND_CHARS), hint=hint)


def ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    """Findings in the order of `CHECKS`, the worst of each check first."""
    verdicts = list(Verdict)
    key = {finding: (CHECKS.index(finding.check), -verdicts.index(finding.verdict)) for finding in findings}
    return tuple(sorted(findings, key=key.__getitem__))


def excerpt(text: str, limit: int = MAX_EXCERPT_CHARS) -> str:
    """The beginning of a text that may be hostile, at most `limit` characters of it."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: list[str], limit: int = 6) -> str:
    """Names in a sentence, the first few of them."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
