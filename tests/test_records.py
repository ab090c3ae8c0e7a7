"""Ids, validity, and that every member of an enum says what it means."""

import ast
import dataclasses
import inspect

import numpy as np
import pytest

from codegym_jax import records
from codegym_jax.records import EnvSpec, Episode, StopReason, Task


def test_an_environment_is_named_by_its_file_and_a_task_by_environment_and_config():
    spec = EnvSpec(code_id="HumanEval_52", class_name="BelowThresholdEnv", source="", tools=())
    task = Task(env_id=spec.env_id, config_json='{"mail":"a@b"}')
    assert spec.env_id == "HumanEval_52__BelowThresholdEnv"
    assert task.task_id == 'codegym_v1@HumanEval_52__BelowThresholdEnv@{"mail":"a@b"}'
    assert task.task_id.split("@", 2) == ["codegym_v1", spec.env_id, task.config_json]


@pytest.mark.parametrize("reason", StopReason)
def test_only_a_failure_of_the_host_makes_an_attempt_invalid(reason):
    none = np.zeros(0, np.float32)
    episode = Episode(
        task_id="codegym_v1@a__AEnv@{}",
        attempt=0,
        policy_version=0,
        token_ids=np.zeros(0, np.int32),
        is_policy=np.zeros(0, bool),
        sampler_logp=none,
        policy_logp=none,
        turns=(),
        reward=0.0,
        stop_reason=reason,
    )
    assert episode.valid == (reason is not StopReason.HOST_FAILURE)


def test_records_cannot_be_changed():
    task = Task(env_id="a__AEnv", config_json="{}")
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.config_json = "[]"  # pyright: ignore[reportAttributeAccessIssue]


def test_every_enum_member_has_a_sentence():
    for node in ast.parse(inspect.getsource(records)).body:
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "StrEnum" for base in node.bases):
            for index, statement in enumerate(node.body):
                if isinstance(statement, ast.Assign):
                    match node.body[index + 1 : index + 2]:
                        case [ast.Expr(value=ast.Constant(value=str(sentence)))]:
                            assert sentence.endswith("."), sentence
                        case _:
                            pytest.fail(f"{node.name}.{ast.unparse(statement)} has no sentence")
