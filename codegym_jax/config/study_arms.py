"""The generalization study: its ways to learn, and what is asked of them, whatever model and budget."""

import dataclasses
from collections.abc import Mapping

from codegym_jax.config.study import Arm, FilterConfig, Question

HARD = FilterConfig(min_pass_rate=0.0, max_pass_rate=0.25)
"""The bound of CodeGym (arXiv 2509.17325)."""
WITHIN_REACH = FilterConfig(min_pass_rate=0.25, max_pass_rate=0.75)

ARMS: Mapping[str, Arm] = {
    "rl": Arm(method="rl", environments=32, about="RL on all training tasks"),
    "rl-hard": Arm(
        method="rl",
        environments=32,
        about="RL on tasks that the warm start solves at most once in four (the paper's bound)",
        keep=HARD,
    ),
    "rl-reach": Arm(
        method="rl",
        environments=32,
        about="RL on tasks that the warm start solves once to three times in four",
        keep=WITHIN_REACH,
    ),
    "rl-reach-free": Arm(
        method="rl",
        environments=32,
        about="the same, the filter's attempts not counted",
        keep=dataclasses.replace(WITHIN_REACH, is_charged=False),
    ),
    "sft": Arm(method="sft", environments=32, about="more SFT, on oracle episodes of all tasks"),
    "distill": Arm(method="distill", environments=32, about="SFT on own episodes that succeeded"),
    "rl-8": Arm(method="rl", environments=8, about="RL on 8 environments"),
    "rl-128": Arm(method="rl", environments=128, about="RL on 128 environments"),
    "rl-512": Arm(method="rl", environments=512, about="RL on 512 environments"),
}
QUESTIONS = (
    Question(title="RL on filtered or unfiltered tasks", arms=("rl", "rl-hard", "rl-reach", "rl-reach-free")),
    Question(title="Oracle-SFT, distillation or RL", arms=("rl", "sft", "distill")),
    Question(
        title="How many environments to train on",
        arms=("rl-8", "rl", "rl-128", "rl-512"),
        by_environments=True,
    ),
)


def arms(*names: str) -> dict[str, Arm]:
    """Those of these names, in the order of `ARMS`."""
    return {name: arm for name, arm in ARMS.items() if name in names}


def questions(*names: str) -> tuple[Question, ...]:
    """What can be asked of the arms of these names: questions with at least two of them."""
    asked = ((question, tuple(name for name in question.arms if name in names)) for question in QUESTIONS)
    return tuple(dataclasses.replace(question, arms=there) for question, there in asked if len(there) > 1)
