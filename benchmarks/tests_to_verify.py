"""Tests for verification: rows of many published environments, and generated configs of the warehouse."""

import itertools
import pathlib
from dataclasses import dataclass

from benchmarks.warehouse import environment, make_episode
from codegym_jax.envs.codegym_format import load_environment, read_rows
from codegym_jax.records import EnvSpec, Rejection

_PUBLISHED = pathlib.Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "published"


@dataclass(frozen=True, slots=True)
class Test:
    """An environment whose oracle must earn the reward with this config."""

    spec: EnvSpec
    config_json: str


def make_tests(count: int) -> list[Test]:
    """The first row of each published environment, then the second and so on, alternating with warehouses."""
    by_env: dict[str, list[Test]] = {}
    for row in read_rows(_PUBLISHED / "rows.jsonl"):
        assert not isinstance(row, Rejection), row
        task = row[1]
        spec = load_environment(_PUBLISHED / f"{task.env_id}.py")
        by_env.setdefault(task.env_id, []).append(Test(spec, task.config_json))
    waves = itertools.zip_longest(*by_env.values())
    published = [test for wave in waves for test in wave if test is not None]
    warehouse = environment()
    generated = (Test(warehouse, make_episode(seed)[0]) for seed in itertools.count(1000))
    return list(
        itertools.islice(itertools.chain.from_iterable(zip(published, generated, strict=False)), count)
    )
