"""A reader who follows a tutorial to the letter, in a copy of what a checkout holds."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

from codegym_jax.envs.artefact import default_cache_dir
from tests.docs.tutorial import ROOT, Step, difference

_FOLDERS = ("configs", "docs", "launch", "tests/fixtures")
_FILES = ("Makefile", "README.md", "pyproject.toml", "requirements.lock")
_MINUTES = 40
"""No step may take longer."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Has a checkout and a cache of its own, so that nothing is left behind and nothing was made before."""

    checkout: pathlib.Path
    home: pathlib.Path

    def follow(self, step: Step) -> str:
        """Does a step.

        Returns:
          What is not as the page says; empty: all is.
        """
        if step.file:
            path = self.checkout / step.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text)
            return ""
        code, printed = self.type(step.text)
        if code != step.exit_code:
            return f"exit code {code}, not {step.exit_code}\n{printed}"
        if not step.expected:
            return ""
        # Several blocks are parts of one output; what lies between them is left out.
        unlike = difference("\n...\n".join(step.expected), printed)
        return f"{unlike}\nAll that was printed:\n{printed}" if unlike else ""

    def type(self, commands: str) -> tuple[int, str]:
        """Runs commands in a shell that stops at the first that fails; variables that are exported stay.

        Returns:
          The exit code, and what was printed on both streams.
        """
        kept = self.home / "exports.sh"
        kept.touch()
        script = f'trap "export -p > {kept}" EXIT\nset -e -o pipefail\nsource {kept}\n{commands}'
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.checkout,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = shell.communicate(timeout=_MINUTES * 60)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
        return shell.returncode, printed

    def environment(self) -> dict[str, str]:
        """That of a plain CPU machine; of ours only the basics."""
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        return kept | {
            "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "JAX_PLATFORMS": "cpu",
            "COLUMNS": "110",
        }


def new_reader(folder: pathlib.Path) -> Reader:
    """A reader with a fresh clone in the folder; compiled guests and programs are there already."""
    reader = Reader(folder / "checkout", folder / "home")
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, reader.checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        shutil.copy(ROOT / name, reader.checkout)
        os.utime(reader.checkout / name, (0, 0))  # so that make finds the environment newer, and lets it be
    (reader.checkout / ".gitignore").write_text(".venv\n")
    author = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    for words in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "-m", "all"]):
        subprocess.run(["git", *words], cwd=reader.checkout, check=True)
    (reader.checkout / ".venv").symlink_to(sys.prefix)
    cache = reader.home / ".cache" / "codegym-jax"
    cache.mkdir(parents=True)
    (default_cache_dir() / "xla").mkdir(parents=True, exist_ok=True)
    for path in [*default_cache_dir().glob("*.cwasm"), default_cache_dir() / "xla"]:
        (cache / path.name).symlink_to(path)
    return reader
