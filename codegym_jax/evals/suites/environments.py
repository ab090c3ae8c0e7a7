"""Python environments of suites, one each: their packages' pins disagree with one another and with ours.

One lies at `<cache>/suites/NAME/environment`, a venv. Beside it stands `installed.json`, which is written
when everything else is there and says what it was made of: without it, or when the requirements have changed
since, nothing counts as installed.

Requirements lie beside the worker, as `workers/NAME.txt`. A first line `# no-deps` says that they are
complete: what the packages themselves ask for is left out.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.folder_lock import lock_folder
from codegym_jax.evals.suites.suite import SuiteError

WORKERS = pathlib.Path(__file__).parent / "workers"
_NO_DEPS = "# no-deps"
_SHOWN_CHARS = 2000


def worker_file(name: str) -> pathlib.Path:
    """The program of a suite's worker."""
    return WORKERS / f"{name}.py"


def requirements_file(name: str) -> pathlib.Path:
    """What its environment is made of."""
    return WORKERS / f"{name}.txt"


def is_installed(cache: pathlib.Path, name: str) -> bool:
    """Whether the environment of a suite is there, and as its requirements say."""
    try:
        made_of = json.loads((_folder(cache, name) / "installed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return made_of == _made_of(name)


def worker_command(cache: pathlib.Path, name: str) -> list[str]:
    """Starts a suite's worker.

    Neither the folder of the worker, whose files are named as packages are, nor the user's own packages are
    looked into for modules.

    Raises:
      SuiteError: when its environment is not installed.
    """
    if not is_installed(cache, name):
        raise SuiteError(
            f"suite {name}: its packages are not installed, or not as this version needs them;"
            f" run `codegym suites install {name}`"
        )
    return [str(_python(cache, name)), "-P", "-s", str(worker_file(name))]


def install(cache: pathlib.Path, name: str, say: Callable[[str], None]) -> None:
    """Makes the environment of a suite, unless it is there. A killed one is begun again.

    Args:
      cache: where environments lie.
      name: of the suite.
      say: is told what happens.

    Raises:
      SuiteError: when another process makes it, or a step fails; shows what the step said.
    """
    folder = _folder(cache, name)
    lock = lock_folder(folder)
    if lock is None:
        raise SuiteError(f"suite {name}: another process installs it; wait until that ends")
    try:
        if is_installed(cache, name):
            say(f"{name}: installed already, in {folder}")
            return
        (folder / "installed.json").unlink(missing_ok=True)
        shutil.rmtree(folder / "environment", ignore_errors=True)
        say(f"{name}: installing into {folder}")
        _run(name, [sys.executable, "-m", "venv", str(folder / "environment")])
        pip = [str(_python(cache, name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        requirements = requirements_file(name)
        whole = requirements.read_text(encoding="utf-8").startswith(_NO_DEPS)
        _run(name, [*pip, *(["--no-deps"] if whole else []), "-r", str(requirements)])
        write_atomically(folder / "installed.json", json.dumps(_made_of(name)) + "\n")
        say(f"{name}: installed")
    finally:
        os.close(lock)


def _run(name: str, command: Sequence[str]) -> None:
    leading = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    environment = {key: value for key, value in os.environ.items() if key not in leading}
    here = os.path.dirname(command[0])  # packages that are compiled call `python`, which a machine may lack
    environment["PATH"] = os.pathsep.join((here, environment.get("PATH", os.defpath)))
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-_SHOWN_CHARS:]
        raise SuiteError(f"suite {name}: `{' '.join(command)}` failed:\n{said}")


def _folder(cache: pathlib.Path, name: str) -> pathlib.Path:
    return cache / "suites" / name


def _python(cache: pathlib.Path, name: str) -> pathlib.Path:
    return _folder(cache, name) / "environment" / "bin" / "python"


def _made_of(name: str) -> dict[str, str]:
    requirements = requirements_file(name).read_bytes()
    return {
        "requirements": hashlib.sha256(requirements).hexdigest(),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
