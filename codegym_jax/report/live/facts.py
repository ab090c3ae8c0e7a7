"""What is known of a run from its files alone: on a live one, a killed one, and a finished one alike."""

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegym_jax.config import ExitCode, UserError
from codegym_jax.metrics import alarms, series
from codegym_jax.report.live.disk import Checkpoint, newest_checkpoint, newest_write_s, usage
from codegym_jax.report.live.wording import seconds
from codegym_jax.report.run_folder import MODES, PHASES, SPLITS, read_object

STAGES = {
    "synth": "task set",
    "sft": "warm start",
    "eval_before": "evaluation before RL",
    "train": "reinforcement learning",
    "eval_after": "evaluation after RL",
    "reverify": "reverification",
    "control": "control, more supervised learning",
    "complete": "complete",
}
"""Stages in their order, and what they are called."""
_GOES_ON = (ExitCode.DONE, ExitCode.RESUMABLE, ExitCode.INTERRUPTED)
"""Exit codes after which the same command, or the next one, goes on with a run."""
_EVALUATION_FILES = len(SPLITS) * len(MODES)
_RECENT = 20
"""Rows that the usual time of a step is taken from."""
_PATIENCE_S, _PATIENCE_STEPS = 60.0, 10.0
_SILENT_S = 1800.0
"""How long a stage that writes only at its end may be silent before it counts as stopped."""
_LAST_REWARDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run stands."""

    stage: str
    """A key of `STAGES`."""
    step: int
    steps: int
    """Of this stage; 0 where it has none, or they are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Whether a process seems to be at work."""

    state: str
    """`running`, `stopped`, `failed`, `unknown` or `complete`."""
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a run."""

    name: str
    folder: str
    place: Place
    life: Life
    step_s: float | None
    """The usual time of a step, seconds; None before there are two."""
    left_s: float | None
    """Until the end of this stage at that pace; None where no process seems to be at work."""
    last: dict[str, Any]
    """The newest row of metrics; {} before there is one."""
    rewards: list[float]
    """Of the last steps of reinforcement learning, the newest last."""
    success: dict[str, dict[str, dict[str, Any]]]
    """Split -> phase -> success rate with `success`, `ci95` and `n`, as sampled."""
    checkpoint: Checkpoint | None
    disk: dict[str, int]
    """Bytes by part of the folder."""
    free_bytes: int
    """On the disk that it lies on."""
    alarms: list[str]
    invalid: int
    """Training attempts that the host spoiled."""
    played: int
    """Training attempts in all."""


def gather(folder: Path, rows: Sequence[Mapping[str, Any]], *, now_s: float) -> Facts:
    """Takes together what the files of a run say.

    Args:
      folder: the run.
      rows: of its metrics.
      now_s: the time, in seconds since 1970.

    Raises:
      ReportError: one of its files is damaged.
    """
    config = read_object(folder / "config.json")
    where = place(folder, config, rows)
    step_s = usual_step_s(rows, where.stage)
    age_s = now_s - newest_write_s(folder)
    state = _last_word(folder, where, now_s) or life(where, age_s=age_s, step_s=step_s)
    left_s = None
    if step_s is not None and where.steps and state.state in ("running", "unknown"):
        left_s = step_s * (where.steps - where.step)
    invalid, played = _invalid(config, rows)
    disk, free_bytes = usage(folder)
    return Facts(
        name=folder.resolve().name,
        folder=str(folder),
        place=where,
        life=state,
        step_s=step_s,
        left_s=left_s,
        last=dict(rows[-1]) if rows else {},
        rewards=series(rows, "train", "reward")[1][-_LAST_REWARDS:],
        success=_success(folder),
        checkpoint=newest_checkpoint(folder / "checkpoints", now_s),
        disk=disk,
        free_bytes=free_bytes,
        alarms=[alarm.text for alarm in alarms(rows)],
        invalid=invalid,
        played=played,
    )


def require_run(folder: Path) -> Path:
    """The folder, when it is that of a run.

    Raises:
      UserError: when it is not.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if not any((folder / name).exists() for name in ("config.json", "metrics.jsonl", "episodes")):
        raise UserError(f"{folder} is not a run folder: it has no config.json, metrics.jsonl or episodes")
    return folder


def place(folder: Path, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Place:
    """Where the run stands: the first stage that is not done."""
    control = read_object(folder / "control.json")
    done = {stage: _last_step(rows, stage) for stage in ("sft", "train", "control")}
    if control and done["control"] < control["steps"]:
        return Place(stage="control", step=done["control"], steps=control["steps"])
    if (folder / "result.json").exists():
        return Place(stage="complete", step=done["train"], steps=_steps(config, "train"))
    if not rows and not (folder / "task_set").exists():
        return Place(stage="synth", step=0, steps=0)
    for stage, evaluation in (("sft", "before"), ("train", "after")):
        if done[stage] < _steps(config, stage):
            return Place(stage=stage, step=done[stage], steps=_steps(config, stage))
        later_rows = stage == "sft" and done["train"]  # `codegym train` evaluates nothing before it begins
        if not (folder / "evaluations" / f"{evaluation}.json").exists() and not later_rows:
            files = len(list((folder / "episodes" / f"eval_{evaluation}").glob("*.jsonl")))
            return Place(stage=f"eval_{evaluation}", step=files, steps=_EVALUATION_FILES)
    return Place(stage="reverify", step=0, steps=0)


def usual_step_s(rows: Sequence[Mapping[str, Any]], stage: str) -> float | None:
    """The median time between the last rows of a stage; where a run was resumed, the clock begins anew."""
    clock = [row["wall_s"] for row in rows if row["stage"] == stage][-_RECENT - 1 :]
    took = [later - sooner for sooner, later in itertools.pairwise(clock) if later >= sooner]
    return float(statistics.median(took)) if took else None


def _last_word(folder: Path, where: Place, now_s: float) -> Life | None:
    """What the last process left as it ended; None where it left nothing, or another one is at work."""
    ended = read_object(folder / "ended.json")
    if not ended or where.stage == "complete":
        return None
    ago = f"{seconds(max(now_s - ended['at_s'], 0.0))} ago"
    state = "stopped" if ended["code"] in _GOES_ON else "failed"
    return Life(state=state, because=f"{ago}, codegym {ended['command']}: {ended['why']}")


def life(where: Place, *, age_s: float, step_s: float | None) -> Life:
    """Judges by how long nothing was written, against how long a step takes."""
    if where.stage == "complete":
        return Life(state="complete", because="result.json is written")
    ago = f"last written {seconds(max(age_s, 0.0))} ago"
    patience_s = max(_PATIENCE_S, _PATIENCE_STEPS * (step_s or 0.0))
    if age_s <= patience_s:
        return Life(state="running", because=ago)
    if step_s is None and age_s <= _SILENT_S:
        return Life(state="unknown", because=f"{ago}; this stage writes when it is done")
    usual = f"a step takes {seconds(step_s)}" if step_s is not None else "nothing takes that long"
    return Life(state="stopped", because=f"{ago}; {usual}")


def _last_step(rows: Sequence[Mapping[str, Any]], stage: str) -> int:
    return max((row["step"] for row in rows if row["stage"] == stage), default=0)


def _steps(config: Mapping[str, Any], stage: str) -> int:
    return config.get(stage, {}).get("steps", 0)


def _success(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The sampled rates of the evaluations that there are."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for phase in PHASES:
        rates = read_object(folder / "evaluations" / f"{phase}.json").get(MODES[0], {})
        for split in SPLITS:
            if split in rates:
                rate = {key: rates[split][key] for key in ("success", "ci95", "n")}
                found.setdefault(split, {})[phase] = rate
    return found


def _invalid(config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Spoiled attempts and all attempts of training, from the share that each row tells."""
    told = list(_attempts(config, rows))
    return sum(round(share * count) for share, count in told), sum(count for _, count in told)


def _attempts(config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, int]]:
    rollout = config.get("rollout", {})
    for row in rows:
        share = row.get("valid_fraction")
        if row["stage"] == "train" and share is not None and math.isfinite(share):
            groups = row.get("drawn_groups") or rollout.get("tasks_per_step", 0)
            yield 1.0 - share, int(groups * rollout.get("attempts_per_task", 0))
