"""What holds of every launch script, whoever wrote it."""

import pathlib
import subprocess
import sys

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
SOURCED = LAUNCH / "lib.sh"
SHELL = sorted([*LAUNCH.rglob("*.sh"), *LAUNCH.rglob("*.sbatch")])
SCRIPTS = [path for path in SHELL if path != SOURCED]


def names(paths: list[pathlib.Path]) -> list[str]:
    return [path.relative_to(LAUNCH).as_posix() for path in paths]


def test_shellcheck_has_nothing_to_say():
    shellcheck = pathlib.Path(sys.executable).with_name("shellcheck")
    said = subprocess.run([shellcheck, "-x", *SHELL], capture_output=True, text=True, cwd=LAUNCH.parent)
    assert (said.returncode, said.stdout) == (0, "")


@pytest.mark.parametrize("path", SHELL, ids=names(SHELL))
def test_bash_can_read_it(path):
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=names(SCRIPTS))
def test_help_needs_no_setting_and_shows_an_example(path):
    for flag in ("--help", "-h"):
        said = subprocess.run(
            ["bash", path, flag], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
        )
        assert (said.returncode, said.stderr) == (0, "")
        assert "usage:" in said.stdout and "example" in said.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=names(SCRIPTS))
def test_it_stops_at_what_fails_and_at_what_is_unset(path):
    assert "\nset -euo pipefail\n" in path.read_text()
    assert path.stat().st_mode & 0o111 or path.suffix == ".sbatch", "it can be run"
