"""Which tasks are trained on and which are held out, decided by hashes of ids alone.

Membership depends on the seed and on the ids, never on the order in which they come: a task's place among
the configs of its environment depends on that environment only, so adding an environment moves no other
environment's configs. Near duplicates (a *family*) are held out together or not at all.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from codegym_jax.config import UserError
from codegym_jax.data.stable_hash import stable_hash

TRAIN = "train"
VALIDATION_CONFIG = "validation_config"
TEST_CONFIG = "test_config"
TEST_ENV = "test_env"
GENERAL = "general"

SPLITS = (TRAIN, VALIDATION_CONFIG, TEST_CONFIG, TEST_ENV, GENERAL)
"""Training configs; configs of the same environments to choose settings on; others of them to report on;
all tasks of environments never trained on; tasks of every other environment, none of them a near duplicate
of one in `TEST_ENV`."""


def hold_out(ids: Collection[str], count: int, *, seed: int, purpose: str) -> frozenset[str]:
    """The `count` ids with the smallest hashes of (seed, purpose, id).

    Args:
      ids: what to choose from; duplicates count once.
      count: how many; all of them when there are fewer.
      seed: of the run.
      purpose: keeps choices made for different ends independent of one another.

    Raises:
      ValueError: when `count` is negative.
    """
    if count < 0:
        raise ValueError(f"cannot hold out {count} of {len(ids)} ids: the count must be at least 0")
    ranked = sorted(set(ids), key=lambda item: (stable_hash(seed, purpose, item), item))
    return frozenset(ranked[:count])


def split_configs(
    task_ids: Collection[str], *, seed: int, validation_configs: int, test_configs: int
) -> dict[str, str]:
    """Splits the tasks of one environment into test, validation and training configs.

    An environment with few tasks gives at most a quarter of them to each held-out split, so that at least
    half remain to train on.

    Returns:
      Task id -> `TEST_CONFIG`, `VALIDATION_CONFIG` or `TRAIN`.
    """
    quarter = len(set(task_ids)) // 4
    test = hold_out(task_ids, min(test_configs, quarter), seed=seed, purpose=TEST_CONFIG)
    rest = set(task_ids) - test
    validation = hold_out(rest, min(validation_configs, quarter), seed=seed, purpose=VALIDATION_CONFIG)
    return {
        task_id: TEST_CONFIG if task_id in test else VALIDATION_CONFIG if task_id in validation else TRAIN
        for task_id in task_ids
    }


def split_tasks(
    env_of_task: Mapping[str, str],
    *,
    learnable_env_ids: Iterable[str],
    seed: int,
    heldout_environments: int,
    validation_configs: int,
    test_configs: int,
    families: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Assigns every task to one split.

    Tasks of environments outside `learnable_env_ids` go to `GENERAL`; all tasks of the held-out
    environments to `TEST_ENV`; those of the other environments are split by config (`split_configs`).
    Held out are whole families (`hold_out_families`): whatever shares a family with an environment of
    `TEST_ENV` is in `TEST_ENV` too, so it can be trained on in no other split.

    Args:
      env_of_task: task id -> environment id.
      learnable_env_ids: the environments that this run trains and tests on.
      seed: of the run.
      heldout_environments: learnable environments never trained on.
      validation_configs: per trained environment, at most.
      test_configs: per trained environment, at most.
      families: environment id -> the family of its near duplicates; an environment without one is in the
        family of its own name.

    Returns:
      Task id -> split, for every key of `env_of_task`.

    Raises:
      UserError: when no learnable environment would be left to train on.
    """
    tasks_of_env: dict[str, list[str]] = defaultdict(list)
    for task_id, env_id in env_of_task.items():
        tasks_of_env[env_id].append(task_id)
    learnable = set(learnable_env_ids) & set(tasks_of_env)
    if learnable and heldout_environments >= len(learnable):
        raise UserError(
            f"holding out {heldout_environments} environments leaves none of the {len(learnable)} learnable"
            " ones to train on; hold out fewer or make more"
        )
    heldout = hold_out_families(tasks_of_env, learnable, heldout_environments, seed=seed, families=families)
    splits: dict[str, str] = {}
    for env_id, task_ids in tasks_of_env.items():
        if env_id in heldout:
            splits |= dict.fromkeys(task_ids, TEST_ENV)
        elif env_id not in learnable:
            splits |= dict.fromkeys(task_ids, GENERAL)
        else:
            splits |= split_configs(
                task_ids, seed=seed, validation_configs=validation_configs, test_configs=test_configs
            )
    return splits


def split_all_trainable(
    env_of_task: Mapping[str, str],
    *,
    seed: int,
    heldout_environments: int,
    validation_configs: int,
    test_configs: int,
    families: Mapping[str, str],
) -> dict[str, str]:
    """`split_tasks` of a task set of any size whose environments may all be trained on.

    A quarter of the environments are held out at most, so that most remain to train on; none where there is
    one family only, since it cannot be held out alone.

    Args:
      families: environment id -> the family of its near duplicates, of every environment that has a task.
    """
    env_ids = set(env_of_task.values())
    alone = len({families[env_id] for env_id in env_ids}) < 2
    return split_tasks(
        env_of_task,
        learnable_env_ids=env_ids,
        seed=seed,
        heldout_environments=0 if alone else min(heldout_environments, len(env_ids) // 4),
        validation_configs=validation_configs,
        test_configs=test_configs,
        families=families,
    )


def hold_out_families(
    env_ids: Iterable[str],
    learnable: Collection[str],
    count: int,
    *,
    seed: int,
    families: Mapping[str, str] | None = None,
) -> frozenset[str]:
    """Whole families of environments with `count` learnable ones among them, or a few less where none fits.

    Families come in the order of the smallest hash of (seed, purpose, id) among their learnable members;
    those that also have other members come last, as they make the held-out environments harder. One that is
    too large for what is left of `count` is passed over. Where all are too large, the smallest is taken.

    Args:
      env_ids: all environments.
      learnable: those of them that count.
      count: how many learnable ones to hold out.
      seed: of the run.
      families: as in `split_tasks`.

    Raises:
      UserError: when all learnable environments are one family, so that holding it out leaves none.
    """
    members: dict[str, set[str]] = defaultdict(set)
    for env_id in env_ids:
        members[(families or {}).get(env_id, env_id)].add(env_id)
    own = {family: found & set(learnable) for family, found in members.items()}
    own = {family: found for family, found in own.items() if found}
    first = {
        family: min((stable_hash(seed, TEST_ENV, env_id), env_id) for env_id in found)
        for family, found in own.items()
    }
    ranked = sorted(own, key=lambda family: (len(members[family]) > len(own[family]), first[family]))
    chosen: list[str] = []
    left = count
    for family in ranked:
        if len(own[family]) <= left:
            chosen.append(family)
            left -= len(own[family])
    if count and own and not chosen:
        if len(own) == 1:
            raise UserError(
                f"the {len(learnable)} learnable environments are near duplicates of one another, so none can"
                " be held out; hold out 0 or make more"
            )
        chosen = [min(ranked, key=lambda family: len(own[family]))]
    return frozenset(env_id for family in chosen for env_id in members[family])
