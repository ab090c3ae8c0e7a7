"""`gymnasium.make("codegym/<environment id>-v0")` for the environments of a task set."""

import os

import gymnasium

from codegym_jax.adapters.catalog import Catalog, open_catalog
from codegym_jax.adapters.gymnasium.environment import MAX_STEPS, CodegymEnv
from codegym_jax.adapters.gymnasium.vector import CodegymVectorEnv
from codegym_jax.data.splits import TRAIN

_HERE = "codegym_jax.adapters.gymnasium.registration"


def register(task_set: str | os.PathLike[str], split: str = TRAIN) -> list[str]:
    """Makes the environments of a task set known to Gymnasium, with their tasks in one split.

    An id that is already known is taken over. What is registered is a folder and its digest, so that other
    processes (`AsyncVectorEnv`) make the same environments.

    Args:
      task_set: the folder.
      split: which tasks a seed chooses among.

    Returns:
      The ids for `gymnasium.make` and `gymnasium.make_vec`.

    Raises:
      UserError: when the task set is missing or damaged, was verified on another guest, or has nothing in the
        split.
    """
    catalog = Catalog(task_set, split)
    names = {f"codegym/{env_id}-v0": env_id for env_id in catalog.specs}
    for name, env_id in names.items():
        gymnasium.registry.pop(name, None)
        gymnasium.register(
            name,
            entry_point=f"{_HERE}:make_environment",
            vector_entry_point=f"{_HERE}:make_vector",
            kwargs={
                "folder": str(catalog.folder),
                "split": split,
                "digest": catalog.digest,
                "env_id": env_id,
            },
        )
    return list(names)


def make_environment(
    *, folder: str, split: str, digest: str, env_id: str, max_steps: int = MAX_STEPS
) -> CodegymEnv:
    """What `gymnasium.make` calls; `max_steps` is for the caller, the rest was registered.

    Raises:
      UserError: when the task set is gone, or no longer what was registered.
    """
    catalog = open_catalog(folder, split, digest)
    return CodegymEnv(catalog.spec(env_id), catalog.tasks(env_id), max_steps=max_steps)


def make_vector(
    *, num_envs: int, folder: str, split: str, digest: str, env_id: str, max_steps: int = MAX_STEPS
) -> CodegymVectorEnv:
    """What `gymnasium.make_vec` calls.

    Raises:
      UserError: as `make_environment` does.
    """
    return CodegymVectorEnv(
        [
            make_environment(folder=folder, split=split, digest=digest, env_id=env_id, max_steps=max_steps)
            for _ in range(num_envs)
        ]
    )
