"""The attacks again, on the component that nothing was fused in and by wasmtime's public interface.

Left out is what the two paths do not share. That interface converts a reply byte by byte, refuses a large one
and gives no reply's memory back, so addresses differ. How deep a stack goes, and how a wrecked interpreter
ends, depends on how the code was compiled.
"""

import dataclasses
import functools

import pytest
from attack import TRAPS, play
from test_attacks import EPISODES

from codegym_jax.envs.reference import ComponentRuntime
from codegym_jax.envs.sandbox import Sandbox

_LARGE = ("MB", "huge observations")
_DEEP = ("recursion through C with the limit lifted",)
_SHARED = [
    attack
    for attack in EPISODES
    if attack.travels and TRAPS not in attack.sees and not any(word in attack.name for word in _LARGE + _DEEP)
]


@pytest.mark.slow
def test_both_paths_end_alike(sandbox_with):
    reference = functools.cache(lambda limits: Sandbox(limits, runtime=ComponentRuntime(limits)))
    for attack in _SHARED:
        fast, slow = play(sandbox_with(attack.limits), attack), play(reference(attack.limits), attack)
        assert dataclasses.replace(slow, fuel=fast.fuel) == fast, attack.name
