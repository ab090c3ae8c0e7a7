"""Whether what is installed is what this program asks for, and what it was tested with."""

import importlib.metadata
import pathlib
import platform
from collections.abc import Iterable, Mapping

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from codegym_jax.pipelines.doctor.finding import Finding, fail, not_checked, ok, warn

PROGRAM = "codegym-jax"
SHOWN = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "wasmtime")
"""Those whose versions a run depends on most."""
_PLUGINS = ("jax-cuda12-plugin", "jax-cuda12-pjrt", "jax-cuda13-plugin", "jax-cuda13-pjrt")
"""They must be of jaxlib's version; libtpu has versions of its own."""
LOCK = pathlib.Path(__file__).resolve().parents[3] / "requirements.lock"


def check_versions(
    installed: Mapping[str, str], required: Iterable[str], python: str, lock: Iterable[str] | None
) -> list[Finding]:
    """Python and each package of `SHOWN`, then all others in a row.

    Args:
      installed: package -> version.
      required: of this program: requirements, and `python` as one of them.
      python: the version.
      lock: lines that pin the versions which are tested; None where they are not at hand.
    """
    wanted = _by_name(required)
    pinned = _by_name(lock or ())
    told = dict(installed) | {"python": python}
    findings = [_one(name, told, wanted, pinned) for name in ("python", *SHOWN)]
    others = [_one(name, told, wanted, pinned) for name in wanted if name not in ("python", *SHOWN)]
    wrong = [finding for finding in others if finding.fix]
    return [*findings, *(wrong or [ok("other packages", f"{len(others)} as required")])]


def installed_versions() -> dict[str, str]:
    """Package -> version, by normalized name."""
    return {
        _normal(found.metadata["Name"]): found.version
        for found in importlib.metadata.distributions()
        if found.metadata["Name"]
    }


def own_requirements() -> list[str]:
    """What this program asks for; only Python where it is not installed as a package."""
    try:
        metadata = importlib.metadata.metadata(PROGRAM)
        return [f"python{metadata['Requires-Python'] or ''}", *_plain(PROGRAM), *_of_jaxlib()]
    except importlib.metadata.PackageNotFoundError:
        return ["python>=3.11"]


def _plain(package: str) -> list[str]:
    """What a package asks for without any extra."""
    return [text for text in importlib.metadata.requires(package) or [] if "extra ==" not in text]


def _of_jaxlib() -> list[str]:
    """JAX says which jaxlib it goes with."""
    try:
        return [text for text in _plain("jax") if text.startswith("jaxlib")]
    except importlib.metadata.PackageNotFoundError:
        return []


def check_here() -> list[Finding]:
    """Of this process."""
    lock = LOCK.read_text(encoding="utf-8").splitlines() if LOCK.is_file() else None
    installed = installed_versions()
    findings = check_versions(installed, own_requirements(), platform.python_version(), lock)
    return [*findings, *check_plugins(installed)]


def check_plugins(installed: Mapping[str, str]) -> list[Finding]:
    """JAX's own plugins for an accelerator, where there are any."""
    found = {name: installed[name] for name in _PLUGINS if name in installed}
    odd = {name: version for name, version in found.items() if version != installed.get("jaxlib")}
    if odd:
        name, version = next(iter(odd.items()))
        told = f"{name} {version}, but jaxlib {installed.get('jaxlib', 'is missing')}"
        return [fail("accelerator plugin", told, f"pip install {name}=={installed.get('jaxlib', 'VERSION')}")]
    named = [f"{name} {version}" for name, version in found.items()]
    named += [f"libtpu {installed['libtpu']}"] if "libtpu" in installed else []
    return [ok("accelerator plugin", ", ".join(named))] if named else []


def _one(
    name: str,
    installed: Mapping[str, str],
    wanted: Mapping[str, SpecifierSet],
    pinned: Mapping[str, SpecifierSet],
) -> Finding:
    version, asked = installed.get(name), wanted.get(name)
    install = f"install Python {asked}" if name == "python" else f"pip install '{name}{asked or ''}'"
    if version is None:
        return fail(name, "not installed", install)
    if asked is None:
        return not_checked(
            name, f"{version}; {PROGRAM} is not installed as a package, so nothing says which it needs"
        )
    if not asked.contains(version, prereleases=True):
        return fail(name, f"{version}, but {asked} is needed", install)
    tested = pinned.get(name)
    if tested and not tested.contains(version, prereleases=True):
        return warn(
            name,
            f"{version}; tested with {str(tested).removeprefix('==')}",
            "pip install --no-deps -r requirements.lock, for what is tested",
        )
    return ok(name, version)


def _by_name(lines: Iterable[str]) -> dict[str, SpecifierSet]:
    """Package -> versions, of the requirements that apply here."""
    found = {}
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # a comment or an option
        if requirement.marker is None or requirement.marker.evaluate():
            found[_normal(requirement.name)] = requirement.specifier
    return found


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
