"""One episode as the page shows it: its turns, and whose each token is and how likely it was."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from codegym_jax.data.tokenizer import Tokenizer

PROMPT, POLICY, OBSERVATION = "prompt", "policy", "observation"
_MAX_PARAGRAPH = 100_000
"""Characters of one text that are shown."""


class Changed(LookupError):
    """The line of an episode is no longer where the index found it."""


def read_line(run: Path, found: Any) -> dict[str, Any]:
    """The stored episode that the index found.

    Raises:
      Changed: the file was written anew since.
    """
    path = run / "episodes" / f"{found['file']}.jsonl"
    try:
        with path.open("rb") as file:
            file.seek(found["start"])
            row = json.loads(file.read(found["bytes"]))
    except (FileNotFoundError, ValueError) as error:
        raise Changed(f"{path}: changed while it was read; try again") from error
    if not isinstance(row, dict) or row.get("attempt") != found["attempt"]:
        raise Changed(f"{path}: changed while it was read; try again")
    return row


def turns(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The exchanges: the message, the call in it if there is one, and what the policy read in return."""
    return [
        {
            "message": _cut(turn["message"]),
            "call": _call(turn["action"]),
            "observation": _cut(turn.get("fault") or turn["observation"]),
            "error": turn.get("error") or "",
        }
        for turn in row["turns"]
    ]


def tokens(row: dict[str, Any], text_of: Callable[[int], str]) -> list[dict[str, Any]]:
    """Stretches of tokens of one kind, in order: the prompt, what the policy wrote, what came back.

    Each token is its id, its text, and its log-probabilities: as it was drawn, and of the unmodified policy.
    """
    stretches: list[dict[str, Any]] = []
    columns = (row["token_ids"], row["is_policy"], row["sampler_logp"], row["policy_logp"])
    begun = False
    for token_id, own, sampler, policy in zip(*columns, strict=True):
        begun = begun or bool(own)
        kind = POLICY if own else OBSERVATION if begun else PROMPT
        if not stretches or stretches[-1]["kind"] != kind:
            stretches.append({"kind": kind, "tokens": []})
        stretches[-1]["tokens"].append([token_id, text_of(token_id), sampler, policy])
    return stretches


def token_text(run: Path) -> Callable[[int], str]:
    """Id -> text by the run's own tokenizer; "" throughout where the run has none.

    Raises:
      TokenizerError: the run's tokenizer is damaged.
    """
    path = run / "tokenizer.json"
    if not path.is_file():
        return lambda token_id: ""
    tokenizer = Tokenizer.load(path)
    known: dict[int, str] = {}

    def text(token_id: int) -> str:
        if token_id not in known:
            known[token_id] = tokenizer.decode([token_id])
        return known[token_id]

    return text


def first_difference(rows: Sequence[dict[str, Any]]) -> list[int | None]:
    """For each episode the first turn in which it is not the first one's; None where there is none."""
    base = [_exchange(turn) for turn in rows[0]["turns"]] if rows else []
    return [_first_unequal(base, [_exchange(turn) for turn in row["turns"]]) for row in rows]


def _first_unequal(base: list[Any], other: list[Any]) -> int | None:
    for number in range(max(len(base), len(other))):
        if base[number : number + 1] != other[number : number + 1]:
            return number
    return None


def _exchange(turn: dict[str, Any]) -> tuple[str, str]:
    return turn["message"], turn.get("fault") or turn["observation"]


def _call(action: str) -> dict[str, Any] | None:
    """The tool and its parameters as JSON; None where the message held no call."""
    try:
        call = json.loads(action)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    parameters = call.get("parameters", {})
    named = parameters if isinstance(parameters, dict) else {"parameters": parameters}
    return {
        "tool": _cut(call["name"]),
        "parameters": [
            [_cut(name), _cut(json.dumps(value, ensure_ascii=False))] for name, value in named.items()
        ],
    }


def _cut(text: str) -> str:
    if len(text) <= _MAX_PARAGRAPH:
        return text
    return f"{text[:_MAX_PARAGRAPH]} … ({len(text) - _MAX_PARAGRAPH} more characters)"
