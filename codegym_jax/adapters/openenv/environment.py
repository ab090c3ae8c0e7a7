"""One session of the server: OpenEnv's environment object, which plays one episode after the other."""

from typing import Any

from openenv.core.env_server import (
    CallToolAction,
    CallToolObservation,
    Environment,
    ListToolsAction,
    ListToolsObservation,
    Observation,
    State,
    Tool,
    ToolError,
    ToolErrorType,
)
from openenv.core.env_server.types import EnvironmentMetadata
from pydantic import Field

from codegym_jax.adapters.openenv.tasks import Tasks
from codegym_jax.adapters.served_episode import ServedEpisode
from codegym_jax.config import UserError
from codegym_jax.data.json_schema import tool_schema
from codegym_jax.data.stable_hash import stable_hash
from codegym_jax.records import CallError

MAX_LISTED = 1000
"""Tasks that one answer of the task provider lists."""

_ERROR_TYPES = {
    CallError.NOT_JSON: ToolErrorType.INVALID_ARGS,
    CallError.UNKNOWN_TOOL: ToolErrorType.TOOL_NOT_FOUND,
    CallError.BAD_PARAMETERS: ToolErrorType.INVALID_ARGS,
}
"""OpenEnv's words for what was wrong with a call; all other errors are of its execution. What a tool itself
reports is a result."""


class TaskObservation(Observation):
    """What a session sees after a reset."""

    split: str = Field(description="Split of the task")
    index: int = Field(description="Index of the task within its split")
    env_id: str = Field(description="Environment of the task")
    statement: str = Field(description="What the policy is to do; its prompt")
    schemas: list[dict[str, Any]] = Field(description="Its tools as JSON schemas of functions")


class EpisodeState(State):
    """Where an episode stands."""

    split: str = Field(default="", description="Split of the task; empty before the first reset")
    index: int = Field(default=-1, description="Index of the task within its split")
    env_id: str = Field(default="", description="Environment of the task")
    finished: bool = Field(default=False, description="Whether Done was called")
    valid: bool = Field(
        default=True, description="False where the host failed: such an episode tells nothing"
    )


class TaskSetEnvironment(Environment[CallToolAction, Observation, EpisodeState]):
    """See the module. Sessions share the tasks and the sandbox, and no guest."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, tasks: Tasks):
        super().__init__()
        self._tasks = tasks
        self._episode: ServedEpisode | None = None
        self._state = EpisodeState()
        self._next_index = 0
        self._closed = False

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        split: str | None = None,
        index: int | None = None,
        **unknown: Any,
    ) -> TaskObservation:
        """Begins an episode.

        Args:
          seed: where no index is given, chooses a task of the split; the same one always.
          episode_id: kept in the state.
          split: of the task; the training split unless given.
          index: of the task. With neither index nor seed, a session plays one task after the other.
          unknown: must be empty; a server would otherwise drop what it does not know.

        Raises:
          UserError: when an argument is none of these, or there is no such split, or the session has ended.
          IndexError: when the split has no such task.
          HostFailure: when the host has no room for an episode.
        """
        self._require_open()
        if unknown:
            raise UserError(
                f"reset takes seed, episode_id, split and index, not {', '.join(sorted(unknown))}"
            )
        split = self._tasks.first_split if split is None else split
        count = self._tasks.count(split)
        if index is None and seed is None:
            index = self._next_index % count
            self._next_index = index + 1
        elif index is None:
            index = stable_hash("openenv reset", seed or 0, split) % count
        described = self._tasks.describe(split, index)
        self._drop_episode()
        self._episode = self._tasks.play(split, index)
        self._state = EpisodeState(
            episode_id=episode_id, split=split, index=index, env_id=described["env_id"]
        )
        return TaskObservation(
            split=split,
            index=index,
            env_id=described["env_id"],
            statement=described["statement"],
            schemas=described["schemas"],
        )

    def step(
        self, action: CallToolAction | ListToolsAction, timeout_s: float | None = None, **unknown: Any
    ) -> Observation:
        """Calls a tool, or lists them, which counts as no step.

        What is wrong with a call is in the observation. The reward of a step is 0 but for the one that ends
        the episode. Fuel bounds a step, not the clock, so that the same calls give the same episode:
        `timeout_s` is not used.

        Raises:
          UserError: when the session has ended, or nothing was begun.
          HostFailure: when the host failed; the episode is then invalid.
        """
        del timeout_s, unknown
        self._require_open()
        if isinstance(action, ListToolsAction):
            return ListToolsObservation(tools=self._tools(), done=self._state.finished, reward=0.0)
        if self._episode is None:
            raise UserError("no episode was begun; call reset first")
        ended_before = self._episode.finished
        result = self._episode.call(action.tool_name, action.arguments)
        return CallToolObservation(
            tool_name=action.tool_name,
            result=result.text,
            error=_tool_error(result.error, result.text),
            done=result.finished,
            reward=self._episode.reward if not ended_before else 0.0,
            metadata={} if result.error is None else {"error": str(result.error)},
        )

    @property
    def state(self) -> EpisodeState:
        """Where the episode stands."""
        if self._episode is None:
            return self._state
        episode = self._episode
        return self._state.model_copy(
            update={"step_count": episode.step_count, "finished": episode.finished, "valid": episode.valid}
        )

    def get_metadata(self) -> EnvironmentMetadata:
        """What OpenEnv shows of a server."""
        return EnvironmentMetadata(
            name="codegym", description=f"The tasks of {self._tasks.name}, played in WebAssembly"
        )

    def close(self) -> None:
        """Ends the session: OpenEnv calls it when the client leaves, or was idle for too long."""
        self._state = self.state
        self._drop_episode()
        self._closed = True

    def list_splits(self) -> list[dict[str, str]]:
        """Of OpenEnv's task provider, as are the four below."""
        return self._tasks.splits

    def num_tasks(self, split: str) -> int:
        """How many tasks a split has."""
        return self._tasks.count(split)

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """The first tasks of a split, at most `MAX_LISTED`."""
        return self.get_task_range(split)

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """One task."""
        return self._tasks.describe(split, index)

    def get_task_range(
        self, split: str, start: int | None = None, stop: int | None = None
    ) -> list[dict[str, Any]]:
        """The tasks from `start` up to `stop`, as in a slice, at most `MAX_LISTED`."""
        places = range(self._tasks.count(split))[start:stop]
        return [self._tasks.describe(split, place) for place in places[:MAX_LISTED]]

    def _tools(self) -> list[Tool]:
        if self._episode is None:
            return []
        functions = [tool_schema(tool)["function"] for tool in self._episode.spec.tools]
        return [
            Tool(name=one["name"], description=one["description"], input_schema=one["parameters"])
            for one in functions
        ]

    def _require_open(self) -> None:
        if self._closed:
            raise UserError("this session was ended after being idle for too long; connect again")

    def _drop_episode(self) -> None:
        if self._episode is not None:
            self._episode.close()
            self._episode = None


def _tool_error(error: CallError | None, text: str) -> ToolError | None:
    if error is None or error is CallError.TOOL_RAISED:
        return None
    return ToolError(error_type=_ERROR_TYPES.get(error, ToolErrorType.EXECUTION_ERROR), message=text)
