"""BFCL's and tau2's own command lines, as their packages bring them, end in scores on `codegym serve`.

Each is in an environment of its own, hence `make test-harnesses`. The policies make one call each, so that
what a harness must find is known: the gold call of one task of BFCL, and the call that ends a solo
conversation of tau2.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.adapters.harnesses.one_call import CONTEXT, write_one_call

ENVIRONMENTS = pathlib.Path(__file__).resolve().parents[3] / "build" / "harnesses"
SOLO = ["--agent", "llm_agent_solo", "--user", "dummy_user"]
TALKING = ["--user-llm", "openai/policy"]
MODEL = "openbmb/MiniCPM-SALA-FC"
"""To BFCL, a model that OPENAI_BASE_URL leads to, and that takes tools in the form of the chat interface."""

pytestmark = pytest.mark.slow


def program(name: str) -> str:
    """A harness's command."""
    path = ENVIRONMENTS / name / "bin" / name
    if not path.exists():
        pytest.skip("make test-harnesses")
    return str(path)


@contextlib.contextmanager
def serving(weights: pathlib.Path, name: str) -> Iterator[str]:
    """The address of a `codegym serve` of its own process."""
    command = [sys.executable, "-m", "codegym_jax.cli", "serve", str(weights), "--port", "0", "--name", name]
    settings = ["--context", str(CONTEXT), "--slots", "2"]
    with subprocess.Popen([*command, *settings], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[2]
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


def run(command: list[str], folder: pathlib.Path, **variables: str) -> str:
    """What a command that ends well printed; it reaches nothing but this machine."""
    closed = {"HOME": str(folder), "OPENAI_API_KEY": "none", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        command,
        env=os.environ | closed | variables,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_bfcl_generates_and_evaluates(tmp_path):
    """One gold call among the single-turn tasks; conversations of several turns end, and are graded."""
    bfcl = program("bfcl")
    chosen = {
        "simple_python": ["simple_python_0", "simple_python_1"],
        "multi_turn_base": ["multi_turn_base_0"],
        "multi_turn_miss_func": ["multi_turn_miss_func_0"],
    }
    (tmp_path / "test_case_ids_to_generate.json").write_text(json.dumps(chosen))
    weights = write_one_call(tmp_path / "weights", "calculate_triangle_area", {"base": 10, "height": 5})
    with serving(weights, MODEL) as url:
        settings = {"BFCL_PROJECT_ROOT": str(tmp_path), "OPENAI_BASE_URL": url}
        generate = [bfcl, "generate", "--model", MODEL, "--run-ids", "--num-threads", "2"]
        assert "Error" not in run(generate, tmp_path, **settings)
    evaluate = [bfcl, "evaluate", "--model", MODEL, "--test-category", ",".join(chosen), "--partial-eval"]
    run(evaluate, tmp_path, **settings)
    scores = {
        path.name.removeprefix("BFCL_v4_").removesuffix("_score.json"): json.loads(
            path.read_text().splitlines()[0]
        )
        for path in tmp_path.glob("score/*/*/*_score.json")
    }
    found = {name: (score["correct_count"], score["total_count"]) for name, score in scores.items()}
    assert found == {"simple_python": (1, 2), "multi_turn_base": (0, 1), "multi_turn_miss_func": (0, 1)}


@pytest.mark.parametrize(
    ("name", "call", "settings", "reason", "seen"),
    [
        ("telecom", ("done", {}), SOLO, "agent_stop", set()),
        ("airline", ("calculate", {"expression": "1 + 1"}), TALKING, "max_steps", {"calculate"}),
    ],
)
def test_tau2_runs_and_scores(tmp_path, name, call, settings, reason, seen):
    """A solo agent that stops at once, which tau2 keeps as a word and not as a call; and one that calculates
    until its steps are used up, with a user who is the same policy."""
    tau2 = program("tau2")
    command = [tau2, "run", "--domain", name, "--num-tasks", "2", "--max-steps", "12", *settings]
    kept = ["--results-dir", str(tmp_path), "--save-to", "one"]
    with serving(write_one_call(tmp_path / "weights", *call), "policy") as url:
        run([*command, *kept, "--agent-llm", "openai/policy"], tmp_path, OPENAI_BASE_URL=url)
    results = json.loads((tmp_path / "one_results.json").read_text())
    assert results["num_simulations"] == 2 and 0 <= results["metrics"]["avg_reward"] <= 1
    ended = json.loads((tmp_path / "one_termination_summary.json").read_text())
    assert ended["termination_reasons"] == {reason: 2} and ended["skipped_samples"] == 0
    simulations = json.loads((tmp_path / "one.json").read_text())["simulations"]
    said = [message for play in simulations for message in play["messages"]]
    called = {one["name"] for message in said for one in message.get("tool_calls") or ()}
    assert called == seen
