"""How many enter each stage, how many leave it, and why the others do not."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from codegym_jax.records import Rejection


@dataclass(slots=True)
class Stage:
    """One stage, for one kind of thing."""

    name: str
    things: str
    """What is counted: problems, environments, completions, configs, candidates, tasks."""
    entered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Of those that do not pass."""

    @property
    def passed(self) -> int:
        """How many go on."""
        return self.entered - self.reasons.total()

    def count(self, entered: int, rejections: Iterable[Rejection]) -> None:
        """Adds some that came in, and those among them that were refused."""
        self.entered += entered
        self.reasons.update(rejection.reason for rejection in rejections)


class Funnel:
    """The stages in the order in which things meet them."""

    def __init__(self, stages: Iterable[tuple[str, str]]):
        """Begins with nothing counted.

        Args:
          stages: (name, things) of each.
        """
        self.stages = {name: Stage(name, things) for name, things in stages}

    def __getitem__(self, name: str) -> Stage:
        return self.stages[name]

    def rows(self) -> list[dict[str, Any]]:
        """The stages as JSON values; reasons by falling count."""
        return [
            {
                "stage": stage.name,
                "things": stage.things,
                "entered": stage.entered,
                "left": dict(sorted(stage.reasons.items(), key=lambda item: (-item[1], item[0]))),
                "passed": stage.passed,
            }
            for stage in self.stages.values()
        ]

    def lines(self) -> list[str]:
        """The stages for people."""
        lines = []
        for row in self.rows():
            lines.append(f"{row['stage']:24} {row['entered']:6d} {row['things']:12} -> {row['passed']:6d}")
            lines += [f"{count:31d} {reason.replace('_', ' ')}" for reason, count in row["left"].items()]
        return lines
