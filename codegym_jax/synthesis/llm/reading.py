"""What a completion says, taken out of its text. Nothing here runs anything."""

import json
import re
from dataclasses import dataclass

from codegym_jax.envs.codegym_format import canonical_json
from codegym_jax.synthesis.llm.store import Completion

LEVELS = ("easy", "medium", "hard")
_FENCE = re.compile(r"\A\s*```[\w+-]*[ \t]*\n(.*?)\n?```\s*\Z", re.DOTALL)
# Possessive, so that no line of a hostile writer takes long to refuse.
_LINE = re.compile(r"[-*\d.)\s]*+(?:(easy|medium|hard)[:\s]++)?(\w++)@(\{.*\})\Z", re.IGNORECASE)


class Unusable(Exception):
    """A completion, or a part of one, that cannot be used; `reason` is a counted key."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Config:
    """A config that a model wrote."""

    level: str
    """One of `LEVELS`."""
    config_json: str
    """Canonical."""


def tagged(completion: Completion, tag: str) -> str:
    """The last text between `<tag>` and `</tag>`, without a code fence around it or carriage returns.

    Raises:
      Unusable: `truncated` when the completion ran into its limit, `lacks_tag` when there is no such text.
    """
    if completion.is_truncated:
        raise Unusable("truncated", f"after {completion.completion_tokens} tokens")
    text = encodable(completion.text).replace("\r\n", "\n").replace("\r", "\n").rpartition("</think>")[2]
    before, closed, _ = text.rpartition(f"</{tag}>")
    _, opened, inner = before.rpartition(f"<{tag}>")
    if not closed or not opened or not inner.strip():
        raise Unusable("lacks_tag", f"no <{tag}>...</{tag}>")
    fenced = _FENCE.match(inner)
    return (fenced[1] if fenced else inner).strip("\n") + "\n"


def encodable(text: str) -> str:
    """A text without lone surrogates, which neither a file nor a request can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def config_lines(text: str, class_name: str) -> list[Config | Unusable]:
    """The configs in a text, one a line; blank lines and fences are passed over.

    Returns:
      For each line its config, or `bad_config` with what is wrong with it.
    """
    found: list[Config | Unusable] = []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("```"):
            try:
                found.append(_config(line, class_name))
            except Unusable as error:
                found.append(error)
    return found


def _config(line: str, class_name: str) -> Config:
    match = _LINE.match(line.strip())
    if match is None or match[2] != class_name:
        raise Unusable("bad_config", f"expected <level> {class_name}@{{...}}, got {line[:200]!r}")
    try:
        config = json.loads(match[3], parse_constant=_refuse)
        return Config((match[1] or "medium").lower(), canonical_json(config))
    except (ValueError, RecursionError) as error:
        raise Unusable("bad_config", f"{error}: {line[:200]!r}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
