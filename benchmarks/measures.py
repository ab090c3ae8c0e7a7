"""What is measured, one function a group: it takes the state of a run and a variant, and gives named values.

A value is what one round saw; medians and ratios over rounds are `report`'s business. Units are in `UNITS`.
"""

import hashlib
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import machine
from benchmarks.tests_to_verify import Test
from benchmarks.variants import CONTROL, OURS, VARIANTS, Episode, Server, Variant, make_sandbox
from benchmarks.warehouse import Workload
from codegym_jax.envs.check import TaskBounds, verify_task
from codegym_jax.envs.env import Env
from codegym_jax.envs.pool import parallel_map
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import Task

UNITS = {
    "step_p50": "us",
    "step_p99": "us",
    "step_many": "us/step",
    "step_many_cpu": "us CPU/step",
    "steps_per_cpu_s": "steps/s",
    "cold_episode": "ms CPU",
    "cold_episode_wall": "ms",
    "workers_1": "episodes/s",
    "workers_2": "episodes/s",
    "workers_gain": "x",
    "fork": "us",
    "fork_cpu": "us CPU",
    "verify": "tasks/s",
    "verify_cpu": "ms CPU/task",
}
"""Measure -> unit of its value; `memory_<live environments>` is in MB."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything one round does."""

    fast_episodes: int = 60
    """Where a step takes microseconds."""
    http_episodes: int = 20
    snapshot_episodes: int = 2
    cold_episodes: int = 20
    cold_processes: int = 3
    """Cold episodes that start a process or fork one a step."""
    worker_episodes: int = 400
    live: tuple[int, ...] = (100, 1000)
    live_processes: int = 20
    forks: int = 20
    tests: int = 16
    """To verify."""


QUICK = Scale(
    fast_episodes=2,
    http_episodes=1,
    snapshot_episodes=1,
    cold_episodes=2,
    cold_processes=1,
    worker_episodes=20,
    live=(3, 6),
    live_processes=1,
    forks=2,
    tests=2,
)


VERIFIERS = ("oracle", "verify_task")
PROCESS_VERIFIERS = ("process_spawned", "process_forked", "process_forked_warm")


class Run:
    """What the rounds share: the workload, the running variants, the tests to verify."""

    def __init__(self, workload: Workload, tests: list[Test], scale: Scale):
        self.workload = workload
        self.tests = tests
        self.scale = scale
        self._variants: dict[str, Variant] = {}
        self._verifiers: dict[str, subprocess.Popen[str]] = {}

    def variant(self, name: str) -> Variant:
        """The running variant, started when first asked for."""
        if name not in self._variants:
            self._variants[name] = VARIANTS[name](self.workload)
        return self._variants[name]

    def verifier(self, way: str) -> subprocess.Popen[str]:
        """The running verifier that has a process per test."""
        if way not in self._verifiers:
            command = [sys.executable, "-m", "benchmarks.peers.verifier", way]
            self._verifiers[way] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
        return self._verifiers[way]

    def server_settings(self) -> dict[str, dict[str, Any]]:
        """Variant -> which event loop and HTTP parser its server runs on."""
        return {
            name: {"loop": variant.settings["loop"], "http": variant.settings["http"]}
            for name, variant in self._variants.items()
            if isinstance(variant, Server)
        }

    def close(self) -> None:
        """Ends every process that was started."""
        for variant in self._variants.values():
            variant.close()
        for verifier in self._verifiers.values():
            verifier.kill()
            verifier.communicate()


def steps(run: Run, name: str) -> dict[str, float]:
    """Warm single steps: the median and the 99th percentile by the clock, and steps per second of CPU time.

    Raises:
      AssertionError: when an observation is not that of the class in plain CPython.
    """
    variant, scale = run.variant(name), run.scale
    counts = {"snapshot_server": scale.snapshot_episodes} | dict.fromkeys(
        ("http", "http_httpx"), scale.http_episodes
    )
    times_ns: list[int] = []
    cpu_s = 0.0
    for episode_number in range(counts.get(name, scale.fast_episodes) + 1):
        episode = variant.open()
        try:
            before_s = machine.cpu_s(variant.children)
            results, episode_ns = _play(episode, run.workload.actions)
            spent_s = machine.cpu_s(variant.children) - before_s
            assert tuple(map(episode.text, results)) == run.workload.observations, name
        finally:
            episode.close()
        if episode_number > 0:  # the first warms up
            times_ns += episode_ns
            cpu_s += spent_s
    ordered = sorted(times_ns)
    return {
        "step_p50": statistics.median(ordered) / 1e3,
        "step_p99": ordered[int(0.99 * len(ordered))] / 1e3,
        "steps_per_cpu_s": len(ordered) / cpu_s,
    }


def step_many(run: Run, name: str) -> dict[str, float]:
    """All calls of an episode handed over at once: mean over its steps, median of episodes."""
    variant, actions = run.variant(name), run.workload.actions
    wall_s, cpu_s = [], []
    for _ in range(run.scale.fast_episodes + 1):
        episode = variant.open()
        try:
            assert episode.step_many is not None
            start_s, start_cpu_s = time.perf_counter(), time.process_time()
            results = episode.step_many(actions)
            wall_s.append(time.perf_counter() - start_s)
            cpu_s.append(time.process_time() - start_cpu_s)
            assert tuple(map(episode.text, results)) == run.workload.observations, name
        finally:
            episode.close()
    return {
        "step_many": statistics.median(wall_s[1:]) / len(actions) * 1e6,
        "step_many_cpu": statistics.median(cpu_s[1:]) / len(actions) * 1e6,
    }


def cold(run: Run, name: str) -> dict[str, float]:
    """Whole episodes, from a new sandbox to its end: CPU of every process that takes part, and the clock."""
    variant = run.variant(name)
    count = run.scale.cold_processes if name in ("subprocess", "snapshot_server") else run.scale.cold_episodes
    cpu_s, wall_s = [], []
    for _ in range(count + 1):
        start_s, start_cpu_s = time.perf_counter(), machine.cpu_s(variant.children)
        episode = variant.open(anew=True)
        try:
            for action in run.workload.actions:
                episode.step(action)
        finally:
            episode.close()
        wall_s.append(time.perf_counter() - start_s)
        cpu_s.append(machine.cpu_s(variant.children) - start_cpu_s)
    return {
        "cold_episode": statistics.median(cpu_s[1:]) * 1e3,
        "cold_episode_wall": statistics.median(wall_s[1:]) * 1e3,
    }


def workers(run: Run, name: str) -> dict[str, float]:
    """Whole episodes a second through `parallel_map`, with one worker process and with two.

    The variant `cpu_only` is the control: hashing, which nothing in this project can slow down, so its gain
    is what the machine gives at that moment.
    """
    function = _hash_for_a_while if name == CONTROL else _play_in_worker
    rates = {}
    for count in (1, 2):
        items = itertools.repeat(None, run.scale.worker_episodes)
        results = parallel_map(
            function, items, workers=count, initializer=_prepare_worker, initargs=(run.workload,)
        )
        for _ in range(count):  # the first results wait for the processes to start
            assert next(results) is True
        start_s = time.perf_counter()
        assert all(result is True for result in results)
        rates[count] = (run.scale.worker_episodes - count) / (time.perf_counter() - start_s)
    return {"workers_1": rates[1], "workers_2": rates[2], "workers_gain": rates[2] / rates[1]}


def memory(run: Run, name: str) -> dict[str, float]:
    """Private memory of one live environment among many, each after all its calls but `Done`.

    Environments that share a process are counted in a fresh one; a process that belongs to one environment
    counts whole.
    """
    alone = name in ("subprocess", "snapshot_server")
    values = {}
    for count in (run.scale.live_processes,) if alone else run.scale.live:
        command = [sys.executable, "-m", "benchmarks.live_memory", name, str(count)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        values[f"memory_{count}"] = json.loads(output)["bytes"] / count / 1e6
    return values


def fork(run: Run, name: str) -> dict[str, float]:
    """Another episode in the state after all calls but `Done`; both must then end alike.

    `by_image` and `by_replay` are other ways than `Env.fork`: the image of a guest's memory put into another
    guest, and a new episode that takes the same calls.
    """
    variant = run.variant({BY_IMAGE: "codegym_guest", BY_REPLAY: OURS}.get(name, name))
    actions = run.workload.actions
    wall_s, cpu_s = [], []
    for _ in range(run.scale.forks + 1):
        episode = variant.open()
        try:
            for action in actions[:-1]:
                episode.step(action)
            start_s, start_cpu_s = time.perf_counter(), time.process_time()
            if name == BY_REPLAY:
                other = variant.open()
                assert other.step_many is not None
                other.step_many(actions[:-1])
            else:
                assert episode.fork is not None
                other = episode.fork()
            wall_s.append(time.perf_counter() - start_s)
            cpu_s.append(time.process_time() - start_cpu_s)
            ends = [each.text(each.step(actions[-1])) for each in (other, episode)]
            assert ends == [run.workload.observations[-1]] * 2, name
            other.close()
        finally:
            episode.close()
    return {"fork": statistics.median(wall_s[1:]) * 1e6, "fork_cpu": statistics.median(cpu_s[1:]) * 1e6}


def verify(run: Run, name: str) -> dict[str, float]:
    """Tasks a second, one after the other.

    `oracle` plays the oracle on a fresh guest and looks at the reward, as the peers do; `verify_task` plays
    it, replays its calls on a second guest and tries a wrong answer. Both start with nothing compiled.
    """
    tests = run.tests
    if name in VERIFIERS:
        check = _oracle_passes if name == "oracle" else _is_verified
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        sandbox = make_sandbox()
        passed = sum(check(sandbox, test) for test in tests)
        seconds, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    else:
        verifier = run.verifier(name)
        assert verifier.stdin and verifier.stdout
        start_cpu_s = machine.cpu_s([verifier.pid])
        request = [[test.spec.source, test.spec.class_name, test.config_json] for test in tests]
        verifier.stdin.write(json.dumps(request) + "\n")
        reply = json.loads(verifier.stdout.readline())
        seconds, passed = reply["seconds"], reply["passed"]
        cpu_s = machine.cpu_s([verifier.pid]) - start_cpu_s
    assert passed == len(tests), f"{name} passed {passed} of {len(tests)} tests"
    return {"verify": len(tests) / seconds, "verify_cpu": cpu_s / len(tests) * 1e3}


BY_IMAGE, BY_REPLAY = "by_image", "by_replay"


@dataclass(frozen=True, slots=True)
class Group:
    """Measures that one run of one function gives."""

    function: Callable[[Run, str], dict[str, float]]
    variants: tuple[str, ...]
    rounds: int | None = None
    """At most so many, where more would only take long."""


GROUPS = {
    "step": Group(steps, tuple(VARIANTS)),
    "step_many": Group(step_many, (OURS, "native")),
    "cold": Group(cold, tuple(VARIANTS)),
    "workers": Group(workers, (OURS, CONTROL)),
    "memory": Group(memory, (OURS, "native", "in_process", "subprocess", "snapshot_server"), rounds=3),
    "fork": Group(fork, (OURS, BY_IMAGE, BY_REPLAY, "native", "in_process")),
    "verify": Group(verify, (*VERIFIERS, *PROCESS_VERIFIERS), rounds=5),
}


def _play(episode: Episode, actions: tuple[str, ...]) -> tuple[list[Any], list[int]]:
    step, clock = episode.step, time.perf_counter_ns
    results, times_ns = [], []
    for action in actions:
        start_ns = clock()
        result = step(action)
        times_ns.append(clock() - start_ns)
        results.append(result)
    return results, times_ns


_worker_sandbox: Sandbox
_worker_workload: Workload


def _prepare_worker(workload: Workload) -> None:
    global _worker_sandbox, _worker_workload
    _worker_sandbox, _worker_workload = make_sandbox(), workload


def _play_in_worker(item: None) -> bool:
    workload = _worker_workload
    env = Env(_worker_sandbox, workload.spec, workload.config_json)
    try:
        for action in workload.actions:
            env.step(action)
        return env.reward == 1.0
    finally:
        env.close()


def _hash_for_a_while(item: None) -> bool:
    digest = b""
    for _ in range(6000):
        digest = hashlib.sha256(digest).digest()
    return len(digest) == 32


def _oracle_passes(sandbox: Sandbox, test: Test) -> bool:
    env = Env(sandbox, test.spec, test.config_json)
    try:
        env.run_oracle()
        return env.reward == 1.0
    finally:
        env.close()


def _is_verified(sandbox: Sandbox, test: Test) -> bool:
    bounds = TaskBounds()
    result = verify_task(
        sandbox,
        test.spec,
        test.config_json,
        min_calls=bounds.min_calls,
        max_calls=bounds.max_calls,
        max_answer_chars=bounds.max_answer_chars,
    )
    return isinstance(result, Task)


def unit_of(measure: str) -> str:
    """The unit of a measure's value."""
    return "MB" if measure.startswith("memory_") else UNITS[measure]
