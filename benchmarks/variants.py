"""The ways to run one environment that are compared: ours, and its peers, behind one small interface.

A variant opens episodes of the workload's task. What is timed is `Episode.step`; turning its result into the
text that all variants must agree on is `Episode.text`, outside the clock.
"""

import copy
import http.client
import importlib.util
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.peers.native_class import construct, load_class
from benchmarks.warehouse import Workload
from codegym_jax.config import SandboxConfig
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.env import Env
from codegym_jax.envs.fused import ModuleRuntime
from codegym_jax.envs.guest import Guest
from codegym_jax.envs.sandbox import Sandbox

OURS = "codegym"
CONTROL = "cpu_only"
"""Uses the machine and nothing of this project."""
_ROOT = pathlib.Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Episode:
    """One live episode.

    Attributes:
      step: takes an action; its result is the variant's own.
      text: the observation in such a result.
      close: frees whatever the episode holds.
      step_many: takes actions in one call; None where the variant has no such thing.
      fork: another episode in the same state; None where the variant has no such thing.
    """

    step: Callable[[str], Any]
    text: Callable[[Any], str]
    close: Callable[[], None]
    step_many: Callable[[Sequence[str]], list[Any]] | None = None
    fork: Callable[[], "Episode"] | None = None


class Variant(Protocol):
    """One way to run the workload."""

    def open(self, anew: bool = False) -> Episode:
        """A fresh episode; `anew` keeps nothing of earlier ones where that costs isolation."""
        ...

    @property
    def children(self) -> list[int]:
        """Process ids that it started and that live."""
        ...

    def close(self) -> None:
        """Ends whatever the variant started."""
        ...


class Codegym:
    """`Env` on a guest in this process: the whole public path. `artefact` names the guest."""

    def __init__(self, workload: Workload, artefact: str = "guest"):
        self.sandbox = make_sandbox(artefact)
        self._workload = workload

    def open(self, anew: bool = False) -> Episode:
        return _episode_of(Env(self.sandbox, self._workload.spec, self._workload.config_json))

    @property
    def children(self) -> list[int]:
        return []

    def close(self) -> None:
        pass


class BareGuest:
    """`Guest` without the rules of an episode: what the host's checks cost shows beside `Codegym`."""

    def __init__(self, workload: Workload, artefact: str = "guest"):
        self._sandbox = make_sandbox(artefact)
        self._workload = workload

    def open(self, anew: bool = False) -> Episode:
        spec = self._workload.spec
        guest = self._sandbox.guest()
        guest.load(self._sandbox.compile(spec.source), spec.class_name, self._workload.config_json)
        return self._episode_of(guest)

    def _episode_of(self, guest: Guest) -> Episode:
        def fork() -> Episode:
            image, other = guest.snapshot(), self._sandbox.guest()
            assert image is not None
            other.restore(image)
            return self._episode_of(other)

        return Episode(guest.step, lambda result: result[1], guest.close, fork=fork)

    @property
    def children(self) -> list[int]:
        return []

    def close(self) -> None:
        pass


class InProcess:
    """The class in this interpreter: no limits, no isolation."""

    def __init__(self, workload: Workload):
        self._workload = workload

    def open(self, anew: bool = False) -> Episode:
        spec = self._workload.spec
        return _native_episode(
            construct(load_class(spec.source, spec.class_name), self._workload.config_json)
        )

    @property
    def children(self) -> list[int]:
        return []

    def close(self) -> None:
        pass


class Subprocess:
    """A Python process, steps over its pipes; it is kept for the next episode unless that wants a new one."""

    def __init__(self, workload: Workload):
        self._workload = workload
        self._idle: list[subprocess.Popen[str]] = []
        self._busy: list[subprocess.Popen[str]] = []

    def open(self, anew: bool = False) -> Episode:
        child = self._idle.pop() if self._idle and not anew else self._start()
        self._busy.append(child)
        assert child.stdin and child.stdout
        write, read = child.stdin.write, child.stdout.readline

        def request(*parts: str) -> str:
            write(json.dumps(parts) + "\n")
            return json.loads(read())

        def close() -> None:
            self._busy.remove(child)
            if anew:
                _end(child)
            else:
                self._idle.append(child)

        spec = self._workload.spec
        request("load", spec.source, spec.class_name, self._workload.config_json)
        return Episode(lambda action: request("step", action), lambda result: result, close)

    @property
    def children(self) -> list[int]:
        return [child.pid for child in (*self._idle, *self._busy)]

    def close(self) -> None:
        for child in (*self._idle, *self._busy):
            _end(child)
        self._idle.clear()
        self._busy.clear()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.pipe_worker"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )


class Server:
    """A FastAPI server of its own process on the loopback interface, one kept-alive connection to it."""

    def __init__(self, workload: Workload, module: str, client: str):
        """Starts the server.

        Args:
          module: makes the application.
          client: "http.client" or "httpx".
        """
        self._workload = workload
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.serving", module],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._child.stdout
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"{module}: the server does not start")
        self.settings = json.loads(line)
        self._post, self._disconnect = _CLIENTS[client](self.settings["port"])

    def open(self, anew: bool = False) -> Episode:
        spec, post = self._workload.spec, self._post
        start = {"source": spec.source, "class_name": spec.class_name, "config": self._workload.config_json}
        session = post("/start", start)["session"]
        return Episode(
            lambda action: post("/step", {"session": session, "action": action}),
            lambda result: result["observation"],
            lambda: post("/stop", {"session": session}),
        )

    @property
    def children(self) -> list[int]:
        return [self._child.pid]

    def close(self) -> None:
        self._disconnect()
        _end(self._child)


_SNAPSHOT, _HTTP = "benchmarks.peers.snapshot_server", "benchmarks.peers.http_server"

VARIANTS: dict[str, Callable[[Workload], Variant]] = {
    OURS: Codegym,
    "codegym_guest": BareGuest,
    "native": lambda workload: Codegym(workload, "native"),
    "native_guest": lambda workload: BareGuest(workload, "native"),
    "in_process": InProcess,
    "subprocess": Subprocess,
    "http": lambda workload: Server(workload, _HTTP, "http.client"),
    "http_httpx": lambda workload: Server(workload, _HTTP, "httpx"),
    "snapshot_server": lambda workload: Server(workload, _SNAPSHOT, "http.client"),
}

PACKAGES = {
    "http": ("fastapi", "uvicorn"),
    "http_httpx": ("fastapi", "uvicorn", "httpx"),
    "snapshot_server": ("fastapi", "uvicorn", "dill"),
}
"""What a variant needs from the extra `bench`."""


def missing_packages(names: Sequence[str]) -> list[str]:
    """Packages of the extra `bench` that these variants need and that are not installed."""
    needed = {package for name in names for package in PACKAGES.get(name, ())}
    return sorted(package for package in needed if importlib.util.find_spec(package) is None)


def make_sandbox(artefact: str = "guest") -> Sandbox:
    """A sandbox of one of the artefacts, with its own memory of compiled programs."""
    limits = SandboxConfig()
    return Sandbox(limits, runtime=ModuleRuntime(limits, None, find_artefact(artefact)))


def _episode_of(env: Env) -> Episode:
    return Episode(
        env.step,
        lambda result: env.verdict if result.finished else result.observation,
        env.close,
        env.step_many,
        lambda: _episode_of(env.fork()),
    )


def _native_episode(episode: Any) -> Episode:
    return Episode(
        episode.step,
        lambda result: result[1],
        lambda: None,
        fork=lambda: _native_episode(copy.deepcopy(episode)),
    )


def _connect_http(port: int) -> tuple[Callable[[str, Any], Any], Callable[[], None]]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"content-type": "application/json"}

    def post(path: str, body: Any) -> Any:
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: status {response.status}: {content[:500]!r}")
        return json.loads(content)

    return post, connection.close


def _connect_httpx(port: int) -> tuple[Callable[[str, Any], Any], Callable[[], None]]:
    import httpx

    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0)

    def post(path: str, body: Any) -> Any:
        return client.post(path, json=body).raise_for_status().json()

    return post, client.close


_CLIENTS = {"http.client": _connect_http, "httpx": _connect_httpx}


def _end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
