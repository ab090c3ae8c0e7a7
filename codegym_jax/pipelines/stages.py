"""The parameters that the stages of a run saved, as the model takes them."""

from typing import Any

from codegym_jax.config import ConfigError
from codegym_jax.data.working_copy import checkpoint_place
from codegym_jax.pipelines.learner import find_algorithm, reinforcing_optimizer
from codegym_jax.pipelines.sft import CONTROL, supervising_optimizer
from codegym_jax.pipelines.sft import STAGE as SFT
from codegym_jax.pipelines.trainable import Trainable
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.trainer.checkpoint import Checkpointer

START, TRAIN = "start", "train"
"""Before any learning: random or pretrained parameters; and reinforcement learning."""
STAGES = (START, SFT, TRAIN, CONTROL)


def stage_params(bench: Workbench, stage: str) -> Any:
    """The newest parameters that a stage saved; of `START`, those that the run starts from.

    Adapters are merged into what they were learned on, the parameters of the stage before.

    Raises:
      ConfigError: when it saved none.
    """
    if stage == START:
        return bench.init_params()
    config = bench.config
    reinforced = stage == TRAIN
    follows_sft = stage in (TRAIN, CONTROL) and config.lora.rank > 0
    start = stage_params(bench, SFT) if follows_sft else bench.init_params()
    critic = reinforced and find_algorithm(config.algorithm.name).critic
    trainable = Trainable(model=bench.model, lora=config.lora, critic=critic)
    split = trainable.split(start, bench.mesh, config.seed)
    optimizer = reinforcing_optimizer(config.train) if reinforced else supervising_optimizer(config.sft, 1)
    folder = checkpoint_place(bench.folder, stage)
    restored = Checkpointer(folder).restore(bench.init_state(split.params, optimizer))
    if restored is None:
        raise ConfigError(f"{folder} holds no checkpoint; run `codegym {stage}` first")
    params: Any = restored[0].params
    return trainable.policy(params, split.frozen)


def newest_stage(bench: Workbench) -> str:
    """The last stage that saved parameters; `START` before any has."""
    places = {stage: checkpoint_place(bench.folder, stage) for stage in (TRAIN, SFT)}
    saved = (stage for stage, place in places.items() if Checkpointer(place).latest())
    return next(saved, START)
