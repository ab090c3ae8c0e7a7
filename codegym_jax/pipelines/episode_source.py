"""Where a learner's episodes come from, step by step: sampled now, or while the step before is learned.

A source's state goes into the learner's checkpoints. What was sampled ahead is part of it: its episodes are
on disk before the state that names them is given out, and a resumed source reads them back.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from codegym_jax.config import UserError
from codegym_jax.pipelines.rollouts import StepEpisodes, StepPlayer, step_episodes
from codegym_jax.records import Episode
from codegym_jax.rollout.episode_log import digest as digest_of


class EpisodesChanged(UserError):
    """The log no longer holds the episodes that a checkpoint refers to."""


@runtime_checkable
class EpisodeSource(Protocol):
    """Gives a learner the episodes of its steps."""

    def next(self, step: int, params: Any, policy_version: int) -> StepEpisodes:
        """The episodes of step `step` (counted from 1, each step once and in order).

        Args:
          step: that begins.
          params: of the learner now, before the updates of this step; theirs may be donated afterwards.
          policy_version: of `params`.

        Raises:
          Stopped: when the run is to stop, and the step is abandoned; the state is that of before.
        """
        ...

    def settle(self) -> None:
        """Waits for what is under way in another thread; `next` then waits only for what it begins.

        Raises:
          Stopped: when that was abandoned.
        """
        ...

    def get_state(self) -> dict[str, Any]:
        """What a source made alike needs to go on after the last `next`, as JSON-able values."""
        ...

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues as after the `get_state` that gave `state`.

        Raises:
          ValueError: when that was of a source of other data or with other settings.
        """
        ...

    def close(self) -> None:
        """Ends what is under way. The source gives nothing afterwards."""
        ...


class _Ahead(NamedTuple):
    """A step that is sampled, or being sampled, before the learner asks for it."""

    step: int
    episodes: Callable[[], StepEpisodes]
    """Waits for them; raises what sampling raised."""


class SampledEpisodes:
    """Episodes that the policy plays now (`StepPlayer`); each step goes to the log as soon as it is played.

    Without `overlap`, step n is sampled when it is asked for, with the parameters that the learner has then.
    With it, asking for step n also begins step n + 1 in a thread, with the parameters that the learner has
    before it learns step n: one's tools run while the device learns the other, and every step but the first
    is sampled by the policy of one step before. Which episodes come is the same whatever runs faster.

    With `overlap`, the thread has the sampler and the environments for itself between two calls of this
    object: evaluate after `get_state` or `close`, which wait for it.

    Args:
      player: plays the steps.
      prepare: makes of the learner's parameters what the player takes; called in the caller's thread. With
        `overlap` its result must not share buffers with the learner's (`own_copy`), which are donated.
      save: writes the episodes played for a step, `StepEpisodes.played`; called in the thread with `overlap`.
      load: reads what `save` wrote.
      overlap: whether to sample a step ahead.
      last_step: beyond which nothing is sampled ahead.
    """

    def __init__(
        self,
        player: StepPlayer,
        *,
        prepare: Callable[[Any], Any],
        save: Callable[[int, Sequence[Episode]], None],
        load: Callable[[int], list[Episode]],
        overlap: bool,
        last_step: int,
    ) -> None:
        self._player, self._prepare, self._save, self._load = player, prepare, save, load
        self._overlap, self._last_step = overlap, last_step
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sampling")
        self._ahead: _Ahead | None = None

    def next(self, step: int, params: Any, policy_version: int) -> StepEpisodes:
        """See `EpisodeSource`. Raises what sampling raised, in its thread too."""
        given = self._sampled_ahead(step)
        follows = self._overlap and step < self._last_step
        prepared = self._prepare(params) if follows or given is None else None
        if given is None:
            given = self._sample(step, prepared, policy_version)
        if follows:
            future = self._thread.submit(self._sample, step + 1, prepared, policy_version)
            self._ahead = _Ahead(step=step + 1, episodes=future.result)
        return given

    def settle(self) -> None:
        """See `EpisodeSource`."""
        if self._ahead is not None:
            self._ahead.episodes()

    def get_state(self) -> dict[str, Any]:
        """See `EpisodeSource`. Waits for what is sampled ahead, whose episodes are then on disk."""
        ahead = None
        if self._ahead is not None:
            episodes = self._ahead.episodes()
            ahead = {
                "step": self._ahead.step,
                "digest": digest_of(episodes.played),
                "refilled": episodes.refilled,
            }
        return {"source": "sampled", "curriculum": self._player.curriculum.get_state(), "ahead": ahead}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `EpisodeSource`.

        Raises:
          ValueError: when the state is of another kind of source, or of other tasks or settings.
          EpisodesChanged: when the log does not hold the episodes that were sampled ahead.
        """
        require_kind(state, "sampled")
        self._player.curriculum.set_state(state["curriculum"])
        ahead = state["ahead"]
        self._ahead = None
        if ahead is not None:
            given = self._read_back(**ahead)
            self._ahead = _Ahead(step=ahead["step"], episodes=lambda: given)

    def close(self) -> None:
        """See `EpisodeSource`. A step that is being sampled is played to its end and written."""
        self._thread.shutdown(cancel_futures=True)

    def _sampled_ahead(self, step: int) -> StepEpisodes | None:
        if self._ahead is None:
            return None
        if self._ahead.step != step:
            raise ValueError(f"step {step} was asked for, but step {self._ahead.step} comes next")
        episodes = self._ahead.episodes()
        self._ahead = None
        return episodes

    def _sample(self, step: int, prepared: Any, policy_version: int) -> StepEpisodes:
        with jax.profiler.TraceAnnotation("sampling"):
            episodes = self._player.play_step(step, prepared, policy_version)
        self._save(step, episodes.played)
        return episodes

    def _read_back(self, step: int, digest: str, refilled: int) -> StepEpisodes:
        advice = "put the file back, or remove the newest checkpoint to resume from the one before it"
        try:
            played = self._load(step)
        except (OSError, ValueError) as error:
            raise EpisodesChanged(
                f"the episodes of step {step}, which the checkpoint goes on with: {error}; {advice}"
            ) from error
        if digest_of(played) != digest:
            raise EpisodesChanged(
                f"the episodes of step {step} are not those that the checkpoint goes on with; {advice}"
            )
        return step_episodes(played, self._player.rules, refilled=refilled)


def require_kind(state: Mapping[str, Any], kind: str) -> None:
    """Refuses the state of another kind of source.

    Raises:
      ValueError: naming both kinds.
    """
    if state.get("source") != kind:
        raise ValueError(
            f"the checkpoint's episodes were {state.get('source')}, and these are {kind}: resume the run the"
            " way it was begun"
        )


def own_copy(params: Any) -> Any:
    """The parameters in buffers of their own, which survive the donation of the given ones."""
    return jax.tree.map(jnp.copy, params)
