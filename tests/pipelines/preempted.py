"""Lives of the real command, each sent SIGTERM where it is told to: a server.

    python -m tests.pipelines.preempted

What `lives.Server` is given is a `CommandLife`, and what it answers the `Outcome` of the command. As in
`mortal`, functions are wrapped in the child, to count and to send the signal; the package knows none of it.
"""

import os
import pathlib
import signal
from dataclasses import dataclass
from typing import Any, NamedTuple

from codegym_jax import cli
from codegym_jax.pipelines import experiment, sft
from codegym_jax.pipelines.console import Bar
from codegym_jax.pipelines.journal import Journal
from tests.pipelines.lives import serve
from tests.pipelines.mortal import (
    BEFORE,
    PLACES,
    SFT_CHECKPOINT_EVERY,
    STAGES,
    Fate,
    Fault,
    Place,
    Witness,
    fault_of,
)

SYNTH, REVERIFY = "synth", "reverify"
ORDER = ("open", SYNTH, *STAGES[1:], REVERIFY)
"""The stages of the command; what follows a stage counts as its."""
PLACES |= {
    "item": Place(Journal, "put"),
    "advance": Place(Bar, "advance", (BEFORE,)),
}


@dataclass(frozen=True)
class CommandLife:
    """What one process is to do."""

    arguments: list[str]
    """Of `codegym`."""
    folder: str
    """Of the run; its log goes beside it."""
    cache: str
    """In place of the user's, for task sets under way lie there."""
    fault: Fault | None = None
    """Where SIGTERM is sent."""
    to_all: bool = False
    """To worker processes, too, as Slurm and Kubernetes do; else to the command alone."""


class Outcome(NamedTuple):
    """Of the command."""

    code: int
    calls: list[tuple[str, str, int]]
    """Stage, place, and how often it was called there in this life."""
    checkpoints: dict[str, Any]
    """Stage -> what its newest checkpoint holds: the state's hash, the position of the source or stream."""
    told: bool
    """Whether the signal was sent."""


def live(life: CommandLife) -> Outcome:
    """The command, from wherever its run stands."""
    vars(sft)["_CHECKPOINT_EVERY"] = SFT_CHECKPOINT_EVERY
    os.environ["XDG_CACHE_HOME"] = life.cache
    told = []
    os.setpgid(0, 0)  # else of the test's own processes

    def tell() -> None:
        told.append(True)
        (os.killpg if life.to_all else os.kill)(os.getpid(), signal.SIGTERM)

    witness, fate = Witness(), Fate(life.fault, tell)
    fate.await_at_all_places(pathlib.Path(life.folder) / "checkpoints")
    name_stages(fate)
    code = cli.main(life.arguments)
    calls = [(stage, place, count) for (stage, place), count in sorted(fate.calls.items())]
    return Outcome(code, calls, witness.seen, bool(told))


def name_stages(fate: Fate) -> None:
    """Has the fate know which stage it is."""

    def named(owner: Any, name: str, stage: str = "") -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            fate.stage = stage or args[2]
            return original(*args, **kwargs)

        setattr(owner, name, call)

    named(experiment, "synthesize", SYNTH)
    named(experiment.sft, "run_sft", "sft")
    named(experiment, "run_evaluation")
    named(experiment, "run_train", "train")
    named(experiment, "run_reverify", REVERIFY)


def main() -> None:
    serve(lambda values: live(CommandLife(**values | {"fault": fault_of(values)}))._asdict())


if __name__ == "__main__":
    # Worker processes are spawned and import this module; nothing else of it is for them.
    main()
