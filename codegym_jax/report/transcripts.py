"""Chooses a handful of episodes worth reading, and shapes them for the page."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codegym_jax.records import StopReason
from codegym_jax.report.run_folder import EpisodeFile

_Found = tuple[EpisodeFile, dict[str, Any]]
_MAX_CHARS = 1200
_MAX_TURNS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One turn as it is read: the call, and what came back."""

    tool: str
    """"" where the message held no call; then `arguments` is the message."""
    arguments: str
    observation: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One episode as it is read."""

    origin: str
    """Stage and step."""
    title: str
    env_id: str
    hidden: str
    """The hidden config, as JSON."""
    solved: bool
    verdict: str
    stop_reason: str
    prompt: str
    exchanges: list[Exchange]
    left_out: int
    """Turns that are not shown."""
    call_count: int
    token_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Episodes worth reading; each list may be empty."""

    pairs: list[tuple[Transcript, Transcript]]
    """The same task failed early and solved late."""
    solved: list[Transcript]
    failed: list[Transcript]

    def __bool__(self) -> bool:
        return bool(self.pairs or self.solved or self.failed)


def select(files: Sequence[EpisodeFile], *, pairs: int = 2, solved: int = 3, failed: int = 4) -> Selection:
    """Picks pairs over the whole run, and good and bad episodes of the newest policy.

    Longer episodes come first; environments and stop reasons do not repeat before all have been shown. The
    choice depends on the files only.
    """
    ordered = sorted(files, key=_age)
    rows = [(file, row) for file in ordered if _age(file) == _age(ordered[-1]) for row in file.rows]
    good = _varied((found for found in rows if _solved(found[1])), _env_id)
    bad = _varied((found for found in rows if not _solved(found[1])), lambda row: row["stop_reason"])
    return Selection(
        pairs=list(_pairs(ordered, pairs)),
        solved=[_transcript(*pair) for pair in good[:solved]],
        failed=[_transcript(*pair) for pair in bad[:failed]],
    )


def _age(file: EpisodeFile) -> tuple[int, int]:
    """Sorts by the policy's age."""
    return ("eval_before", "train", "eval_after").index(file.stage), file.step


def _solved(row: dict[str, Any]) -> bool:
    return row["reward"] >= 1.0


def _env_id(row: dict[str, Any]) -> str:
    return row["task_id"].split("@")[1]


def _varied(rows: Iterable[_Found], kind_of: Callable[[dict[str, Any]], str]) -> list[_Found]:
    """Longest first, but one of each kind before a second of any."""
    seen: dict[str, int] = {}
    ranked: list[tuple[int, _Found]] = []
    for found in sorted(rows, key=lambda found: (-len(found[1]["turns"]), found[1]["task_id"])):
        kind = kind_of(found[1])
        seen[kind] = seen.get(kind, 0) + 1
        ranked.append((seen[kind], found))
    return [found for _, found in sorted(ranked, key=lambda item: item[0])]


def _kind_of_play(file: EpisodeFile) -> str:
    """Split and mode of an evaluation; all steps of training are of one kind."""
    return "" if file.step else file.name


def _pairs(files: Sequence[EpisodeFile], limit: int) -> Iterator[tuple[Transcript, Transcript]]:
    """Failures of an older policy with successes of the newest; a greedy one only with a greedy one."""
    failures: dict[tuple[str, str], _Found] = {}
    successes: dict[tuple[str, str], _Found] = {}
    for file in files:
        for row in file.rows:
            key = (_kind_of_play(file), row["task_id"])
            if not _solved(row):
                failures.setdefault(key, (file, row))
            elif _age(file) == _age(files[-1]):
                successes[key] = (file, row)
    later = [
        successes[key]
        for key, (file, _) in failures.items()
        if key in successes and _age(file) < _age(successes[key][0])
    ]
    for file, row in _varied(later, _env_id)[:limit]:
        yield _transcript(*failures[_kind_of_play(file), row["task_id"]]), _transcript(file, row)


def _transcript(file: EpisodeFile, row: dict[str, Any]) -> Transcript:
    _, env_id, hidden = row["task_id"].split("@", 2)
    turns = row["turns"]
    return Transcript(
        origin=f"{file.stage}, {f'step {file.step}' if file.step else file.name}".replace("_", " "),
        title=_title(env_id),
        env_id=env_id,
        hidden=_cut(hidden),
        solved=_solved(row),
        verdict=_verdict(row),
        stop_reason=row["stop_reason"].replace("_", " "),
        prompt=row.get("prompt", ""),
        exchanges=[_exchange(turn) for turn in turns[:_MAX_TURNS]],
        left_out=max(0, len(turns) - _MAX_TURNS),
        call_count=len(turns),
        token_count=len(row.get("token_ids", ())),
    )


def _verdict(row: dict[str, Any]) -> str:
    if row["stop_reason"] != StopReason.DONE:
        return f"No answer given: reward {row['reward']:g}."
    answer = "right" if _solved(row) else "wrong"
    return f"The answer is {answer}: reward {row['reward']:g}. The policy does not read this verdict."


def _title(env_id: str) -> str:
    """`HumanEval_52__BelowThresholdEnv` -> `Below Threshold`."""
    name = env_id.rpartition("__")[2].removesuffix("Env") or env_id
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)


def _exchange(turn: dict[str, Any]) -> Exchange:
    tool, arguments = _call(turn["action"])
    return Exchange(
        tool=tool,
        arguments=_cut(arguments),
        observation=_cut(turn.get("fault") or turn["observation"]),
        error=(turn.get("error") or "").replace("_", " "),
    )


def _call(action: str) -> tuple[str, str]:
    """A call's tool and its arguments as `name=value, ...`; ("", action) where there is no call."""
    try:
        call = json.loads(action)
    except (ValueError, RecursionError):
        return "", action
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return "", action
    parameters = call.get("parameters", {})
    if not isinstance(parameters, dict):
        return call["name"], json.dumps(parameters, ensure_ascii=False)
    shown = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in parameters.items()]
    return call["name"], ", ".join(shown)


def _cut(text: str) -> str:
    if len(text) <= _MAX_CHARS:
        return text
    return f"{text[:_MAX_CHARS]} … ({len(text) - _MAX_CHARS} more characters)"
