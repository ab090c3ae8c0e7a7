"""The whole configuration surface, as frozen dataclasses. Imports no JAX.

An experiment is a Python file with a `config()` that returns a `RunConfig`; `--set rollout.max_turns=8`
overrides one field, parsed against its type; the resolved config is written as JSON beside the run.
Only `cli`, `pipelines` and builders see a config; leaves take plain arguments.
"""

from codegym_jax.config.errors import (
    CannotGoOn,
    ConfigError,
    ExitCode,
    Outage,
    UserError,
    at_least,
    exit_code_of,
    require,
)
from codegym_jax.config.learning import (
    AlgorithmConfig,
    CurriculumConfig,
    LoraConfig,
    SftConfig,
    TrainConfig,
)
from codegym_jax.config.parse import apply_overrides, digest, from_dict, load, to_json
from codegym_jax.config.presets import PRESETS, apply_presets
from codegym_jax.config.run import RunConfig
from codegym_jax.config.sections import (
    CORPORA,
    MIN_TASKS,
    PROBLEM_FILES,
    DataConfig,
    EvalConfig,
    MeshConfig,
    PolicyConfig,
    RolloutConfig,
    SamplingMeshConfig,
    SandboxConfig,
    SynthesisConfig,
)

__all__ = [
    "CORPORA",
    "MIN_TASKS",
    "PRESETS",
    "PROBLEM_FILES",
    "AlgorithmConfig",
    "CannotGoOn",
    "ConfigError",
    "CurriculumConfig",
    "DataConfig",
    "EvalConfig",
    "ExitCode",
    "LoraConfig",
    "MeshConfig",
    "Outage",
    "PolicyConfig",
    "RolloutConfig",
    "RunConfig",
    "SamplingMeshConfig",
    "SandboxConfig",
    "SftConfig",
    "SynthesisConfig",
    "TrainConfig",
    "UserError",
    "apply_overrides",
    "apply_presets",
    "at_least",
    "digest",
    "exit_code_of",
    "from_dict",
    "load",
    "require",
    "to_json",
]
