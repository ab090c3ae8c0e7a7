"""The tools of one rollout as the server that verifiers starts for it.

verifiers runs this module as a program of its own, tells it the task, and hands its address to whatever
program plays the model. What the episode came to goes back over the rollout's state, which the model does
not see.
"""

from typing import Any

import mcp_types as types
import verifiers.v1 as vf

from codegym_jax.adapters.served_episode import ServedEpisode
from codegym_jax.data.json_schema import tool_schema
from codegym_jax.envs.env import HostFailure
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Task, ToolSpec


class TaskData(vf.TaskData):
    """A task, complete: whoever runs it needs no task set. For the host; a model sees the prompt alone."""

    environment: EnvSpec
    config_json: str


class EpisodeState(vf.State):
    """What an episode has come to."""

    calls: int = 0
    failed_calls: int = 0
    finished: bool = False
    reward: float = 0.0
    host_failure: str = ""
    """What went wrong with the host, if anything; the rollout is then invalid."""


class EpisodeTools(vf.Toolset[vf.ToolsetConfig, EpisodeState]):
    """Serves one episode.

    Arguments reach the environment as the model gave them, so that a wrong call is an observation and a step,
    as everywhere else.
    """

    TOOL_PREFIX = None  # tools keep the names that the statement calls them by

    async def setup_task(self, task: TaskData) -> None:
        """Begins the episode of the rollout's task."""
        self._environment = task.environment
        played = Task(env_id=task.environment.env_id, config_json=task.config_json)
        self._episode = ServedEpisode(Sandbox(), task.environment, played)

    def register(self, mcp: Any) -> None:
        """Answers for the tools itself: their schemas are data here, no signatures of functions."""
        mcp.middleware.append(self._answer)

    async def _answer(self, context: Any, call_next: Any) -> Any:
        if context.method == "tools/list":
            return types.ListToolsResult(tools=[_described(tool) for tool in self._environment.tools])
        if context.method == "tools/call":
            call = types.CallToolRequestParams.model_validate(context.params)
            text = await self._with_state(self._call)(call.name, call.arguments or {})
            return types.CallToolResult(content=[types.TextContent(type="text", text=text)])
        return await call_next(context)

    def _call(self, name: str, arguments: dict[str, Any]) -> str:
        state = self.state
        try:
            result = self._episode.call(name, arguments)
        except HostFailure as failure:
            state.host_failure = str(failure)
            return "Error: the host failed"
        state.calls += 1
        state.failed_calls += result.error is not None
        state.finished = result.finished
        state.reward = self._episode.reward
        return result.text


def _described(tool: ToolSpec) -> types.Tool:
    function = tool_schema(tool)["function"]
    return types.Tool(
        name=function["name"], description=function["description"], input_schema=function["parameters"]
    )


if __name__ == "__main__":
    # Under its real name, so that the classes are those that verifiers knows.
    from codegym_jax.adapters.verifiers.episode_tools import EpisodeTools as Tools

    Tools.run()
