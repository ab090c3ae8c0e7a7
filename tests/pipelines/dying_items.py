"""Problems that kill the worker process they come to, once or always."""

import os
import signal
from pathlib import Path
from typing import Any

from codegym_jax.synthesis.problems import Problem


class Dying:
    """Stands for a problem; whoever unpickles it dies, unless the marker is there already."""

    def __init__(self, problem: Problem, marker: Path):
        self.problem, self.marker = problem, marker

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.problem, self.marker)


def _arrive(problem: Problem, marker: Path) -> Problem:
    if not marker.exists():
        if marker.parent.exists():
            marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return problem
