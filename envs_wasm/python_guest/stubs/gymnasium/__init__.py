"""Stands in for gymnasium inside the guest: the names that an environment's class statement needs."""

import types

from gymnasium import spaces as spaces


class Env:
    """The base class of every environment; the published format uses nothing of it but its name."""

    metadata = types.MappingProxyType({})
    action_space = None
    observation_space = None

    @property
    def unwrapped(self):
        return self

    def reset(self, *, seed=None, options=None):
        return None, {}

    def close(self):
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
