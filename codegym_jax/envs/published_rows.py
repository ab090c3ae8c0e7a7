"""Rows that carry environments and tasks, of whatever kind, as records to verify.

Three kinds are told apart by their keys: task rows of the published data set (`ability`, `prompt`,
`extra_info`, ...), its environment rows (`env_code`, `env_name`, `source`), and the flat rows that
`codegym export` writes as JSON lines or Parquet (`env_id`, `config_json`, `environment`, ...).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codegym_jax.envs.codegym_format import DATA_SOURCE, canonical_config, parse_env_string
from codegym_jax.envs.environment_source import FormatError

MAX_ROUND = 256
"""Calls an episode may make where a row does not say."""

_QUESTION = re.compile(r"^\s*Question:\s*$", re.MULTILINE)
_CODE_ID = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task to verify, and what its row says of its environment."""

    env_id: str
    config_json: str
    source: str = ""
    """Of the environment; "" where the row does not carry it."""
    statement: str = ""
    license: str = ""
    origin: str = ""
    split: str = ""
    max_round: int = MAX_ROUND


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentRow:
    """An environment without a task."""

    env_id: str
    source: str
    license: str = ""
    origin: str = ""


def read_row(row: Any) -> TaskRow | EnvironmentRow:
    """What a row of any known kind holds.

    Raises:
      FormatError: naming the key that is missing or wrong.
    """
    if not isinstance(row, Mapping):
        raise FormatError(f"expected an object, got {str(row)[:80]!r}")
    if "ability" in row:
        return _published_task(row)
    if "env_code" in row or "env_name" in row:
        return _published_environment(row)
    if "config_json" in row:
        return _exported_task(row)
    keys = ", ".join(map(str, list(row)[:8])) or "none"
    raise FormatError(
        "neither a task (key ability, or env_id with config_json) nor an environment (keys env_code and"
        f" env_name); its keys: {keys}"
    )


def _published_task(row: Mapping[str, Any]) -> TaskRow:
    ability = row["ability"]
    if not isinstance(ability, str):
        raise FormatError(f"the key ability must hold {DATA_SOURCE}@<code_id>__<Class>@{{config}}")
    env_id, config_json = parse_env_string(ability)
    extra = row.get("extra_info") or {}
    if isinstance(extra, str):  # some column stores hold it as text
        extra = _json_object(extra, "extra_info")
    if not isinstance(extra, Mapping):
        raise FormatError("the key extra_info must hold an object")
    max_round = row.get("plugin_call_max_round") or MAX_ROUND
    if not isinstance(max_round, int) or not 0 < max_round <= 100_000:
        raise FormatError(f"the key plugin_call_max_round must hold a positive number, got {max_round!r}")
    return TaskRow(
        env_id=env_id,
        config_json=config_json,
        source=_text(extra, "gym_env"),
        statement=_statement(row.get("prompt")),
        license=_text(extra, "license") or _text(row, "license"),
        origin=_text(extra, "origin"),
        split=_text(extra, "split"),
        max_round=max_round,
    )


def _published_environment(row: Mapping[str, Any]) -> EnvironmentRow:
    """`env_name` is the id, or the class alone; then the id of its problem is looked for in `source`."""
    name, source = _text(row, "env_name").removesuffix(".py"), _text(row, "source")
    program = _text(row, "env_code")
    if not name or not program:
        raise FormatError("an environment row needs text under the keys env_name and env_code")
    if "__" not in name:
        if not _CODE_ID.fullmatch(source):
            raise FormatError(f"env_name {name[:80]!r} must be <code_id>__<Class>")
        name = f"{source}__{name}"
    return EnvironmentRow(env_id=name, source=program, license=_text(row, "license"), origin=source)


def _exported_task(row: Mapping[str, Any]) -> TaskRow:
    env_id, program = _text(row, "env_id"), _text(row, "environment")
    if "__" not in env_id:
        raise FormatError(f"the key env_id must hold <code_id>__<Class>, got {env_id[:80]!r}")
    config_json = canonical_config(_text(row, "config_json"))
    calls = row.get("oracle_calls")
    return TaskRow(
        env_id=env_id,
        config_json=config_json,
        source=program,
        statement=_text(row, "statement"),
        license=_text(row, "license"),
        origin=_text(row, "origin"),
        split=_text(row, "split"),
        max_round=max(MAX_ROUND, calls) if isinstance(calls, int) else MAX_ROUND,
    )


def _statement(prompt: Any) -> str:
    """The task text in a prompt: what follows the line `Question:` in the user's message, or all of it."""
    messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    for message in messages:
        if isinstance(message, Mapping) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                found = _QUESTION.search(content)
                return content[found.end() if found else 0 :].strip()
    return ""


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise FormatError(f"the key {key} must hold text, got {str(value)[:80]!r}")
    return value or ""


def _json_object(text: str, key: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the key {key} is not JSON: {error}") from error
