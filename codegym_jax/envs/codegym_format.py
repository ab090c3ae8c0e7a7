"""The published CodeGym format, as text: environment files, task strings, rows of `training_instance.jsonl`.

Configs are parsed here, by the host: they may hold "@", true, false and null, on which published classes
stumble. Source: CodeGym, arXiv 2509.17325.
"""

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from codegym_jax.envs.environment_source import REQUIRED_METHODS as REQUIRED_METHODS
from codegym_jax.envs.environment_source import FormatError as FormatError
from codegym_jax.envs.environment_source import load_environment as load_environment
from codegym_jax.envs.environment_source import parse_source as parse_source
from codegym_jax.records import EnvSpec, Rejection, Task, ToolSpec

DATA_SOURCE = "codegym_v1"
_SURROGATE = re.compile("[\ud800-\udfff]")

_INSTRUCTIONS = """\
Solve the task below step by step, only by calling the functions you are given; write no program of your own.
Call at most one function in each message, then wait for its result. Where a description leaves something
open, try the function and learn from what it returns. Write a call as
<|FunctionCallBegin|>[{"name": "function_name", "parameters": {"parameter": "value"}}]<|FunctionCallEnd|>

Question:

"""


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, characters as themselves.

    Raises:
      TypeError, ValueError: when the value has no JSON form.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # A lone surrogate has no UTF-8 form, so it stays an escape.
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def parse_env_string(text: str) -> tuple[str, str]:
    """Splits `codegym_v1@<code_id>__<Class>@{config}`.

    Returns:
      The environment's id and its config as canonical JSON.

    Raises:
      FormatError: when the text has another form, or its config is no JSON object.
    """
    prefix, _, rest = text.partition("@")
    env_id, separator, config = rest.partition("@")
    if prefix != DATA_SOURCE or not separator or "__" not in env_id:
        raise FormatError(f"expected {DATA_SOURCE}@<code_id>__<Class>@{{config}}, got {_excerpt(text)}")
    return env_id, canonical_config(config)


def canonical_config(config_json: str) -> str:
    """A config in its canonical form.

    Raises:
      FormatError: when it is no JSON object.
    """
    try:
        config = json.loads(config_json)
        if isinstance(config, dict):
            return canonical_json(config)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the config is not JSON ({error}): {_excerpt(config_json)}") from error
    raise FormatError(f"the config is not a JSON object: {_excerpt(config_json)}")


def tool_listing(tools: tuple[ToolSpec, ...]) -> str:
    """The tools as the agent is shown them: signatures and docstrings, without example outputs."""
    return "".join(
        f'\nFunction:\n\ndef {_signature(tool)}:\n    r"""\n{_indented(tool.doc)}\n    """\n\n'
        for tool in tools
    )


def task_row(spec: EnvSpec, task: Task, index: int, max_round: int = 256) -> dict[str, Any]:
    """A verified task as a row of `training_instance.jsonl`.

    Args:
      index: the row's number in its file.
      max_round: the most calls that an episode of it may make.
    """
    return {
        "ability": task.task_id,
        "answer": json.loads(task.answer_json) if task.answer_json else None,
        "code_id": spec.code_id,
        "data_source": DATA_SOURCE,
        "extra_info": {
            "gym_env": spec.source,
            "index": str(index),
            "solve_fc_round": len(task.oracle_actions),
        },
        "plugin_call_max_round": max_round,
        "prompt": [
            {"role": "system", "name": "functions", "content": tool_listing(spec.tools)},
            {"role": "user", "name": "", "content": _INSTRUCTIONS + spec.statement.strip()},
        ],
        "reward_model": {"ground_truth": None, "style": "agent_env"},
    }


def read_rows(path: str | pathlib.Path) -> Iterator[tuple[int, Task, str | None] | Rejection]:
    """Reads task rows, one JSON object a line; a bad row is a rejection, and the next ones go on.

    Yields:
      (line number from 1, task, the environment's source where the row carries it), or a `Rejection` whose
      subject is `file:line`.

    Raises:
      FormatError: when the file cannot be read.
    """
    path = pathlib.Path(path)
    try:
        file = path.open(encoding="utf-8", errors="surrogateescape", newline="\n")
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield number, *_parse_row(line)
            except FormatError as error:
                yield Rejection(reason="bad_row", detail=str(error), subject=f"{path}:{number}")


def _parse_row(line: str) -> tuple[Task, str | None]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise FormatError(f"expected a JSON object, got {_excerpt(line)}")
    ability = row.get("ability")
    if not isinstance(ability, str):
        raise FormatError(f"the key ability must hold {DATA_SOURCE}@<code_id>__<Class>@{{config}}")
    env_id, config_json = parse_env_string(ability)
    extra = row.get("extra_info")
    source = extra.get("gym_env") if isinstance(extra, dict) else None
    if source is not None and not isinstance(source, str):
        raise FormatError("the key extra_info.gym_env must hold the environment's source text")
    return Task(env_id=env_id, config_json=config_json), source


def _signature(tool: ToolSpec) -> str:
    names = (p.name if p.required else f"{p.name}=..." for p in tool.parameters)
    return f"{tool.name}({', '.join(names)})"


def _indented(doc: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in doc.splitlines())


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
