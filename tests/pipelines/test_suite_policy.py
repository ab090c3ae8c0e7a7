"""A policy in suites: our own held-out tasks by the same way as any suite, on the real engine."""

import json
import pathlib
import shutil

import pytest

from codegym_jax.cli import main
from codegym_jax.config import SandboxConfig
from codegym_jax.data.chat import make_renderer
from codegym_jax.data.conversation import render_conversation
from codegym_jax.data.tokenizer import Tokenizer
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.evals.suites.held_out import HeldOut
from codegym_jax.evals.suites.play import SuiteStop, no_op, oracle, play
from codegym_jax.evals.suites.suite import Suite
from codegym_jax.pipelines.suite_policy import with_instructions

CONFIG = '''"""A test."""

from codegym_jax.config import DataConfig, MeshConfig, PolicyConfig, RunConfig


def config():
    return RunConfig(
        style="hermes",
        policy=PolicyConfig(preset="nano"),
        mesh=MeshConfig(),
        data=DataConfig(max_vocabulary=400, task_set={task_set!r}),
    )
'''


@pytest.fixture(scope="module")
def config_path(tmp_path_factory, tiny_task_set):
    folder = tmp_path_factory.mktemp("config")
    task_set = shutil.copytree(tiny_task_set, folder / "task_set")
    manifest = json.loads((task_set / "manifest.json").read_text())
    manifest["guest_hash"] = find_artefact().wasm_sha256
    (task_set / "manifest.json").write_text(json.dumps(manifest))
    path = folder / "tiny.py"
    path.write_text(CONFIG.format(task_set=str(task_set)))
    return path


@pytest.fixture
def held_out(tiny_task_set, tmp_path):
    return HeldOut(tiny_task_set, tmp_path, SandboxConfig())


def evaluate(config_path, run, *more):
    suite = ("--suite", "held_out:test_config", "--stage", "start", "--limit", "2")
    sizes = ("--context-tokens", "1024", "--message-tokens", "12")
    return main(["eval", str(config_path), "--run", str(run), *suite, *sizes, *more])


def test_our_own_tasks_are_a_suite(held_out):
    assert isinstance(held_out, Suite)
    assert set(held_out.facts.subsets) == {"train", "validation_config", "test_config"}
    tasks = held_out.tasks("test_config")
    assert len(tasks) == 3
    for task in tasks:
        right = play(held_out, "test_config", task, 0, oracle, 99)
        assert (right.score, right.stop, right.turns) == (1.0, SuiteStop.FINISHED, right.calls)
        assert right.messages[-1]["role"] == "assistant"  # nothing follows the answer
        wrong = play(held_out, "test_config", task, 0, no_op, 3)
        assert (wrong.score, wrong.stop, wrong.turns) == (0.0, SuiteStop.MAX_TURNS, 3)
        assert all(message["content"].startswith("Error:") for message in wrong.messages[2::2])


def test_two_calls_at_once_are_answered_as_no_call(held_out):
    session = held_out.open("test_config", held_out.tasks("test_config")[0])
    gold = session.gold()
    [call] = gold["tool_calls"]
    reaction = session.reply({**gold, "tool_calls": [call, {**call, "id": "call_9"}]})
    assert [message["tool_call_id"] for message in reaction.messages] == [call["id"], "call_9"]
    assert all(message["content"].startswith("Error:") for message in reaction.messages)
    session.close()


def test_instructions_join_the_system_message():
    user = {"role": "user", "content": "Hello"}
    system = {"role": "system", "content": "Be kind."}
    assert with_instructions([user], "") == [user]
    assert with_instructions([user], "Think.") == [{"role": "system", "content": "Think."}, user]
    assert with_instructions([system, user], "Think.") == [
        {"role": "system", "content": "Be kind.\n\nThink."},
        user,
    ]


def test_a_policy_plays_a_suite_the_same_at_any_width(config_path, tmp_path, capsys, held_out):
    """Two tasks, two runs; one slot and three; and the prompt is the one that episodes begin with."""
    assert evaluate(config_path, tmp_path / "one", "--runs", "2", "--slots", "1", "--max-turns", "3") == 0
    printed = capsys.readouterr().out
    assert "| oracle | 100.0 [" in printed
    assert "| no-op | 0.0 [" in printed
    assert "| base |" in printed
    assert evaluate(config_path, tmp_path / "three", "--runs", "1", "--slots", "3", "--max-turns", "3") == 0
    assert evaluate(config_path, tmp_path / "three", "--runs", "2", "--slots", "3", "--max-turns", "3") == 0
    lines = [
        (tmp_path / run / "suites" / "held_out" / "test_config" / "start.jsonl").read_bytes()
        for run in ("one", "three")
    ]
    assert lines[0] == lines[1]
    identity, *attempts = [json.loads(line) for line in lines[0].splitlines()]
    assert len(attempts) == 4
    assert all(attempt["tokens"] > 0 for attempt in attempts)
    assert (identity["temperature"], identity["top_p"]) == (0.7, 0.95)
    renderer = make_renderer("hermes", Tokenizer.load(tmp_path / "one" / "tokenizer.json"))
    opening = held_out.open("test_config", attempts[0]["task"]).opening
    [spec] = held_out.task_set.specs.values()
    assert render_conversation(renderer, opening.messages, opening.tools) == renderer.render_prompt(spec)


def test_what_does_not_fit_is_told(config_path, tmp_path):
    small = ("--runs", "1", "--context-tokens", "64")
    assert evaluate(config_path, tmp_path / "run", *small) == 0
    figures = json.loads((tmp_path / "run/suites/held_out/test_config/start.json").read_text())
    assert (figures["stops"], figures["mean"]) == ({"prompt_too_long": 2}, 0.0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--suite", "tau2:airline"), "--user-endpoint URL"),
        (("--suite", "mmlu_pro"), "--suite-data mmlu_pro=..."),
        (("--suite", "zebra"), "codegym suites install zebra"),
        (("--suite", "zebar"), "did you mean zebra?"),
        (("--suite", "held_out", "--set", "style=compact"), "only the style hermes"),
        (("--suite", "held_out", "--runs", "0"), "--runs must be at least 1"),
        (("--suite", "held_out", "--suite-data", "held_out"), "takes NAME=PATH"),
        (("--suite", "held_out", "--message-tokens", "9000"), "below --context-tokens"),
    ],
)
def test_what_is_missing_is_said_before_any_work(
    config_path, tmp_path, capsys, monkeypatch, arguments, complaint
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run = tmp_path / "run"
    assert main(["eval", str(config_path), "--run", str(run), *arguments]) == 2
    said = capsys.readouterr()
    assert complaint in said.err
    assert said.out == ""
    assert not run.exists()


def test_suites_are_listed_and_checked_without_a_policy(tiny_task_set, tmp_path, capsys):
    assert main(["suites"]) == 0
    assert "zebra" in capsys.readouterr().out
    out = tmp_path / "out"
    code = main(
        ["suites", "check", "held_out:train", "--suite-data", f"held_out={tiny_task_set}", "--out", str(out)]
    )
    assert code == 0
    assert "| oracle | 100.0 [" in capsys.readouterr().out
    assert sorted(path.name for path in pathlib.Path(out / "suites/held_out/train").iterdir()) == [
        "no_op.json",
        "no_op.jsonl",
        "oracle.json",
        "oracle.jsonl",
    ]
