"""Coding problems, whatever they come from: corpora of pip packages, files of rows, folders of modules.

A *source* is the name of a corpus or a path. `load` gives the problems of sources and what was refused.
"""

from codegym_jax.synthesis.problems.corpora import algorithms, codeio, humaneval
from codegym_jax.synthesis.problems.load import Loaded, load, load_problems, open_source
from codegym_jax.synthesis.problems.problem import Problem, ProblemError
from codegym_jax.synthesis.problems.typed import typed_inputs

__all__ = [
    "Loaded",
    "Problem",
    "ProblemError",
    "algorithms",
    "codeio",
    "humaneval",
    "load",
    "load_problems",
    "open_source",
    "typed_inputs",
]
