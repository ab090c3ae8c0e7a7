"""A checkout, a laptop and a cloud in a folder, for the launch scripts; and the plans they are held to."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[2]
HERE = pathlib.Path(__file__).parent
STAND_IN = HERE / "stand_in"
SETTINGS = {
    "PROJECT": "mine",
    "ZONE": "europe-west4-b",
    "TPU_NAME": "pod",
    "ACCELERATOR_TYPE": "v5litepod-16",
    "BASE_OUTPUT_DIRECTORY": "gs://bucket/codegym",
    "RUN_NAME": "grpo-1",
}


class Laptop:
    """A machine with a checkout and the stand-in for gcloud first on its path."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.checkout, self.place = folder / "checkout", folder / "cloud"
        self.bucket = self.place / "bucket" / "bucket" / "codegym"
        self.run_folder = self.bucket / "grpo-1"
        self.play()

    def play(self, **scenario: Any) -> None:
        """Begins anew, with an empty cloud in which this happens."""
        shutil.rmtree(self.place, ignore_errors=True)
        (self.place / "bucket").mkdir(parents=True)
        self.set(scenario)
        (self.place / "cloud.json").write_text(
            json.dumps({"created": 0, "resource": None, "nodes": {}, "lists": 0})
        )

    def set(self, scenario: dict[str, Any]) -> None:
        """What happens from now on."""
        (self.place / "scenario.json").write_text(json.dumps(scenario))

    def environment(self, settings: dict[str, str]) -> dict[str, str]:
        path = f"{STAND_IN / 'clock'}:{STAND_IN / 'bin'}:{sys.base_prefix}/bin:{os.environ['PATH']}"
        given = {**SETTINGS, "PATH": path, "STAND_IN": str(self.place), "HOME": str(self.place), **settings}
        return {name: value for name, value in given.items() if value}

    def launch(self, script: str, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Runs a launch script; a setting that is empty is unset."""
        return subprocess.run(
            [str(self.checkout / "launch" / script), *words],
            env=self.environment(settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def plan(self, script: str, *words: str, **settings: str) -> str:
        """What a launch script would run."""
        planned = self.launch(script, "--dry-run", *words, **settings)
        assert (planned.returncode, planned.stderr, self.commands()) == (0, "", [])
        return planned.stdout

    def install(self) -> None:
        """As `make setup` does: from now on the launch scripts can read a config."""
        python = self.checkout / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)

    def commands(self) -> list[list[str]]:
        """The commands that this machine has given to the cloud, and its sleeps."""
        log = self.place / "laptop.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def commands_of_plan(self, plan: str) -> list[list[str]]:
        """The same, of a plan that is run as the shell script that it is; the cloud only listens."""
        self.play(only_records=True)
        subprocess.run(
            ["bash", "-c", plan], cwd=self.checkout, env=self.environment({}), capture_output=True, check=True
        )
        return self.commands()

    def cloud(self) -> dict[str, Any]:
        """What there is in the cloud now."""
        return json.loads((self.place / "cloud.json").read_text())

    def steps(self) -> list[int]:
        """The steps that the run has made."""
        return [int(line) for line in (self.run_folder / "steps").read_text().split()]

    def clean_up(self) -> None:
        """Ends what still runs on the nodes."""
        pids = [pid for facts in self.cloud()["nodes"].values() for pid in facts["boots"]]
        pids += [int(path.read_text()) for path in self.place.glob("nodes*/*/*/codegym-jax.lock.pid")]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def committed(tmp_path_factory) -> pathlib.Path:
    """The launch scripts and a config, committed; what `make setup` installs is a stand-in."""
    checkout = tmp_path_factory.mktemp("committed")
    (checkout / "launch").mkdir()
    for path in [*(ROOT / "launch").glob("*.sh"), ROOT / "launch" / "task_set.py"]:
        shutil.copy(path, checkout / "launch")
    (checkout / "configs").mkdir()
    shutil.copy(ROOT / "configs" / "smoke_cpu.py", checkout / "configs")
    shutil.copytree(STAND_IN / "checkout", checkout, dirs_exist_ok=True)
    (checkout / ".gitignore").write_text("build/\n.venv/\n")
    author = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    for words in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "-m", "all"]):
        subprocess.run(["git", *words], cwd=checkout, check=True)
    return checkout


@pytest.fixture
def laptop(committed, tmp_path):
    """With a checkout of its own and an empty cloud."""
    shutil.copytree(committed, tmp_path / "checkout")
    laptop = Laptop(tmp_path)
    yield laptop
    laptop.clean_up()


@pytest.fixture
def hold_to_plan():
    """Compares a plan with the recorded one of that name in `plans/`."""

    def hold(name: str, plan: str) -> None:
        path = HERE / "plans" / f"{name}.txt"
        if os.environ.get("RECORD_PLANS"):
            path.write_text(plan)
        recorded = path.read_text() if path.exists() else ""
        how = "if the new plan is right: RECORD_PLANS=1 .venv/bin/python -m pytest tests/launch"
        assert plan == recorded, how

    return hold
