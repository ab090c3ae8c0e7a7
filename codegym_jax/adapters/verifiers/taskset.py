"""A task set for verifiers, and the seat that plays it."""

from collections.abc import Iterator
from pathlib import Path

import verifiers.v1 as vf
from verifiers.v1.harnesses.null import NullHarnessConfig

from codegym_jax.adapters.catalog import Catalog
from codegym_jax.adapters.verifiers.episode_tools import TaskData
from codegym_jax.adapters.verifiers.task import Task, TaskConfig
from codegym_jax.config import UserError
from codegym_jax.data.splits import TRAIN


class CodegymConfig(vf.TasksetConfig):
    """Settings under `--env.taskset`."""

    folder: Path | None = None
    """Of the task set."""
    split: str = TRAIN
    """Which of its tasks."""
    task: TaskConfig = TaskConfig()


class CodegymTaskset(vf.Taskset[Task, CodegymConfig]):
    """The tasks of one split, in the task set's order."""

    def load(self) -> Iterator[Task]:
        """Reads them.

        Raises:
          UserError: when no folder is given, and for what `Catalog` raises it.
        """
        if self.config.folder is None:
            raise UserError("name the task set's folder: --env.taskset.folder task_sets/mine")
        for environment, task in Catalog(self.config.folder, self.config.split):
            data = TaskData(
                id=task.task_id,
                name=task.env_id,
                prompt=environment.statement.strip(),
                environment=environment,
                config_json=task.config_json,
            )
            yield Task(data, self.config.task)


class CodegymEnvConfig(vf.EnvConfig):
    """One seat: the model with its tools and nothing else, on this machine.

    verifiers' own defaults would give it a shell, too, in a rented sandbox; neither is needed here, as all of
    the task is in ours.
    """

    agent: vf.AgentConfig = vf.AgentConfig(
        harness=NullHarnessConfig(id="null"), runtime=vf.SubprocessConfig(), max_turns=256
    )


class CodegymEnv(vf.Env[CodegymEnvConfig]):
    """One episode a rollout."""

    async def run(self, task: Task, agents: vf.Agents) -> None:
        """Lets the seat play the task."""
        await agents.agent.run(task)
