"""What verifiers imports for `vf-eval codegym-verifiers`: it finds a taskset by the name of a module."""

from codegym_jax.adapters.verifiers.taskset import CodegymEnv, CodegymTaskset

__all__ = ["CodegymEnv", "CodegymTaskset"]
