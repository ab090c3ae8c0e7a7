"""The findings of joined processes, brought together on each of them."""

import dataclasses
import json

from codegym_jax.pipelines.doctor.examination import Subject, examine
from codegym_jax.pipelines.doctor.finding import Finding, Row, Status, together, without_secrets
from codegym_jax.pipelines.doctor.joint import check_joint
from codegym_jax.pipelines.processes import Processes


def joint_rows(processes: Processes, run: str) -> list[Row]:
    """What only all of them can find out."""
    return [Row(without_secrets(finding)) for finding in check_joint(processes, run)]


def rows_of_all(processes: Processes, subject: Subject) -> list[Row]:
    """What each found by itself."""
    own = json.dumps([dataclasses.asdict(finding) for finding in examine(subject)]).encode()
    return together([[_finding(values) for values in json.loads(text)] for text in processes.gather(own)])


def _finding(values: dict[str, str]) -> Finding:
    return Finding(values["check"], Status(values["status"]), values["found"], values["fix"])
