"""The whole configuration surface, as frozen dataclasses. Imports no JAX.

An experiment is a Python file with a `config()` that returns a `RunConfig`; `--set rollout.max_turns=8`
overrides one field, parsed against its type; the resolved config is written as JSON beside the run.
Only `cli`, `pipelines` and builders see a config; leaves take plain arguments.
"""

import dataclasses
import difflib
import hashlib
import importlib.util
import json
import math
import pathlib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class UserError(ValueError):
    """What a user got wrong. The message is one clear line; the command line prints it and exits with 2."""


class ConfigError(UserError):
    """A setting the user got wrong: the message names it, its value, and what would be right."""


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raises `ConfigError` unless the condition on a setting holds."""
    if not condition:
        raise ConfigError(f"{name} must be {expected}, got {value!r}")


def at_least(section: str, config: object, **bounds: int) -> None:
    """Requires settings of a section to be finite and no less than their bounds."""
    for name, bound in bounds.items():
        value = getattr(config, name)
        require(bound <= value < math.inf, f"{section}.{name}", value, f"at least {bound}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxConfig:
    """Limits on a guest. Fuel may end a call; the clock never does."""

    fuel_per_call: int = 2_000_000_000  # Wasm instructions, roughly: a quarter to half a second
    memory_bytes: int = 64 * 2**20  # linear memory of one guest; the image itself takes about 19 MiB
    stack_bytes: int = 4 * 2**20  # Wasm stack
    max_action_bytes: int = 65_536  # a longer action is a failed call
    max_json_depth: int = 64  # of an action
    max_observation_chars: int = 8_192  # a longer observation is cut with a visible marker

    def __post_init__(self) -> None:
        at_least(
            "sandbox",
            self,
            fuel_per_call=1_000_000,
            memory_bytes=32 * 2**20,
            stack_bytes=64 * 2**10,
            max_action_bytes=64,
            max_json_depth=4,
            max_observation_chars=64,
        )
        # The Wasm stack lies on the host thread's, which has 8 MiB; overflowing that would kill the process.
        require(
            self.stack_bytes <= 6 * 2**20, "sandbox.stack_bytes", self.stack_bytes, f"at most {6 * 2**20}"
        )


CORPORA = ("humaneval", "codeio", "algorithms")
"""Sources of problems that are read from pip packages."""
MIN_TASKS = 10
"""Verified tasks that an environment must have to be kept."""
PROBLEM_FILES = (".jsonl", ".jsonl.gz", ".parquet")
"""How the name of a user's file of problems may end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthesisConfig:
    """Coding problems to verified environments and tasks."""

    seed: int = 0  # of the choice of problems, their inputs and the splits; apart from the run's
    sources: tuple[str, ...] = ("humaneval", "codeio")  # corpora, and paths of files and folders of one's own
    licenses: tuple[str, ...] = ()  # only problems under these, named as in the corpora; empty: all
    own_license: str = "unknown"  # of problems from a path whose rows name none
    problems_per_source: int = 160  # the first so many, in an order fixed by the seed
    tasks_per_environment: int = 20  # at most; learnable environments get more (below)
    learnable_environments: int = 24  # so many of the environments that a tiny policy can learn ...
    tasks_per_learnable_environment: int = 120  # ... get so many tasks
    min_oracle_calls: int = 3  # `Done` included
    max_oracle_calls: int = 256
    max_answer_chars: int = 100  # as JSON
    workers: int = 0  # processes; 0 means one per CPU core

    def __post_init__(self) -> None:
        # Whether a path exists is asked where it is read: what was made of it may outlive it.
        files = ", ".join(f"a {ending} file" for ending in PROBLEM_FILES)
        for source in self.sources:
            is_path = source.endswith(PROBLEM_FILES) or "/" in source or pathlib.Path(source).is_dir()
            expected = f"made of {', '.join(CORPORA)}, paths of {files}, or of a folder of Python modules"
            require(source in CORPORA or is_path, "synthesis.sources", source, expected)
        at_least(
            "synthesis",
            self,
            problems_per_source=1,
            tasks_per_environment=MIN_TASKS,
            learnable_environments=0,
            tasks_per_learnable_environment=1,
            min_oracle_calls=1,
            max_oracle_calls=self.min_oracle_calls,
            max_answer_chars=1,
            workers=0,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Which tasks a run trains on, and what it holds out."""

    task_set: str = ""  # a task set folder to use as it is; empty: one is synthesized
    heldout_environments: int = 6  # learnable environments never trained on
    validation_configs: int = 10  # per trained environment: settings are chosen on these
    test_configs: int = 24  # per trained environment: results are reported on these
    max_vocabulary: int = 512  # of the BPE trained on the task set

    def __post_init__(self) -> None:
        at_least(
            "data", self, heldout_environments=0, validation_configs=0, test_configs=0, max_vocabulary=256
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyConfig:
    """The model, its weights, and how it computes."""

    preset: str = "tiny"  # a key of `models.presets.PRESETS`; ignored where `weights` say their own shape
    weights: str = ""  # a folder of safetensors, a .gguf file, or `package:file`; empty: random
    tokenizer: str = ""  # a tokenizer.json or its folder; empty: of the weights, or trained on the tasks
    param_dtype: str = "float32"  # what is kept, checkpointed and updated
    compute_dtype: str = "float32"  # what activations and the KV cache are
    scan_layers: bool = False  # one compiled layer serves all: compiles faster, and may run slower
    remat: str = "none"  # what the backward pass computes again; a key of `models.transformer.REMAT`
    attention: str = "auto"  # a key of `models.attention.BACKENDS`; auto: by device

    def __post_init__(self) -> None:
        for name in ("param_dtype", "compute_dtype"):
            value = getattr(self, name)
            require(value in ("float32", "bfloat16"), f"policy.{name}", value, "float32 or bfloat16")


@dataclass(frozen=True, kw_only=True, slots=True)
class SftConfig:
    """The warm start: supervised learning on oracle episodes, policy tokens only."""

    demonstrations_per_environment: int = 16
    max_demonstration_calls: int = 8  # longer tasks are left to reinforcement learning
    steps: int = 300
    rows: int = 16  # episodes per update
    learning_rate: float = 4e-3
    warmup_steps: int = 30

    def __post_init__(self) -> None:
        at_least("sft", self, demonstrations_per_environment=1, max_demonstration_calls=1, steps=0, rows=1)
        at_least("sft", self, learning_rate=0, warmup_steps=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutConfig:
    """How episodes are sampled."""

    tasks_per_step: int = 16  # P
    attempts_per_task: int = 8  # G
    slots: int = 128  # rows of the KV cache; a finished slot takes the next episode
    max_tokens: int = 320  # whole episode, prompt included: the cache's length
    max_turn_tokens: int = 16  # one policy message
    max_turns: int = 48
    max_errors: int = 2  # failed calls before an episode ends
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    min_p: float = 0.0  # keep tokens at least this share as likely as the likeliest

    def __post_init__(self) -> None:
        require(
            self.attempts_per_task >= 2,
            "rollout.attempts_per_task",
            self.attempts_per_task,
            "at least 2 (a lone attempt has no sibling to form a baseline)",
        )
        require(0 < self.top_p <= 1, "rollout.top_p", self.top_p, "in (0, 1]")
        require(0 <= self.min_p <= 1, "rollout.min_p", self.min_p, "in [0, 1]")
        at_least("rollout", self, tasks_per_step=1, slots=1, max_tokens=2, max_turn_tokens=1, max_turns=1)
        at_least("rollout", self, max_errors=0, temperature=0, top_k=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Reinforcement learning. Defaults that are not about size are the paper's (appendix E.1)."""

    algorithm: str = "grpo"  # a key of `algorithms.presets.ALGORITHMS`
    steps: int = 60
    rows_per_update: int = 64  # episodes per update, about; a step makes as many updates as its episodes fill
    rows_per_batch: int = 32  # episodes in one forward and backward pass
    learning_rate: float = 2.5e-4
    warmup_steps: int = 5
    weight_decay: float = 0.1
    adam_b1: float = 0.9
    adam_b2: float = 0.95
    max_grad_norm: float = 1.0
    mean: str = "token"  # of the loss: over "token"s or over "episode"s
    clip_low: float = 0.2
    clip_high: float = 0.2
    max_invalid_fraction: float = 0.2  # more host failures than this in one step stop the run
    checkpoint_every: int = 10
    chunk_tokens: int = 32  # positions of every row that have logits at the same time

    def __post_init__(self) -> None:
        at_least("train", self, chunk_tokens=1)
        at_least("train", self, steps=0, rows_per_update=1, learning_rate=0, warmup_steps=0, weight_decay=0)
        at_least("train", self, adam_b1=0, adam_b2=0, max_grad_norm=0, clip_low=0, clip_high=0)
        at_least("train", self, max_invalid_fraction=0, checkpoint_every=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """Success on held-out tasks, greedy and sampled."""

    max_tasks: int = 480  # per split, spread evenly over its environments
    temperature: float = 1.0  # of the sampled figure

    def __post_init__(self) -> None:
        at_least("evaluation", self, max_tasks=1, temperature=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshConfig:
    """Devices per named axis; -1 takes what is left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingMeshConfig:
    """How the same devices are laid out while episodes are sampled; all 0: as `mesh`."""

    data: int = 0
    fsdp: int = 0
    tensor: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One experiment."""

    seed: int = 0
    style: str = "compact"  # the renderer
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    data: DataConfig = field(default_factory=DataConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    sampling_mesh: SamplingMeshConfig = field(default_factory=SamplingMeshConfig)


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
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"--set takes section.field=value, got {override!r}")
        config = _replace(config, path.split("."), text, path)
    return config


def load(path: str | pathlib.Path) -> RunConfig:
    """Runs the experiment file at `path` and returns what its `config()` returns.

    Raises:
      ConfigError: when there is no such file, it fails, or it has no `config()` returning a `RunConfig`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ConfigError(f"config file not found: {path}")
    spec = importlib.util.spec_from_file_location(f"codegym_experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: an experiment is a Python file with a function config()")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.config()
    except ConfigError:
        raise
    except Exception as error:  # the user's own code: any failure of it is theirs to read
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, RunConfig):
        raise ConfigError(f"{path}: config() must return a RunConfig, got {type(config).__name__}")
    return config


def _replace(config: Any, keys: list[str], text: str, path: str) -> Any:
    hints = typing.get_type_hints(type(config))
    key = keys[0]
    if key not in hints:
        raise ConfigError(_unknown_key(path.removesuffix(".".join(keys)), key, hints))
    if len(keys) > 1:
        if not dataclasses.is_dataclass(hints[key]):
            raise ConfigError(f"{path}: {key} is a single value, not a section")
        return dataclasses.replace(config, **{key: _replace(getattr(config, key), keys[1:], text, path)})
    if dataclasses.is_dataclass(hints[key]):
        first = dataclasses.fields(hints[key])[0].name
        raise ConfigError(f"{path} is a section; set one of its fields, such as {path}.{first}")
    try:
        value = text if hints[key] is str else json.loads(text)
    except json.JSONDecodeError:
        value = text
    return dataclasses.replace(config, **{key: _coerce(path, value, hints[key])})


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
