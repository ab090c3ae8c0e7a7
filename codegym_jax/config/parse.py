"""Configs from files, overrides and JSON, and back."""

import dataclasses
import difflib
import hashlib
import importlib.util
import json
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from codegym_jax.config.errors import ConfigError
from codegym_jax.config.run import RunConfig

Made = typing.TypeVar("Made")


def to_json(config: Any) -> str:
    """A config (or a part of one) as indented JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def digest(*parts: Any) -> str:
    """A short stable hash of config parts or strings; names caches."""
    text = "\0".join(to_json(part) if dataclasses.is_dataclass(part) else str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def from_dict(values: Mapping[str, Any], kind: type = RunConfig, prefix: str = "") -> Any:
    """Builds a config dataclass from nested dicts, as read from `config.json`.

    Raises:
      ConfigError: on an unknown key (naming the nearest known one) or a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise ConfigError(_unknown_key(prefix, key, hints))
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{name} must be an object, got {value!r}")
            arguments[key] = from_dict(value, typing.cast(type, hints[key]), f"{name}.")
        else:
            arguments[key] = _coerce(name, value, hints[key])
    return kind(**arguments)


def apply_overrides(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """Applies `section.field=value` strings, as given to `--set`.

    Values are JSON; a string field takes the text as it stands.

    Raises:
      ConfigError: on a malformed override, an unknown key, or a value of the wrong type.
    """
    changes: dict[str, Any] = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"--set takes section.field=value, got {override!r}")
        _note(changes, path, text)
    return _replaced(config, changes, "")


def load(path: str | pathlib.Path) -> RunConfig:
    """Runs the experiment file at `path` and returns what its `config()` returns.

    Raises:
      ConfigError: when there is no such file, it fails, or it has no `config()` returning a `RunConfig`.
    """
    return load_made(path, "config", RunConfig)


def load_made(path: str | pathlib.Path, function: str, kind: type[Made]) -> Made:
    """Runs a Python file and returns what a function of it makes.

    Args:
      path: of the file.
      function: its name in the file.
      kind: what it must return.

    Raises:
      ConfigError: when there is no such file, it fails, or it has no such function.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ConfigError(f"config file not found: {path}")
    spec = importlib.util.spec_from_file_location(f"codegym_experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: an experiment is a Python file with a function {function}()")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = getattr(module, function)()
    except ConfigError:
        raise
    except Exception as error:  # the user's own code: any failure of it is theirs to read
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(made, kind):
        raise ConfigError(f"{path}: {function}() must return a {kind.__name__}, got {type(made).__name__}")
    return made


def _note(changes: dict[str, Any], path: str, text: str) -> None:
    """Adds one override to the tree of all; of two for the same setting the later one counts."""
    *sections, field = path.split(".")
    for section in sections:
        inner = changes.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{path}: {section} is a single value, not a section")
        changes = inner
    changes[field] = text


def _replaced(config: Any, changes: Mapping[str, Any], prefix: str) -> Any:
    """The config with all changes at once, so that settings which need one another may come in any order."""
    hints = typing.get_type_hints(type(config))
    values: dict[str, Any] = {}
    for key, change in changes.items():
        path = f"{prefix}{key}"
        if key not in hints:
            raise ConfigError(_unknown_key(prefix, key, hints))
        is_section = dataclasses.is_dataclass(hints[key])
        if isinstance(change, dict):
            if not is_section:
                inner = f"{path}.{next(iter(change))}"
                raise ConfigError(f"{inner}: {key} is a single value, not a section")
            values[key] = _replaced(getattr(config, key), change, f"{path}.")
        elif is_section:
            first = dataclasses.fields(hints[key])[0].name
            raise ConfigError(f"{path} is a section; set one of its fields, such as {path}.{first}")
        else:
            values[key] = _coerce(path, _value(change, hints[key]), hints[key])
    return dataclasses.replace(config, **values)


def _value(text: str, hint: Any) -> Any:
    if hint is str:
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _unknown_key(prefix: str, key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {prefix}{close[0]}?" if close else f"known: {', '.join(known)}"
    return f"unknown setting {prefix}{key}; {hint}"


def _coerce(name: str, value: Any, hint: Any) -> Any:
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name} must be a list, got {value!r}")
        return tuple(_coerce(name, item, typing.get_args(hint)[0]) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:  # exact, so that true is no int
        raise ConfigError(f"{name} must be {hint.__name__}, got {value!r}")
    return value
