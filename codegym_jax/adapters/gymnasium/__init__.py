"""Environments behind Gymnasium's interface: text in, text out, reward at the end.

`register` makes `gymnasium.make("codegym/<environment id>-v0")` known for a task set; `CodegymEnv` takes an
environment and tasks that are at hand. Nothing is registered by importing: Gymnasium has no plugins that
load themselves, and a task set is somebody's folder.
"""

from codegym_jax.adapters.gymnasium.environment import CodegymEnv as CodegymEnv
from codegym_jax.adapters.gymnasium.environment import CodegymState as CodegymState
from codegym_jax.adapters.gymnasium.registration import register as register
from codegym_jax.adapters.gymnasium.unicode_text import UnicodeText as UnicodeText
from codegym_jax.adapters.gymnasium.vector import CodegymVectorEnv as CodegymVectorEnv
