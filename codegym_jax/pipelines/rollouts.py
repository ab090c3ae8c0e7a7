"""The episodes of one training step: drawn, played, played again where the host failed, dropped where all
attempts at a task earned the same. Knows no model and no files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

from codegym_jax.data.curriculum import Curriculum
from codegym_jax.data.pipeline import TaskDraw
from codegym_jax.pipelines.preemption import Stopped
from codegym_jax.records import EnvSpec, Episode, Task
from codegym_jax.rollout.agent import EpisodeRequest
from codegym_jax.rollout.groups import group_rewards, has_signal

Play = Callable[[Any, Sequence[EpisodeRequest], int], list[Episode]]
"""(parameters, requests, policy version) -> an episode for each request, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRules:
    """How many episodes a step has, and which of them are learned from."""

    tasks_per_step: int
    """P."""
    attempts_per_task: int
    """G."""
    dynamic_sampling: bool = False
    """Drop groups whose attempts all earned the same raw reward, and draw other tasks in their place."""
    max_draws: int = 1
    """With dynamic sampling, at most so many times P tasks are drawn; a step may then have fewer groups."""


class StepEpisodes(NamedTuple):
    """What one step learns from, and what was played for it."""

    episodes: list[Episode]
    """Of the groups to learn from, a group's attempts beside each other, [P * G] or fewer. Empty when dynamic
    sampling found no group with a signal."""
    played: list[Episode]
    """All that were played, in the order of the draws: what the policy is like, and what the log holds."""
    drawn_groups: int
    informative_groups: int
    """Groups among the drawn whose valid attempts did not all earn the same raw reward."""
    refilled: int
    """Attempts that were played a second time since the host had failed."""
    sampling_s: float
    """Time spent playing; 0 where the episodes were read from a log."""
    tools_s: float
    """Of that, time in which the device had nothing to sample."""


class StepPlayer:
    """Plays steps with tasks from a curriculum.

    Args:
      curriculum: draws the tasks and remembers what became of them.
      spec_of: the environment of a task.
      play: plays requests. Of several processes, each must be given the episodes of all.
      rules: see there.
      device_lap: seconds that the device sampled since it was last asked; None counts all time as its.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        spec_of: Callable[[Task], EnvSpec],
        play: Play,
        rules: StepRules,
        *,
        device_lap: Callable[[], float] | None = None,
    ) -> None:
        self.curriculum, self.rules = curriculum, rules
        self._spec_of, self._play, self._device_lap = spec_of, play, device_lap

    def play_step(self, step: int, params: Any, policy_version: int) -> StepEpisodes:
        """The episodes of step `step` (counted from 1), drawn where the curriculum stands.

        Rounds: each draws as many tasks as are still missing, plays G attempts at each and shows the
        curriculum what became of them. Without dynamic sampling the first round is the only one.

        Raises:
          Stopped: when playing was abandoned; the curriculum then stands where it stood.
        """
        before = self.curriculum.get_state()
        try:
            return self._play_step(step, params, policy_version)
        except Stopped:
            self.curriculum.set_state(before)
            raise

    def _play_step(self, step: int, params: Any, policy_version: int) -> StepEpisodes:
        start_s, rules = monotonic(), self.rules
        if self._device_lap is not None:
            self._device_lap()
        played: list[Episode] = []
        refilled = drawn = 0
        missing = rules.tasks_per_step
        left = missing * (rules.max_draws if rules.dynamic_sampling else 1)
        while missing and left:
            draws = self.curriculum.draw(step, min(missing, left))
            episodes, again = self._play_round(draws, params, policy_version)
            self._show(draws, episodes)
            played += episodes
            refilled += again
            drawn += len(draws)
            left -= len(draws)
            missing = rules.tasks_per_step - len(select(played, rules)) // rules.attempts_per_task
        sampling_s = monotonic() - start_s
        tools_s = 0.0 if self._device_lap is None else max(0.0, sampling_s - self._device_lap())
        return step_episodes(played, rules, refilled=refilled, sampling_s=sampling_s, tools_s=tools_s)

    def _play_round(
        self, draws: Sequence[TaskDraw], params: Any, policy_version: int
    ) -> tuple[list[Episode], int]:
        """Episodes of the draws, group by group; what the host spoiled is played once more."""
        requests = self._requests(draws)
        episodes = self._play(params, requests, policy_version)
        spoiled = [index for index, episode in enumerate(episodes) if not episode.valid]
        if spoiled:
            again = self._play(params, [requests[index] for index in spoiled], policy_version)
            for index, episode in zip(spoiled, again, strict=True):
                episodes[index] = episode
        return episodes, len(spoiled)

    def _requests(self, draws: Sequence[TaskDraw]) -> list[EpisodeRequest]:
        """G attempts at each drawn task; a task's later visits continue its numbering."""
        count = self.rules.attempts_per_task
        return [
            EpisodeRequest(spec=self._spec_of(task), task=task, attempt=draw.visit * count + g)
            for draw in draws
            for task in (self.curriculum.tasks[draw.task_index],)
            for g in range(count)
        ]

    def _show(self, draws: Sequence[TaskDraw], episodes: Sequence[Episode]) -> None:
        rewards_PG, valid_PG = group_rewards(episodes, self.rules.attempts_per_task)
        for draw, rewards_G, valid_G in zip(draws, rewards_PG, valid_PG, strict=True):
            successes = int((valid_G & (rewards_G > 0)).sum())
            self.curriculum.observe(draw.task_index, successes=successes, attempts=int(valid_G.sum()))


def select(played: Sequence[Episode], rules: StepRules) -> list[Episode]:
    """The episodes to learn from: all, or with dynamic sampling those of groups with a signal.

    Looks at raw rewards alone, never at terms that shape them.
    """
    if not rules.dynamic_sampling:
        return list(played)
    G = rules.attempts_per_task
    kept_P = has_signal(*group_rewards(played, G))
    return [episode for p, kept in enumerate(kept_P) if kept for episode in played[p * G : (p + 1) * G]]


def step_episodes(
    played: Sequence[Episode],
    rules: StepRules,
    *,
    refilled: int = 0,
    sampling_s: float = 0.0,
    tools_s: float = 0.0,
) -> StepEpisodes:
    """A step's episodes from all that were played for it, in the order of the draws."""
    signal_P = has_signal(*group_rewards(played, rules.attempts_per_task))
    return StepEpisodes(
        episodes=select(played, rules),
        played=list(played),
        drawn_groups=len(signal_P),
        informative_groups=int(signal_P.sum()),
        refilled=refilled,
        sampling_s=sampling_s,
        tools_s=tools_s,
    )
