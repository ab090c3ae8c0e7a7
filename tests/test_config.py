"""Settings: what is given comes back, and what is wrong is named with what would be right."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.config import (
    PRESETS,
    ConfigError,
    RolloutConfig,
    RunConfig,
    SandboxConfig,
    TrainConfig,
    apply_overrides,
    apply_presets,
    digest,
    from_dict,
    load,
    to_json,
)


def fields(kind=RunConfig, prefix=""):
    """Every leaf setting as dotted name -> default."""
    found = {}
    for field in dataclasses.fields(kind):
        name = f"{prefix}{field.name}"
        if isinstance(field.default_factory, type):
            found |= fields(field.default_factory, f"{name}.")
        else:
            found[name] = field.default
    return found


def value_of(config, name):
    for key in name.split("."):
        config = getattr(config, key)
    return config


def test_json_round_trip():
    config = apply_overrides(
        RunConfig(), ["seed=7", "train.learning_rate=1e-3", 'synthesis.sources=["codeio"]']
    )
    assert from_dict(json.loads(to_json(config))) == config


def test_settings_that_need_one_another_come_in_any_order():
    overrides = ["algorithm.kl=k3", "algorithm.kl_coefficient=0.04"]
    one = apply_overrides(RunConfig(), overrides)
    assert one == apply_overrides(RunConfig(), overrides[::-1])
    assert one.algorithm.kl_coefficient == 0.04
    with pytest.raises(ConfigError, match=r"algorithm.kl_coefficient must be positive with kl 'k3', got 0.0"):
        apply_overrides(RunConfig(), overrides[:1])


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_settings(name):
    config = apply_presets(RunConfig(), [name])
    assert config.algorithm != RunConfig().algorithm or name == "codegym-paper"
    assert apply_presets(config, [name]) == config


def test_an_unknown_preset_is_named():
    with pytest.raises(ConfigError, match=r"--preset must be one of codegym-paper, .* got 'dappo'"):
        apply_presets(RunConfig(), ["dappo"])


def test_the_surface_stays_small():
    assert len(fields()) <= 110


@pytest.mark.parametrize("name", sorted(fields()))
def test_every_setting_can_be_given_its_own_default(name):
    default = fields()[name]
    text = default if isinstance(default, str) else json.dumps(default)
    config = apply_overrides(RunConfig(), [f"{name}={text}"])
    assert config == RunConfig()
    assert type(value_of(config, name)) is type(default)


@pytest.mark.parametrize("name", sorted(fields()))
def test_every_setting_refuses_another_type(name):
    wrong = 3 if isinstance(fields()[name], (str, tuple)) else "many"
    section, _, key = name.rpartition(".")
    with pytest.raises(ConfigError, match=f"^{name} must be .* got {wrong!r}$"):
        from_dict({section: {key: wrong}} if section else {key: wrong})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rollout.max_turns=many", "rollout.max_turns must be int, got 'many'"),
        ("rollout.max_turns=1.5", "rollout.max_turns must be int, got 1.5"),
        ("rollout.max_turns=true", "rollout.max_turns must be int, got True"),
        ("rollout.max_turns=0", "rollout.max_turns must be at least 1, got 0"),
        ("rollout.max_turn=8", "unknown setting rollout.max_turn; did you mean rollout.max_turns?"),
        ("rolout.max_turns=8", "unknown setting rolout; did you mean rollout?"),
        ("rollout=8", "rollout is a section; set one of its fields, such as rollout.tasks_per_step"),
        ("seed.max=8", "seed.max: seed is a single value, not a section"),
        ("rollout.max_turns", "--set takes section.field=value, got 'rollout.max_turns'"),
        ("synthesis.sources=humaneval", "synthesis.sources must be a list, got 'humaneval'"),
        (
            'synthesis.sources=["mbpp"]',
            "synthesis.sources must be made of humaneval, codeio, algorithms, paths of a .jsonl file",
        ),
        ("train.learning_rate=NaN", "train.learning_rate must be at least 0, got nan"),
        ("train.learning_rate=Infinity", "train.learning_rate must be at least 0, got inf"),
        ("rollout.top_p=0", "rollout.top_p must be in (0, 1], got 0.0"),
        ("sandbox.fuel_per_call=5", "sandbox.fuel_per_call must be at least 1000000, got 5"),
    ],
)
def test_a_wrong_override_is_named(override, message):
    with pytest.raises(ConfigError) as caught:
        apply_overrides(RunConfig(), [override])
    assert str(caught.value).startswith(message)


def test_a_lone_attempt_is_refused_with_its_reason():
    with pytest.raises(ConfigError, match=r"attempts_per_task must be at least 2 .*sibling.*got 1"):
        RolloutConfig(attempts_per_task=1)


def test_an_unknown_key_with_no_neighbor_lists_the_known():
    with pytest.raises(ConfigError, match=r"unknown setting mesh\.qqqq; known: data, fsdp, tensor"):
        from_dict({"mesh": {"qqqq": 1}})


def test_a_section_must_be_an_object():
    with pytest.raises(ConfigError, match="train must be an object, got 3"):
        from_dict({"train": 3})


def test_an_integer_does_for_a_float_and_a_digit_string_for_a_name():
    config = apply_overrides(RunConfig(), ["rollout.temperature=1", "policy.preset=7"])
    assert type(config.rollout.temperature) is float
    assert config.policy.preset == "7"


def test_later_overrides_win_and_leave_the_rest():
    config = apply_overrides(RunConfig(), ["train.steps=3", "train.steps=4"])
    assert config == RunConfig(train=TrainConfig(steps=4))


def test_digest_depends_on_every_part():
    base = SandboxConfig()
    digests = {
        digest(base),
        digest(SandboxConfig(max_json_depth=65)),
        digest(base, "a"),
        digest("a", base),
        digest("ab"),
        digest("a", "b"),
    }
    assert len(digests) == 6
    assert digest(base) == digest(SandboxConfig())


@given(st.text(), st.text())
def test_any_override_either_works_or_is_a_config_error(name, value):
    try:
        assert isinstance(apply_overrides(RunConfig(), [f"{name}={value}"]), RunConfig)
    except ConfigError as error:
        assert str(error)


def test_load_runs_the_experiment_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from codegym_jax.config import RunConfig\n\ndef config():\n    return RunConfig(seed=5)\n"
    )
    assert load(path) == RunConfig(seed=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def config(:", "SyntaxError"),
        ("x = 1", "AttributeError"),
        ("def config():\n    return 3", "must return a RunConfig, got int"),
        ("import codegym_jax.nothing", "ModuleNotFoundError"),
        (
            "from codegym_jax.config import *\ndef config(): return RunConfig(train=TrainConfig(steps=-1))",
            "train.steps must be at least 0, got -1",
        ),
    ],
)
def test_a_wrong_experiment_file_is_named(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert message in str(caught.value)


def test_a_missing_experiment_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"config file not found: .*absent\.py"):
        load(tmp_path / "absent.py")
    with pytest.raises(ConfigError, match="config file not found"):
        load(tmp_path)
