"""Many episodes at once, each reset when the caller says so."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float

from codegym_jax.adapters.gymnasium.environment import CodegymEnv, CodegymState

_MASK = "reset_mask"


class CodegymVectorEnv(gymnasium.vector.VectorEnv[tuple[str, ...], Sequence[str], np.ndarray]):
    """Episodes side by side in this process; a call of a tool costs less than sending it to another one.

    Episodes end at different times. One that has ended stays as it is, whatever action it is given, until it
    is reset: the observation is empty, the reward 0, and `info` says nothing of it. So attempts at one task
    (`reset(options={"task": 3})`) are played until all have ended.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": []}  # noqa: RUF012 - Gymnasium's own

    def __init__(self, envs: Sequence[CodegymEnv]):
        """Takes at least one environment; they may be of different kinds."""
        super().__init__()
        if not envs:
            raise ValueError("a vector needs at least one environment")
        self.envs = list(envs)
        self.num_envs = len(envs)
        self.single_action_space = envs[0].action_space
        self.single_observation_space = envs[0].observation_space
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._observations = [""] * self.num_envs
        self._terminated = np.zeros(self.num_envs, bool)
        self._truncated = np.zeros(self.num_envs, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Begins episodes.

        Args:
          seed: of the first environment, the next ones get the next numbers; or one for each.
          options: for each environment as `CodegymEnv.reset` takes them; beside them `reset_mask`, booleans:
            which environments to reset. All unless given.

        Returns:
          What each policy reads, also where nothing was reset, and the tools of those that were.

        Raises:
          ValueError: for seeds or a mask of another length, and as `CodegymEnv.reset` does.
          HostFailure: when the host has no room for a guest.
        """
        options = dict(options or {})
        mask = np.asarray(options.pop(_MASK, np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ValueError(f"options['{_MASK}'] must hold {self.num_envs} booleans")
        infos: dict[str, Any] = {}
        for row, row_seed in enumerate(self._seeds(seed)):
            if mask[row]:
                self._observations[row], info = self.envs[row].reset(seed=row_seed, options=options)
                self._terminated[row] = self._truncated[row] = False
                infos = self._add_info(infos, info, row)
        return tuple(self._observations), infos

    def step(
        self, actions: Sequence[str]
    ) -> tuple[
        tuple[str, ...],
        Float[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
        dict[str, Any],
    ]:
        """Takes one action in each environment whose episode goes on.

        Raises:
          ValueError: when there are not as many actions as environments.
          HostFailure: when the host failed.
        """
        if len(actions) != self.num_envs:
            raise ValueError(f"{len(actions)} actions for {self.num_envs} environments")
        rewards = np.zeros(self.num_envs)
        infos: dict[str, Any] = {}
        for row, action in enumerate(actions):
            if self._terminated[row] or self._truncated[row]:
                self._observations[row] = ""
                continue
            result = self.envs[row].step(action)
            self._observations[row], rewards[row], self._terminated[row], self._truncated[row], info = result
            infos = self._add_info(infos, info, row)
        return (
            tuple(self._observations),
            rewards,
            self._terminated.copy(),
            self._truncated.copy(),
            infos,
        )

    def clone_state(self) -> list[CodegymState]:
        """Every episode as it is now, in order."""
        return [env.clone_state() for env in self.envs]

    def restore_state(self, states: Sequence[CodegymState]) -> None:
        """Goes on from states of episodes, one for each environment.

        Raises:
          ValueError: when there are not as many, or one is of another environment.
          HostFailure: when the host failed.
        """
        for row, (env, state) in enumerate(zip(self.envs, states, strict=True)):
            env.restore_state(state)
            self._observations[row] = env.observation
            self._terminated[row] = state.episode.finished
            self._truncated[row] = env.is_cut_off

    def close_extras(self, **kwargs: Any) -> None:
        """Frees the guests."""
        del kwargs
        for env in self.envs:
            env.close()

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int):
            return [seed + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} environments")
        return seed
