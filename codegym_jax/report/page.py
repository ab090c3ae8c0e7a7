"""Writes `report.html`: one file that needs no network, runs no script, and trusts no text it shows."""

import importlib.metadata
import importlib.resources
import json
import platform
from pathlib import Path

import jinja2
from markupsafe import Markup

from codegym_jax.data.atomic import write_atomically
from codegym_jax.report import figures, timeline, transcripts
from codegym_jax.report.out_of_domain import out_of_domain
from codegym_jax.report.run_folder import RunFolder, read_run

_PACKAGES = (
    "codegym-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "wasmtime",
    "numpy",
)


def write_report(run_folder: Path) -> Path:
    """Writes `report.html` into the run folder, whole or not at all, and returns its path.

    A run in progress has a report too: each section then says what is not there yet.

    Raises:
      ReportError: there is no such folder, or one of its files is damaged.
    """
    page = render(read_run(run_folder))
    path = run_folder / "report.html"
    write_atomically(path, page)
    return path


def render(run: RunFolder) -> str:
    """The page as text. Everything from the run is escaped by the template, charts excepted: they escape."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    main, more = figures.curves(run)
    return environment.from_string(_resource("page.html.j2")).render(
        style=Markup(_resource("page.css")),  # ours, so it may stand unescaped
        run=run,
        progress=figures.progress(run),
        facts=figures.facts(run),
        accepted=figures.accepted(run),
        splits=figures.headline(run),
        scores=out_of_domain(run),
        curves=main,
        diagnostics=more,
        alarms=figures.alarms(run),
        environments=figures.environments(run),
        rejections=figures.rejections(run),
        stages=timeline.stage_times(run),
        timeline=timeline.timeline(run),
        chosen=transcripts.select(run.episodes),
        config_text=json.dumps(run.config, indent=2, ensure_ascii=False),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    """Of the process that writes the page."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional one, or a checkout that is not installed
    return found


def _resource(name: str) -> str:
    return (importlib.resources.files("codegym_jax.report") / name).read_text(encoding="utf-8")
