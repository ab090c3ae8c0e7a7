"""The settings of everything but learning: one frozen dataclass for each section."""

import pathlib
from dataclasses import dataclass

from codegym_jax.config.errors import at_least, require


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
