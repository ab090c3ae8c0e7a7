"""One task for verifiers: what the model is told, its tools, when it ends and what it earns."""

import contextlib

import verifiers.v1 as vf

from codegym_jax.adapters.catalog import shared_sandbox
from codegym_jax.adapters.verifiers.episode_tools import EpisodeState, EpisodeTools, TaskData
from codegym_jax.envs.env import Env, EnvError


class TaskConfig(vf.TaskConfig):
    """Settings under `--env.taskset.task`."""

    tools: vf.ToolsetConfig = vf.ToolsetConfig()
    """Where the server of a rollout's tools runs: a process of this machine unless said otherwise."""


class Task(vf.Task[TaskData, EpisodeState, TaskConfig]):
    """A task whose tools run in a sandbox of their own; the reward is what the environment gave."""

    @classmethod
    def toolsets(cls, config: TaskConfig) -> list[vf.Toolset]:
        """The tools, served for one rollout."""
        return [EpisodeTools(config.tools)]

    @vf.stop
    async def episode_ended(self, trace: vf.Trace) -> bool:
        """The answer was handed in, or the host failed: the model is asked no more."""
        return trace.state.finished or bool(trace.state.host_failure)

    @vf.reward
    async def solved(self, trace: vf.Trace) -> float:
        """What the environment gave, in [0, 1].

        Raises:
          RuntimeError: when the host failed; verifiers then counts the rollout as none.
        """
        if trace.state.host_failure:
            raise RuntimeError(f"the host failed, so the rollout is invalid: {trace.state.host_failure}")
        return trace.state.reward

    @vf.metric
    async def tool_calls(self, trace: vf.Trace) -> float:
        """Calls that reached the environment."""
        return trace.state.calls

    @vf.metric
    async def failed_calls(self, trace: vf.Trace) -> float:
        """Of these, the calls that came back as an error."""
        return trace.state.failed_calls

    async def validate(self, runtime: vf.Runtime) -> bool:
        """Whether the environment's own oracle earns the full reward; what `vf-validate` asks."""
        del runtime  # the sandbox is in this process
        data = self.data
        try:
            with contextlib.closing(Env(shared_sandbox(), data.environment, data.config_json)) as env:
                env.run_oracle()
                return env.reward == 1.0
        except EnvError:
            return False
