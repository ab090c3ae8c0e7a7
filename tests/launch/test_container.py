"""`launch/Containerfile`: what it copies exists and is enough, and what it installs is the lock.

No image is built here: that needs a daemon and a registry of base images. What its steps do is done by hand.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "image.sh"


class Step(NamedTuple):
    """An instruction of a Containerfile."""

    name: str
    words: str


def steps() -> list[Step]:
    """The instructions, those of several lines as one."""
    text = (ROOT / "launch" / "Containerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [Step(*line.split(maxsplit=1)) for line in text.splitlines() if line]


def tracked() -> list[str]:
    """The files of the repository, also those that will be committed."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for path in listed.splitlines() if (ROOT / path).exists()]


def context() -> set[str]:
    """The tracked files that .dockerignore lets through: its last matching line decides."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"  # a list of what may go in, not of what may not

    def matches(rule: str, path: str) -> bool:
        places = [path, *map(str, Path(path).parents)]
        if rule.startswith("**/"):
            return any(fnmatch(Path(place).name, rule.removeprefix("**/")) for place in places)
        return any(fnmatch(place, rule) for place in places)

    def goes_in(path: str) -> bool:
        matching = [rule for rule in rules if matches(rule.removeprefix("!"), path)]
        return matching[-1].startswith("!")

    return {path for path in tracked() if goes_in(path)}


def copied() -> dict[str, str]:
    """A path of the repository -> where it is put."""
    found = {}
    for step in steps():
        if step.name == "COPY":
            *sources, target = step.words.split()
            found |= dict.fromkeys(sources, target)
    return found


def runs() -> list[str]:
    return [step.words for step in steps() if step.name == "RUN"]


def test_every_path_that_is_copied_is_in_the_context():
    held = context()
    for source in copied():
        assert any(path == source or path.startswith(f"{source}/") for path in held), source
    for path in held:
        assert any(path == source or path.startswith(f"{source}/") for source in copied()), path


def test_secrets_and_runs_stay_outside():
    """A file that is not named does not get in, whatever it is called."""
    assert {Path(path).parts[0] for path in context()} == set(copied())


def test_the_guest_is_in_it():
    held = context()
    assert {path for path in tracked() if path.startswith("envs_wasm/dist/")} <= held


def test_what_changes_seldom_comes_first():
    """A change of the code takes neither the lock's layer nor the accelerator's."""
    kinds = [step.words for step in steps() if step.name in ("COPY", "RUN")]
    assert kinds[0].startswith("requirements.lock") and "--requirement requirements.lock" in kinds[1]
    assert "jax[tpu]" in kinds[2]
    assert all(
        words.startswith(("pyproject.toml", "codegym_jax", "envs_wasm", "configs")) for words in kinds[3:-2]
    )


def test_the_lock_is_what_is_installed():
    """As in the Makefile; the accelerator's packages may only be added to it."""
    pips = [line for run in runs() for line in re.findall(r"pip install [^;&]*", run)]
    assert [shlex.split(line) for line in pips] == [
        ["pip", "install", "--no-deps", "--requirement", "requirements.lock"],
        ["pip", "install", "--constraint", "requirements.lock", "jax[tpu]"],
        ["pip", "install", "--constraint", "requirements.lock", "jax[cuda12]"],
        ["pip", "install", "--no-deps", "--no-build-isolation", "--editable", "."],
    ]
    locked = set(re.findall(r"^[\w.-]+", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {"jax", "jaxlib", "requests", "setuptools"} <= locked  # of jax[tpu] libtpu alone is new


def test_it_does_not_run_as_root():
    """The user is set last, and by number, so that Kubernetes can check it."""
    names = [step.name for step in steps()]
    assert names[-2:] == ["USER", "ENTRYPOINT"] and steps()[-2].words == "1000"
    assert steps()[-1].words == '["codegym"]'


def test_its_shell_is_one(tmp_path):
    """Each RUN line parses in sh, and an accelerator that does not exist ends the build."""
    for run in runs():
        subprocess.run(["sh", "-n", "-c", run], check=True)
    [choice] = [run for run in runs() if run.startswith("case")]
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "python").write_text('#!/bin/sh\necho "$@"\n')
    (bin_folder / "python").chmod(0o755)

    def choose(accelerator: str) -> tuple[int, str]:
        environment = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "ACCELERATOR": accelerator}
        done = subprocess.run(["sh", "-c", choice], env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout

    assert choose("tpu") == (0, "-m pip install --constraint requirements.lock jax[tpu]\n")
    assert choose("cuda") == (0, "-m pip install --constraint requirements.lock jax[cuda12]\n")
    assert choose("cpu") == (0, "") and choose("gpu")[0] == 2


def test_what_is_copied_is_enough(tmp_path):
    """With those files alone the package can be installed, the command starts, and the guest is whole."""
    for path in context():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    metadata = "import setuptools.build_meta as b; b.prepare_metadata_for_build_editable('.')"
    guest = "from codegym_jax.envs.artefact import find_artefact; find_artefact().wasm()"
    for words in (["-c", metadata], ["-c", guest], ["-m", "codegym_jax.cli", "run", "--help"]):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("accelerator", ["tpu", "cuda", "cpu"])
def test_the_plan(hold_to_plan, accelerator):
    hold_to_plan(f"image_{accelerator}", call("--dry-run", "--push", accelerator).stdout)


def call(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs the script; a setting that is empty is unset."""
    given = {"PATH": os.environ["PATH"], "IMAGE": "us-docker.pkg.dev/mine/codegym/tpu:1", **settings}
    environment = {name: value for name, value in given.items() if value}
    return subprocess.run([str(SCRIPT), *words], env=environment, capture_output=True, text=True)


def test_what_is_wrong_is_said_before_anything_runs():
    for words, settings, complaint in (
        (["tpu"], {"IMAGE": ""}, "IMAGE is not set; --help says what it is"),
        (["tpu"], {"IMAGE": "A B"}, "IMAGE must be an image's name in small letters, got A B"),
        (["gpu"], {}, "the accelerator must be tpu, cuda or cpu, got gpu"),
    ):
        refused = call(*words, **settings)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr == f"launch/image.sh: {complaint}\n"
    assert call().returncode == 2
    assert "examples:" in call("--help").stdout
