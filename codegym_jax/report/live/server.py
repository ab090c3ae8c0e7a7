"""The pages of `codegym view`: files of ours, and answers in JSON from the files of the runs. Reads only."""

import dataclasses
import importlib.resources
import ipaddress
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from time import time
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codegym_jax.config import UserError
from codegym_jax.metrics import GROUPS, METRICS
from codegym_jax.report.live import episode_query as query
from codegym_jax.report.live import episode_view
from codegym_jax.report.live.episode_index import EpisodeIndex
from codegym_jax.report.live.facts import STAGES, gather
from codegym_jax.report.live.metrics_feed import MetricsFeed

_FILES = importlib.resources.files("codegym_jax.report.live") / "static"
_LOOK_EVERY_S = 1.0
_MAX_COMPARED = 16
_PAGES = ("/", "/episodes", "/episode", "/compare")
"""Addresses of the one page, which shows by its address what was asked for."""
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Site:
    """The runs that are shown; keeps their indexes up in a thread of its own while it is open.

    Args:
      runs: run folders.
      cache: where the indexes are kept.
    """

    def __init__(self, runs: Sequence[Path], cache: Path) -> None:
        self.runs = {name: Shown(run, cache) for name, run in names(runs).items()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="episode index", daemon=True)

    def __enter__(self) -> "Site":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.is_set():
            for run in self.runs.values():
                run.follow()
            self._stop.wait(_LOOK_EVERY_S)


class Shown:
    """One run that is shown."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.index = EpisodeIndex(folder, cache)
        self.metrics = MetricsFeed(folder / "metrics.jsonl")
        self.changes = 0
        """How often something new was found in its episodes."""
        self.up_to_date = False
        """Whether all its files have been read once."""

    def follow(self) -> None:
        """Looks for new episodes once."""
        self.changes += self.index.update()
        self.up_to_date = True

    @cached_property
    def token_text(self) -> Callable[[int], str]:
        return episode_view.token_text(self.folder)


def names(runs: Sequence[Path]) -> dict[str, Path]:
    """A name for each run: that of its folder, with as much of the path before it as sets it apart."""
    paths = list(dict.fromkeys(run.resolve() for run in runs))
    for length in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        found = {"/".join(path.parts[-length:]): path for path in paths}
        if len(found) == len(paths):
            return found
    raise AssertionError("different paths have different names")


def make_app(site: Site, hosts: Sequence[str]) -> ASGIApp:
    """The application.

    Args:
      site: what it shows.
      hosts: names by which a browser may ask for it; addresses in numbers always may.
    """
    static = [Route(path, _static("index.html")) for path in _PAGES]
    static += [Route(f"/static/{name}", _static(name)) for name in _static_names() if name != "index.html"]
    answers = {
        "/api/runs": _runs,
        "/api/live": _live,
        "/api/facts": _facts,
        "/api/metrics": _metrics,
        "/api/episodes": _episodes,
        "/api/episode": _episode,
        "/api/compare": _compare,
    }
    routes = [Route(path, _answer(site, answer)) for path, answer in answers.items()]
    return Guarded(Starlette(routes=[*static, *routes]), hosts)


class Guarded:
    """Refuses what did not ask for this host by its name, and sends what keeps a browser from trusting text.

    A page from elsewhere whose name was made to lead here (DNS rebinding) asks for that name.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app, self._hosts = app, {*hosts, "localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        host = Headers(scope=scope).get("host", "")
        app = self._app if trusted(host, self._hosts) else PlainTextResponse(f"not the host {host!r}", 421)
        await app(scope, receive, send_guarded)


def trusted(host: str, known: set[str]) -> bool:
    """Whether a request that names `host`, with or without a port, may be answered."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    if name.lower() in known:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _static_names() -> list[str]:
    return sorted(entry.name for entry in _FILES.iterdir())


def _static(name: str) -> Callable[[Request], Response]:
    content = (_FILES / name).read_bytes()
    media_type = _TYPES[Path(name).suffix]
    return lambda request: Response(content, media_type=media_type)


def _answer(site: Site, answer: Callable[[Site, Mapping[str, str]], Any]) -> Callable[[Request], Response]:
    """An answer as JSON; ASCII, since text of tools may hold what UTF-8 cannot."""

    def respond(request: Request) -> Response:
        try:
            value, status = answer(site, request.query_params), 200
        except (UserError, episode_view.Changed) as error:
            value, status = {"error": str(error)}, 400 if isinstance(error, UserError) else 409
        return Response(json.dumps(value, allow_nan=False), status, media_type="application/json")

    return respond


def _run(site: Site, asked: Mapping[str, str]) -> Shown:
    name = asked.get("run", "")
    if name not in site.runs:
        raise UserError(f"no run {name!r}; there is {', '.join(site.runs)}")
    return site.runs[name]


def _runs(site: Site, asked: Mapping[str, str]) -> Any:
    metrics = [metric._asdict() | {"name": name} for name, metric in METRICS.items()]
    return {
        "runs": list(site.runs),
        "metrics": metrics,
        "groups": GROUPS,
        "stages": STAGES,
        "page": query.PAGE,
    }


def _live(site: Site, asked: Mapping[str, str]) -> Any:
    """What has changed: a few numbers a run."""
    return {name: _state(run) for name, run in site.runs.items()}


def _state(run: Shown) -> dict[str, Any]:
    rows = run.metrics.since("", 0)
    with run.index.connect() as connection:
        episodes = connection.execute("SELECT COUNT(*) FROM episodes").fetchone()[0]
        damaged = connection.execute("SELECT TOTAL(damaged) FROM files").fetchone()[0]
    return {
        "generation": rows.generation,
        "rows": len(rows.rows),
        "episodes": episodes,
        "damaged": int(damaged),
        "changes": run.changes,
        "up_to_date": run.up_to_date,
    }


def _facts(site: Site, asked: Mapping[str, str]) -> Any:
    run = _run(site, asked)
    return _plain(dataclasses.asdict(gather(run.folder, run.metrics.all(), now_s=time())))


def _plain(value: Any) -> Any:
    """The value with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _metrics(site: Site, asked: Mapping[str, str]) -> Any:
    try:
        count = int(asked.get("count", "0"))
    except ValueError as error:
        raise UserError(f"count must be a number, got {asked['count']!r}") from error
    return _plain(_run(site, asked).metrics.since(asked.get("generation", ""), max(count, 0))._asdict())


def _episodes(site: Site, asked: Mapping[str, str]) -> Any:
    run, wanted, order = _run(site, asked), query.read_filter(asked), query.read_order(asked)
    number = asked.get("page") or "1"
    if not number.isdecimal():
        raise UserError(f"page must be a number, got {number!r}")
    with run.index.connect() as connection:
        return {
            "total": query.count(connection, wanted),
            "episodes": query.page(connection, wanted, order, int(number)),
            "facets": query.facets(connection, wanted),
        }


def _episode(site: Site, asked: Mapping[str, str]) -> Any:
    run, wanted, order = _run(site, asked), query.read_filter(asked), query.read_order(asked)
    episode = asked.get("id", "")
    with run.index.connect() as connection:
        found = query.locate(connection, episode)
        if found is None:
            raise UserError(f"no episode {episode!r} in this run, or not read yet")
        around = query.neighbors(connection, wanted, order, episode)
        siblings = query.attempts(connection, episode)
    row = episode_view.read_line(run.folder, found)
    return _plain(
        {
            key: found[key]
            for key in ("stage", "step", "split", "mode", "attempt", "version", "reward", "stop", "tokens")
        }
        | {"id": episode, "task": row["task_id"], "env": found["env"], "prompt": row.get("prompt", "")}
        | {"turns": episode_view.turns(row), "stretches": episode_view.tokens(row, run.token_text)}
        | {"around": around, "attempts": siblings}
    )


def _compare(site: Site, asked: Mapping[str, str]) -> Any:
    """Episodes side by side: those that `ids` names, else the attempts of the group of `id`."""
    run = _run(site, asked)
    with run.index.connect() as connection:
        siblings = query.attempts(connection, asked.get("id", ""))
        ids = [name for name in asked.get("ids", "").split(",") if name] or [
            one["id"] for one in siblings["group"]
        ]
        found = {name: query.locate(connection, name) for name in ids[:_MAX_COMPARED]}
    known = {name: row for name, row in found.items() if row is not None}
    rows = [episode_view.read_line(run.folder, row) for row in known.values()]
    columns = [
        {
            key: row[key]
            for key in ("stage", "step", "split", "mode", "attempt", "reward", "stop", "tokens", "env")
        }
        | {"id": name, "turns": episode_view.turns(line), "differs": differs}
        for (name, row), line, differs in zip(
            known.items(), rows, episode_view.first_difference(rows), strict=True
        )
    ]
    return _plain({"columns": columns, "attempts": siblings, "left_out": len(ids) - len(columns)})
