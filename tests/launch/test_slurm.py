"""`launch/slurm.sbatch` beside a stand-in for Slurm: what it would run, and what an exit code does.

The same was seen on a real Slurm 22.05 of two nodes: queued again at 42 and before the time limit, ended by 2
and by scancel.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(__file__).parent / "stand_in" / "bin"
CONFIG = "configs/smoke_cpu.py"
SETTINGS = {"BASE_OUTPUT_DIRECTORY": "/shared/runs", "RUN_NAME": "grpo-1"}

# Ends with the code in exits/ATTEMPT.PROCESS; "told": as codegym does when it is told to stop.
CODEGYM = """#!/usr/bin/env bash
trap 'sleep 0.1; echo "$rank" >>"$STAND_IN/saved"; exit 42' TERM
rank=${*: -1}
echo "$JAX_LOCAL_DEVICE_IDS $JAX_COMPILATION_CACHE_DIR $*" >>"$STAND_IN/commands"
code=$(cat "$STAND_IN/exits/${SLURM_RESTART_COUNT:-0}.$rank")
if [ "$code" = told ]; then
  touch "$STAND_IN/told-$rank"
  while :; do sleep 0.05; done
fi
exit "$code"
"""
REAL = f"""#!/usr/bin/env bash
exec {sys.executable} -m codegym_jax.cli "$@"
"""

Done = subprocess.CompletedProcess[str]


class Site:
    """A checkout on a cluster that has Slurm."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.place = folder / "checkout", folder / "slurm"
        for path in ("launch/lib.sh", "launch/slurm.sbatch", CONFIG):
            (self.checkout / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, self.checkout / path)
        self.place.mkdir()
        self.install(CODEGYM)

    def install(self, program: str) -> None:
        """What `.venv/bin/codegym` is."""
        path = self.checkout / ".venv" / "bin" / "codegym"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(program)
        path.chmod(0o755)

    def call(self, *words: str, place: Path | None = None, **settings: str) -> Done:
        """Runs a command in the checkout; a setting that is empty is unset."""
        path = f"{BIN}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        given = {**SETTINGS, "PATH": path, "STAND_IN": str(self.place), "HOME": str(self.place), **settings}
        return subprocess.run(
            words,
            cwd=place or self.checkout,
            env={name: value for name, value in given.items() if value},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def submit(self, *attempts: list[int | str]) -> int:
        """Runs a job whose processes end so, attempt by attempt; its exit code."""
        (self.place / "exits").mkdir()
        for attempt, codes in enumerate(attempts):
            for rank, code in enumerate(codes):
                (self.place / "exits" / f"{attempt}.{rank}").write_text(str(code))
        return self.call("sbatch", "launch/slurm.sbatch", CONFIG, "--set", "a=b c").returncode

    def lines(self, name: str) -> list[str]:
        """Of a file that the stand-in, or the program in codegym's place, wrote."""
        path = self.place / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


def test_the_plan(site, hold_to_plan):
    planned = site.call("launch/slurm.sbatch", "--dry-run", CONFIG, "--set", "a=b c")
    assert (planned.returncode, planned.stderr) == (0, "")
    hold_to_plan("slurm", planned.stdout)


def test_a_process_a_node_finds_the_first(site):
    assert site.submit([0, 0]) == 0
    command = f"run {CONFIG} --run /shared/runs/grpo-1 --set a=b c --coordinator node1:{61440 + 4242 - 4096}"
    assert sorted(site.lines("commands")) == [
        f"0,1,2,3,4,5,6,7 /shared/runs/compile_cache {command} --process-count 2 --process-id {rank}"
        for rank in (0, 1)
    ]


@pytest.mark.parametrize(
    ("attempts", "code"),
    [
        ([[0, 0]], 0),
        ([[42, 42], [42, 42], [0, 0]], 0),
        ([["told", "told"], [0, 0]], 0),  # before the time limit
        ([[42, 42], [2, 42]], 2),  # the other one ended because of the first: the first is what counts
        ([[42, 1]], 1),
        ([[42, 139]], 139),
        ([[1, 1]], 1),
    ],
    ids=str,
)
def test_what_an_exit_code_does(site, attempts, code):
    assert site.submit(*attempts) == code
    assert len(site.lines("commands")) == 2 * len(attempts)
    queued = [line for line in site.lines("log") if "queued again; it goes on from its checkpoint" in line]
    assert len(queued) == len(attempts) - 1
    assert len(site.lines("saved")) == 2 * sum("told" in attempt for attempt in attempts)


def test_a_job_that_was_cancelled_saves_and_stays_so(site):
    (site.place / "cancel").touch()
    assert site.submit(["told", "told"], [0, 0]) == 42
    assert sorted(site.lines("saved")) == ["0", "1"] and len(site.lines("commands")) == 2


def test_a_mistake_of_the_user_ends_the_job(site):
    """By the real command, which refuses a setting before it looks for the others."""
    site.install(REAL)
    submitted = site.call("sbatch", "--nodes=1", "launch/slurm.sbatch", CONFIG, "--set", "no.such=1")
    assert submitted.returncode == 2
    assert any("codegym run: unknown setting" in line for line in site.lines("log"))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"BASE_OUTPUT_DIRECTORY": ""}, "BASE_OUTPUT_DIRECTORY is not set; --help says what it is"),
        ({"RUN_NAME": ""}, "RUN_NAME is not set; --help says what it is"),
        (
            {"BASE_OUTPUT_DIRECTORY": "runs"},
            "BASE_OUTPUT_DIRECTORY must be a path from / or begin with gs://, got runs",
        ),
        (
            {"SLURM_NNODES": "2", "SLURM_NTASKS": "16"},
            "one process a node is needed (--ntasks-per-node=1), got 16",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(site, settings, complaint):
    refused = site.call("launch/slurm.sbatch", "--dry-run", CONFIG, **settings)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"launch/slurm.sbatch: {complaint}")


def test_it_wants_to_be_submitted_from_the_checkout(site):
    assert "submit it: sbatch launch/slurm.sbatch CONFIG" in site.call("launch/slurm.sbatch", CONFIG).stderr
    missing = site.call("launch/slurm.sbatch", "--dry-run", "none.py")
    assert missing.stderr == "launch/slurm.sbatch: config file not found: none.py\n"
    elsewhere = site.call("sbatch", str(site.checkout / "launch" / "slurm.sbatch"), CONFIG, place=site.place)
    assert elsewhere.returncode == 2
    assert site.lines("log") == [
        f"launch/slurm.sbatch: submit it from the root of the repository, not from {site.place}"
    ]


def test_help_has_examples(site):
    printed = site.call("launch/slurm.sbatch", "--help").stdout
    assert "examples:" in printed and all(f"  {name} " in printed for name in SETTINGS)
