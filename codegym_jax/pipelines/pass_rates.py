"""How often a policy solves the tasks of a task set; a killed command goes on where it was.

<folder>/settings.json      what the attempts belong to
<folder>/policy/            the policy as it was at first, though its run may have learned more since
<folder>/pass_rates.jsonl   one attempted task a line
"""

import dataclasses
import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegym_jax import config as config_module
from codegym_jax.config import ConfigError
from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.working_copy import checkpoint_place
from codegym_jax.pipelines.console import Bar, bar
from codegym_jax.pipelines.preemption import keeping
from codegym_jax.pipelines.stages import stage_params
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.records import EnvSpec, Episode, Task
from codegym_jax.rollout.agent import EpisodeRequest
from codegym_jax.trainer.checkpoint import MANIFEST, Checkpointer

POLICY_STAGES = ("train", "sft", "control")
"""Whose parameters may be asked for; unless one is, the first of these that has any."""
TASKS_AT_A_TIME = 256
"""Their episodes are held in memory together."""
_POLICY = "policy"


@dataclass(frozen=True, kw_only=True, slots=True)
class PassRate:
    """What came of the attempts at one task."""

    task_id: str
    attempts: int
    """Valid ones, at least one."""
    solved: int
    stops: dict[str, int]
    """Reason to stop -> attempts."""
    policy_tokens: int
    """Of all of them together."""

    @property
    def rate(self) -> float:
        """In [0, 1]."""
        return self.solved / self.attempts


def pass_rates(
    work: Path,
    run: Path,
    cache: Path,
    wanted: Mapping[str, Any],
    specs: Mapping[str, EnvSpec],
    tasks: Mapping[str, Task],
) -> dict[str, PassRate]:
    """What comes of every task: read from the journal, or found out now and added to it.

    Args:
      work: the folder described above.
      run: the run folder of the policy, finished or under way.
      cache: where compiled guests are kept.
      wanted: `tries`, the attempts at each task; `seed`, which names their random streams; `stage`, one of
        `POLICY_STAGES` or ""; and whatever else must not change while `work` is used.
      specs: environments by id.
      tasks: by id.

    Returns:
      By task id, in their order; without those whose every attempt the host spoiled.

    Raises:
      ConfigError: when the run has no such policy, or `work` belongs to another policy or other settings.
    """
    stage = _adopt_policy(run, work, wanted)
    journal = work / "pass_rates.jsonl"
    rates = _read(journal)
    waiting = [task for name, task in sorted(tasks.items()) if name not in rates]
    if waiting:
        config = config_module.from_dict(json.loads((work / _POLICY / "config.json").read_text()))
        bench = Workbench(dataclasses.replace(config, seed=wanted["seed"]), work / _POLICY, cache)
        params = stage_params(bench, stage)
        left = keeping(f"the tasks attempted are kept in {journal}")
        with left, bar("tasks attempted", len(tasks), len(tasks) - len(waiting)) as progress:
            for start in range(0, len(waiting), TASKS_AT_A_TIME):
                some = waiting[start : start + TASKS_AT_A_TIME]
                for rate in _attempt(bench, params, specs, some, wanted["tries"], journal, progress):
                    rates[rate.task_id] = rate
        # In the order of the tasks, however often the command was killed.
        lines = [json.dumps(dataclasses.asdict(rates[name])) + "\n" for name in sorted(rates)]
        write_atomically(journal, "".join(lines))
    return {name: rates[name] for name in sorted(tasks) if name in rates}


def _attempt(
    bench: Workbench,
    params: Any,
    specs: Mapping[str, EnvSpec],
    tasks: Sequence[Task],
    tries: int,
    journal: Path,
    progress: Bar,
) -> list[PassRate]:
    """Attempts some tasks, and notes each in the journal as soon as its last attempt has ended."""
    requests = [
        EpisodeRequest(spec=specs[task.env_id], task=task, attempt=attempt)
        for task in tasks
        for attempt in range(tries)
    ]
    ended: defaultdict[str, list[Episode]] = defaultdict(list)
    rates: list[PassRate] = []
    with journal.open("a", encoding="utf-8") as file:

        def note(episode: Episode) -> None:
            ended[episode.task_id].append(episode)
            if len(ended[episode.task_id]) < tries:
                return
            progress.advance()
            rate = _rate_of(ended[episode.task_id])
            if rate is not None:
                rates.append(rate)
                file.write(json.dumps(dataclasses.asdict(rate)) + "\n")
                file.flush()

        bench.play(params, requests, temperature=bench.config.rollout.temperature, on_episode=note)
    return rates


def _rate_of(episodes: Sequence[Episode]) -> PassRate | None:
    """What came of a task; None where the host spoiled every attempt, so that they say nothing."""
    valid = [episode for episode in episodes if episode.valid]
    if not valid:
        return None
    stops = Counter(episode.stop_reason.value for episode in valid)
    return PassRate(
        task_id=valid[0].task_id,
        attempts=len(valid),
        solved=sum(episode.reward >= 1.0 for episode in valid),
        stops=dict(sorted(stops.items())),
        policy_tokens=sum(int(episode.is_policy.sum()) for episode in valid),
    )


def _read(journal: Path) -> dict[str, PassRate]:
    """The tasks in the journal; cuts off what a process that was killed while writing has left."""
    if not journal.exists():
        return {}
    whole, _, rest = journal.read_text(encoding="utf-8").rpartition("\n")
    if rest:
        write_atomically(journal, f"{whole}\n" if whole else "")
    rates = [PassRate(**json.loads(line)) for line in whole.splitlines()]
    return {rate.task_id: rate for rate in rates}


def _adopt_policy(run: Path, work: Path, wanted: Mapping[str, Any]) -> str:
    """Copies the policy, for its run may go on and replace it; returns its stage.

    Raises:
      ConfigError: when there is none, or `work` holds attempts of another one or with other settings.
    """
    policy, settings = work / _POLICY, work / "settings.json"
    if not policy.exists():
        _copy_policy(run, policy, str(wanted["stage"]))
    [checkpoint] = (policy / "checkpoints").glob("*/*")
    identity = hashlib.sha256((checkpoint / MANIFEST).read_bytes()).hexdigest()
    given = {**wanted, "policy": identity}
    there = json.loads(settings.read_text()) if settings.exists() else given
    different = [
        f"{key}: {there[key]} there, {value} given" for key, value in given.items() if there[key] != value
    ]
    if different:
        raise ConfigError(
            f"{work} holds other attempts ({'; '.join(different)}); give another --out, or remove that folder"
        )
    write_atomically(settings, json.dumps(given) + "\n")
    return checkpoint.parent.name


def _copy_policy(run: Path, target: Path, stage: str) -> None:
    if not (run / "config.json").is_file():
        raise ConfigError(f"--policy must name a run folder, but {run} has no config.json")
    stages = [stage] if stage else list(POLICY_STAGES)
    places = {name: Checkpointer(checkpoint_place(run, name)) for name in stages}
    found = next((name for name, checkpoints in places.items() if checkpoints.latest()), "")
    if not found or not (run / "tokenizer.json").is_file():
        raise ConfigError(f"--policy: {run} holds no checkpoint of {' or '.join(stages)}; train one first")
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    places[found].copy_latest(partial / "checkpoints" / found)
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(run / name, partial / name)
    partial.rename(target)


def forget_policy(work: Path) -> None:
    """Removes the copy of the policy, once every task was attempted."""
    shutil.rmtree(work / _POLICY, ignore_errors=True)
