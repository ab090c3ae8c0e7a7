"""All checks of one process, in the order of the table.

What cannot even be imported is a finding, too, so the module of a check is imported when it is its turn.
"""

import hashlib
import importlib
import os
import pathlib
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import codegym_jax
from codegym_jax.config import RunConfig, SandboxConfig, digest
from codegym_jax.pipelines.doctor.finding import Finding, fail, first_line, not_checked, without_secrets

_COMPILE_CACHE = "JAX_COMPILATION_CACHE_DIR"
_KEPT_CHECKPOINTS = 3
"""Of a stage: two that stay, and the one that is written."""
_PACKAGE = pathlib.Path(codegym_jax.__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is examined."""

    config: RunConfig | None
    run: str
    """Run folder: a path, or gs://."""
    cache: pathlib.Path
    """For compiled guests and programs."""


def examine(subject: Subject) -> list[Finding]:
    """Every check that this process can make by itself."""
    checks: list[tuple[str, Callable[[Subject], Iterable[Finding]]]] = [
        ("versions", _versions),
        ("devices", _devices),
        ("mesh", _meshes),
        ("memory plan", _plan),
        ("guest artefact", _artefact),
        ("sandbox", _sandbox),
        ("machine", _machine),
        ("disk", _disks),
        ("writable", _writable),
        ("task set", _tasks),
        ("tokenizer", _policy),
    ]
    return [without_secrets(finding) for name, check in checks for finding in _made(name, check, subject)]


def facts(subject: Subject) -> dict[str, str]:
    """What must be the same on all processes of a run: what it is -> which."""
    versions = _module("versions").installed_versions()
    return {
        "versions": f"Python {platform.python_version()}, jax {versions.get('jax', 'missing')},"
        f" jaxlib {versions.get('jaxlib', 'missing')}",
        "code": code_digest(_PACKAGE),
        "config": digest(subject.config) if subject.config else "none given",
        "guest": _guest_hash(),
    }


def code_digest(package: pathlib.Path) -> str:
    """A short hash of every source file of a package, by path and content."""
    whole = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            whole.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return whole.hexdigest()[:16]


def _made(name: str, check: Callable[[Subject], Iterable[Finding]], subject: Subject) -> Iterator[Finding]:
    """The findings of a check; when it breaks off, that is one."""
    try:
        yield from check(subject)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        yield fail(
            name, f"the check broke off: {first_line(error)}", "mend what the message names; see other rows"
        )


def _module(name: str) -> Any:
    return importlib.import_module(f"codegym_jax.pipelines.doctor.{name}")


def _versions(_: Subject) -> list[Finding]:
    return _module("versions").check_here()


def _devices(_: Subject) -> list[Finding]:
    return _module("devices").check_devices()


def _meshes(subject: Subject) -> list[Finding]:
    if subject.config is None:
        return [not_checked("mesh", "no CONFIG given")]
    return _module("devices").check_meshes(subject.config)


def _plan(subject: Subject) -> list[Finding]:
    if subject.config is None:
        return [not_checked("memory plan", "no CONFIG given")]
    return [_module("devices").check_plan(subject.config)]


def _artefact(_: Subject) -> list[Finding]:
    return [_module("guest").check_artefact()]


def _sandbox(subject: Subject) -> Iterator[Finding]:
    limits = subject.config.sandbox if subject.config else SandboxConfig()
    yield from _module("guest").check_sandbox(limits, subject.cache)


def _machine(subject: Subject) -> list[Finding]:
    machine = _module("machine")
    newest_s = max(path.stat().st_mtime for path in _PACKAGE.rglob("*.py"))
    workers = subject.config.synthesis.workers if subject.config else 0
    return [machine.check_cores(workers), machine.check_open_files(), machine.check_clock(newest_s)]


def _disks(subject: Subject) -> list[Finding]:
    storage = _module("storage")
    needed = _module("devices").state_bytes(subject.config) * _KEPT_CHECKPOINTS if subject.config else 0.0
    return [
        storage.check_disk("disk, run folder", subject.run, needed),
        storage.check_disk("disk, cache", str(subject.cache)),
    ]


def _writable(subject: Subject) -> Iterator[Finding]:
    storage = _module("storage")
    yield from storage.check_writable("run folder", subject.run)
    yield from storage.check_writable("cache", str(subject.cache))
    compiled = os.environ.get(_COMPILE_CACHE, "")
    if compiled:
        yield from storage.check_writable("compile cache", compiled)
    if not any(storage.is_remote(place) for place in (subject.run, compiled)):
        yield not_checked("bucket", f"neither the run folder nor {_COMPILE_CACHE} is on one")


def _tasks(subject: Subject) -> list[Finding]:
    if subject.config is None:
        return [not_checked("task set", "no CONFIG given")]
    remote = _module("storage").is_remote(subject.run)
    return _module("inputs").check_tasks(subject.config, None if remote else pathlib.Path(subject.run))


def _policy(subject: Subject) -> list[Finding]:
    if subject.config is None:
        return [not_checked(name, "no CONFIG given") for name in ("tokenizer", "weights", "Hugging Face hub")]
    inputs = _module("inputs")
    return [
        check(subject.config) for check in (inputs.check_tokenizer, inputs.check_weights, inputs.check_hub)
    ]


def _guest_hash() -> str:
    from codegym_jax.config import UserError
    from codegym_jax.envs.artefact import find_artefact

    try:
        return find_artefact().wasm_sha256[:16]
    except (UserError, OSError):
        return "missing"
