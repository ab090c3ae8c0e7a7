"""A real process, killed with SIGKILL at random points: the same command ends in the same bytes."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codegym_jax.config import DataConfig, RunConfig, SynthesisConfig, to_json

SHELF = Path(__file__).parents[1] / "fixtures" / "shelf"
CONFIG = RunConfig(
    synthesis=SynthesisConfig(
        sources=(str(SHELF),),
        tasks_per_environment=20,
        learnable_environments=12,
        tasks_per_learnable_environment=12,
        workers=1,
    ),
    data=DataConfig(heldout_environments=1),
)
PROGRAM = """
import json, sys
from pathlib import Path
from codegym_jax import config
from codegym_jax.pipelines.synth import synthesize

if __name__ == "__main__":  # spawned workers import this too
    settings, cache = map(Path, sys.argv[1:])
    print(synthesize(config.from_dict(json.loads(settings.read_text())), cache))
"""


class Run:
    """The same command, again and again."""

    def __init__(self, folder: Path):
        self.cache = folder / "cache"
        self._program, self._settings = folder / "program.py", folder / "settings.json"
        folder.mkdir()
        self._program.write_text(PROGRAM)
        self._settings.write_text(to_json(CONFIG))

    def start(self) -> subprocess.Popen[str]:
        arguments = [sys.executable, str(self._program), str(self._settings), str(self.cache)]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    def journal_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.cache.glob("task_set-*.partial/journal"))

    def files(self) -> dict[str, bytes]:
        [folder] = self.cache.iterdir()
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }


@pytest.mark.slow
def test_a_killed_synthesis_ends_with_the_bytes_of_an_uninterrupted_one(tmp_path: Path):
    """Each time it is killed as soon as its journal has grown by another random number of bytes."""
    whole, cut = Run(tmp_path / "whole"), Run(tmp_path / "cut")
    with whole.start() as process:
        printed, _ = process.communicate()
    assert process.returncode == 0
    chance = random.Random(3)
    kills = 0
    while kills < 6:
        enough = cut.journal_bytes() + chance.randrange(1, 30_000)
        with cut.start() as process:
            while process.poll() is None and cut.journal_bytes() < enough:
                time.sleep(0.001)
            process.kill()
            resumed, _ = process.communicate()
        if process.returncode == 0:
            break
        kills += 1
    with cut.start() as process:
        resumed, _ = process.communicate()
    assert kills >= 3
    assert Path(resumed.split()[-1]).name == Path(printed.split()[-1]).name
    assert cut.files() == whole.files()
    assert json.loads(cut.files()["manifest.json"])["environments"] >= 4
