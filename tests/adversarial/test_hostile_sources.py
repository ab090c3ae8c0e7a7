"""Sources and configs that attack before a guest runs: the host's own parser, its texts, its warnings.

Whatever the text, reading it gives a spec or a `FormatError`, and loading what was read an episode or an
`EnvError`. Nothing else comes out, and no warning.
"""

import dataclasses
import json

import pytest
import victim
from attack import QUICK, TOO_LONG

from codegym_jax.envs.codegym_format import FormatError, parse_env_string, parse_source
from codegym_jax.envs.env import Env, EnvError
from codegym_jax.envs.environment_source import MAX_SOURCE_CHARS

_HEALTHY = victim.spec().source


def read(module):
    """The victim's spec with some code at its top, read by the host."""
    return parse_source(f"{module}\n{_HEALTHY}", code_id="Victim", class_name="VictimEnv")


@pytest.mark.parametrize(
    "module",
    [
        "x = " + "(" * 10_000 + ")" * 10_000,
        "x = " + "[" * 100_000,
        "x = " + "-" * 100_000 + "1",
        "x = " + "not " * 50_000 + "1",
        "x = " + "lambda: " * 20_000 + "1",
        "x = " + "f'{" * 200 + "1" + "}'" * 200,
        "x = " + "9" * 5000,
        "if 1:\n" + "".join(" " * i + "if 1:\n" for i in range(1, 150)),
        "x = '\0'",
        "x = '\ud800'",
        "\ufeff\ufeff",
        "\f\t x = 1",
        "x = 'unterminated",
        "x = 1" + " + 1" * 100_000,
        "x" * (MAX_SOURCE_CHARS + 1),
    ],
    ids=range(15),
)
def test_a_source_that_the_hosts_parser_refuses_is_a_format_error(module):
    with pytest.raises(FormatError) as caught:
        read(module)
    assert len(str(caught.value)) < 500
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("# -*- coding: nonsense -*-", ""),
        ("x = y" + ".z" * 900, "does_not_load"),
        ("assert (1, 'always')", ""),
        ("x = 1 << 10**9", "out_of_memory"),
        ("x = 'x' * 10**9", "out_of_memory"),
        ("x = 9**9**9", TOO_LONG),
        ("def f():\n    return\n    yield\n" * 50, ""),
        ("x = {" + "1: 1, " * 200 + "}", ""),
        ("import json.nothing", "does_not_load"),
        ("from __future__ import annotations", ""),
        ("from __future__ import nonsense", "does_not_compile"),
        ("raise SystemExit", "does_not_load"),
        ("class VictimEnv: pass", ""),  # shadowed by the later one
        ("é = '\u202e'  # \u2066", ""),
    ],
    ids=range(14),
)
def test_a_source_that_the_host_reads_loads_or_says_why(sandbox_with, module, reason):
    spec = read(module)
    if reason:
        with pytest.raises(EnvError) as caught:
            Env(sandbox_with(QUICK), spec, victim.CONFIG)
        assert caught.value.reason == reason
    else:
        env = Env(sandbox_with(QUICK), spec, victim.CONFIG)
        assert env.step(victim.RIGHT).finished
        assert env.reward == 1.0
        env.close()


@pytest.mark.parametrize("source", ["", "\ud800", "x = '\0'", "class VictimEnv: pass", "VictimEnv = None"])
def test_a_source_that_was_never_read_does_not_load(sandbox_with, source):
    """A spec may be made without `parse_source`, from a row of a file that nobody checked."""
    spec = dataclasses.replace(victim.spec(), source=source)
    with pytest.raises(EnvError) as caught:
        Env(sandbox_with(QUICK), spec, victim.CONFIG)
    assert caught.value.reason in ("does_not_compile", "does_not_load")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("", "does_not_load"),
        ("no JSON", "does_not_load"),
        ("null", "does_not_load"),
        ("[" * 100_000, "stack_overflow"),
        ('{"numbers": [5, 7], "\\ud800": "\\u0000"}', ""),
        ('{"numbers": [5, 7], "x": "\ud800"}', ""),
        ('{"numbers": [5, 7], "@": "@\'\\"@"}', ""),
        ('{"numbers": [5, 7], "x": ' + "9" * 5000 + "}", "does_not_load"),
        ('{"numbers": [5, 7], "numbers": [12]}', ""),
        (json.dumps({"numbers": [12], "x": "x" * 200_000}), ""),
    ],
    ids=range(10),
)
def test_a_config_loads_or_says_why(sandbox_with, config, reason):
    if reason:
        with pytest.raises(EnvError) as caught:
            Env(sandbox_with(QUICK), victim.spec(), config)
        assert caught.value.reason == reason
    else:
        env = Env(sandbox_with(QUICK), victim.spec(), config)
        env.step(victim.RIGHT)
        assert env.reward == 1.0
        env.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "codegym_v1@",
        "codegym_v1@A__B@",
        "codegym_v1@A__B@" + "[" * 100_000,
        "codegym_v1@A__B@{" + '"a":{' * 5000,
        'codegym_v1@A__B@{"a": ' + "9" * 5000 + "}",
        "codegym_v1@\ud800__B@[]",
        "codegym_v1@A__B@\0",
    ],
    ids=range(8),
)
def test_a_task_string_that_is_none_is_a_format_error(text):
    with pytest.raises(FormatError) as caught:
        parse_env_string(text)
    str(caught.value).encode()
