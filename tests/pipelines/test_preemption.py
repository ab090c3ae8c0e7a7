"""A run that is told to stop, at any moments, loses nothing: it stops in good order and ends the same.

`make test` stops one at two moments, `make test-slow` at ten random ones. In the end the same bytes must be
there as in `test_fault_injection`, and the same task set; besides, no step and no environment is made twice.
"""

import dataclasses
import json
import math
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import pytest

from codegym_jax.cli import _parser, main
from codegym_jax.cli.host import cache_dir
from codegym_jax.config import (
    CurriculumConfig,
    DataConfig,
    ExitCode,
    MeshConfig,
    RunConfig,
    SamplingMeshConfig,
    SynthesisConfig,
    TrainConfig,
    to_json,
)
from codegym_jax.metrics import read_metrics
from codegym_jax.pipelines import preemption
from codegym_jax.pipelines.preemption import NOTICE, Stopped, in_good_order
from codegym_jax.pipelines.processes import Processes
from codegym_jax.pipelines.saves import Saves
from codegym_jax.rollout.episode_log import digest
from codegym_jax.trainer.checkpoint import Checkpointer
from tests.pipelines import dice
from tests.pipelines.lives import ROOT, Server, log_path
from tests.pipelines.mortal import AFTER, BEFORE, CHANGE, PLACES, Fault
from tests.pipelines.preempted import ORDER, REVERIFY, SYNTH, CommandLife, Outcome
from tests.pipelines.test_episode_source import STEPS, make_source
from tests.pipelines.test_fault_injection import files_of, rows_of
from tests.pipelines.test_links import COUNT, Star

SHELF = ROOT / "tests" / "fixtures" / "shelf"
SEED = 7
MADE_ONCE = ((SYNTH, "item"), ("sft", "row"), ("train", "row"))
"""Stage and place of what is done once, however often the run stops: those stages keep it."""

TRAIN = TrainConfig(steps=8, episodes_per_update=4, rows_per_batch=4, checkpoint_every=4)
VARIANTS = {
    "in_turn": {"train": TRAIN, "curriculum": CurriculumConfig(prefer_learnable=0.5)},
    "ahead": {
        "train": dataclasses.replace(TRAIN, max_off_policy_steps=1),
        "curriculum": CurriculumConfig(prefer_learnable=0.5),
    },
}
KINDS = (
    (SYNTH, "item"),
    ("sft", "update"),
    ("before", "decode"),
    ("train", "decode"),
    ("train", "update"),
    ("train", "tool"),
    ("train", "row"),
    ("train", CHANGE),
    ("after", "decode"),
    (REVERIFY, "advance"),
)
"""Stage and place of the ten moments: synthesis, supervised learning, evaluations, playing, updates,
checkpoints, and what lies between."""


def write_experiment(path: pathlib.Path, config: RunConfig) -> pathlib.Path:
    """An experiment file of a config."""
    path.write_text(
        "import json\n\nfrom codegym_jax.config import RunConfig, from_dict\n\n\n"
        f"def config() -> RunConfig:\n    return from_dict(json.loads({to_json(config)!r}))\n"
    )
    return path


class Commands:
    """Runs in folders of their own, each by the real command, again and again.

    Args:
      config: but for what the variants are.
      folder: of all.
      task_set: that the runs are given; None: each makes its own.
    """

    def __init__(self, config: RunConfig, folder: pathlib.Path, task_set: pathlib.Path | None = None) -> None:
        self._config, self._folder, self._task_set = config, folder, task_set
        self._whole: dict[str, Outcome] = {}
        self._server = Server("tests.pipelines.preempted", folder / "preempted.log")

    def folder(self, name: str) -> pathlib.Path:
        """Of a run."""
        return self._folder / name

    def live(self, name: str, variant: str, fault: Fault | None = None, *, to_all: bool = False) -> Outcome:
        """One life of a run."""
        experiment = write_experiment(
            self._folder / f"{variant}.py", dataclasses.replace(self._config, **VARIANTS[variant])
        )
        if self._task_set and not self.folder(name).exists():
            shutil.copytree(self._task_set, self.folder(name) / "task_set")
        arguments = ["run", str(experiment), "--run", str(self.folder(name))]
        life = CommandLife(arguments, str(self.folder(name)), str(self._cache(name)), fault, to_all)
        answer = self._server.live(life)
        said = log_path(self.folder(name)).read_text()
        assert answer["ended"], f"{name}, {fault}: {answer}\n{said[-4000:]}"
        return Outcome(**answer["ended"])

    def _cache(self, name: str) -> pathlib.Path:
        """Of this run alone, with the guests that are compiled on this machine."""
        cache = self._folder / f"{name}.cache"
        if not cache.exists():
            (cache / "codegym-jax").mkdir(parents=True)
            for guest in cache_dir().glob("*.cwasm"):
                shutil.copy(guest, cache / "codegym-jax")
        return cache

    def whole(self, variant: str) -> Outcome:
        """The run of a variant that is never stopped, in the folder of its name; lived once."""
        if variant not in self._whole:
            self._whole[variant] = self.live(variant, variant)
            assert self._whole[variant].code in (ExitCode.DONE, ExitCode.WRONG)
        return self._whole[variant]

    def calls(self, variant: str, stage: str, place: str) -> int:
        """How often the uninterrupted run comes by."""
        return {(stage, place): count for stage, place, count in self.whole(variant).calls}[stage, place]

    def stop(self, name: str, variant: str, faults: list[Fault], *, to_all: bool = False) -> None:
        """Lives a run to its end, stopped at one fault after the other; compares it with the whole one."""
        made: Counter[tuple[str, str]] = Counter()
        for fault in [*faults, None]:
            outcome = self.live(name, variant, fault, to_all=to_all)
            said = log_path(self.folder(name)).read_text().splitlines()
            if fault:
                assert outcome.told, f"not reached: {fault}"
                assert outcome.code == ExitCode.RESUMABLE, fault
                assert said[-1].startswith("codegym run: stopped"), said[-1]
                assert said[-1].endswith("the same command resumes"), said[-1]
                assert not [line for line in said if "workers failed" in line]
                self._require_word(name, fault, said[-1])
            made.update({(stage, place): count for stage, place, count in outcome.calls})
        self._require_same_end(name, variant, outcome)
        assert outcome.code != ExitCode.DONE or not (self.folder(name) / "ended.json").exists()
        whole = {(stage, place): count for stage, place, count in self.whole(variant).calls}
        for done in MADE_ONCE:
            assert made[done] == whole.get(done, 0), f"{name}: {done} again"

    def _require_word(self, name: str, fault: Fault, said: str) -> None:
        """What the command said last is left in the run, as soon as that is there."""
        word = json.loads((self.folder(name) / "ended.json").read_text())
        assert (word["command"], word["code"]) == ("run", ExitCode.RESUMABLE), fault
        assert f"codegym run: {word['why']}" == said

    def _require_same_end(self, name: str, variant: str, outcome: Outcome) -> None:
        whole = self.whole(variant)
        assert outcome.code == whole.code, name
        assert outcome.checkpoints.items() <= whole.checkpoints.items(), name
        assert outcome.checkpoints["train"] == whole.checkpoints["train"], name
        folder, expected = self.folder(name), self.folder(variant)
        assert rows_of(folder) == rows_of(expected), name
        files, others = files_of(folder) | set_of(folder), files_of(expected) | set_of(expected)
        assert files.keys() == others.keys(), name
        assert not [path for path in files if files[path] != others[path]], name

    def close(self) -> None:
        """Ends the server."""
        self._server.close()


def set_of(folder: pathlib.Path) -> dict[str, bytes]:
    """The files of the run's task set, and of its tokenizer."""
    paths = [path for path in (folder / "task_set").rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in [*paths, folder / "tokenizer.json"]}


@pytest.fixture(scope="module")
def tiny_commands(tiny_config, tiny_task_set, tmp_path_factory) -> Iterator[Commands]:
    """On a task set that is there."""
    commands = Commands(tiny_config, tmp_path_factory.mktemp("tiny"), tiny_task_set)
    yield commands
    commands.close()


@pytest.fixture(scope="module")
def commands(tiny_config, tmp_path_factory) -> Iterator[Commands]:
    """From the problems on."""
    config = dataclasses.replace(
        tiny_config,
        synthesis=SynthesisConfig(
            sources=(str(SHELF),),
            tasks_per_environment=20,
            learnable_environments=12,
            tasks_per_learnable_environment=12,
            workers=1,
        ),
        data=DataConfig(heldout_environments=1, max_vocabulary=300),
        rollout=dataclasses.replace(tiny_config.rollout, max_tokens=160),
    )
    commands = Commands(config, tmp_path_factory.mktemp("commands"))
    yield commands
    commands.close()


def test_a_run_that_is_stopped_at_two_moments_ends_the_same(tiny_commands):
    """While the policy plays, so that the step is abandoned, and while a checkpoint is written."""
    points = [
        Fault("train", "tool", BEFORE, tiny_commands.calls("in_turn", "train", "tool") // 2),
        Fault("train", CHANGE, BEFORE, 2),
    ]
    tiny_commands.stop("stopped", "in_turn", points)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_is_stopped_at_five_random_moments_ends_the_same(commands, variant, capsys):
    """Ten of both variants, early enough to come by in what is left of the run after the ones before."""
    rng = random.Random(f"{SEED} {variant}")
    faults = []
    for stage, place in KINDS[list(VARIANTS).index(variant) :: len(VARIANTS)]:
        moments = [each for each in (BEFORE, AFTER) if place in PLACES and each in PLACES[place].moments]
        call = rng.randint(1, max(1, commands.calls(variant, stage, place) // 8))
        faults.append(Fault(stage, place, rng.choice(moments or [BEFORE]), call))
    faults.sort(key=lambda fault: ORDER.index(fault.stage))
    commands.stop(f"{variant}_stopped", variant, faults)
    with capsys.disabled():
        print(f"\n{variant}: identical after {[dataclasses.astuple(fault) for fault in faults]}", end="")


@pytest.mark.slow
def test_a_signal_to_all_processes_of_the_group_is_heeded_by_the_command_alone(commands):
    """While its worker processes make environments, and while they derive episodes again."""
    faults = [
        Fault(stage, place, BEFORE, max(1, commands.calls("in_turn", stage, place) // 3))
        for stage, place in ((SYNTH, "item"), (REVERIFY, "advance"))
    ]
    commands.stop("group_stopped", "in_turn", faults, to_all=True)


class Pair:
    """A run of two processes, each by the real command; both on one folder.

    Args:
      config: of the run.
      task_set: that it is given.
      folder: of the run; other files of it go beside it.
    """

    def __init__(self, config: RunConfig, task_set: pathlib.Path, folder: pathlib.Path) -> None:
        self.folder = folder
        self._experiment = write_experiment(folder.with_suffix(".py"), config)
        shutil.copytree(task_set, folder / "task_set")

    def start(self, command: str = "run") -> list[subprocess.Popen[str]]:
        """Both of them."""
        with socket.create_server(("localhost", 0)) as free:
            address = f"localhost:{free.getsockname()[1]}"
        program = [sys.executable, "-m", "codegym_jax.cli", command, str(self._experiment)]
        program += ["--run", str(self.folder), "--coordinator", address, "--process-count", "2"]
        cache = {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
        return [
            subprocess.Popen(
                [*program, "--process-id", str(index)],
                cwd=ROOT,
                env=os.environ | cache,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(2)
        ]

    def finish(self, command: str = "run") -> str:
        """To the end; the hash of the parameters."""
        for process in self.start(command):
            _, said = process.communicate()
            assert process.returncode == 0, said
        return json.loads((self.folder / "result.json").read_text())["params_hash"]


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "variant"), [(0, "ahead"), (1, "in_turn")])
def test_when_one_process_is_told_to_stop_both_do_and_the_same_command_resumes(
    tiny_config, tiny_task_set, tmp_path, victim, variant
):
    config = dataclasses.replace(
        tiny_config,
        mesh=MeshConfig(data=1, fsdp=2),
        sampling_mesh=SamplingMeshConfig(data=-1, fsdp=1, tensor=1),
        **VARIANTS[variant],
    )
    whole, stopped = (Pair(config, tiny_task_set, tmp_path / name) for name in ("whole", "stopped"))
    expected = whole.finish()
    processes = stopped.start()
    metrics = stopped.folder / "metrics.jsonl"
    while sum(row["stage"] == "train" for row in read_metrics(metrics)) < 2:
        assert [process.poll() for process in processes] == [None, None], "too late to stop one"
        time.sleep(0.01)
    processes[victim].send_signal(signal.SIGTERM)
    for process in processes:
        _, said = process.communicate()
        assert process.returncode == ExitCode.RESUMABLE, said
        assert "codegym run: stopped: train: step " in said
    assert stopped.finish() == expected
    assert rows_of(stopped.folder) == rows_of(whole.folder)
    assert files_of(stopped.folder) == files_of(whole.folder)


ENDLESS = """
import hashlib, threading
from codegym_jax.pipelines import preemption

with preemption.in_good_order():
    print("ready", flush=True)
    {work}
"""
WORK = {
    "in Python": "threading.Event().wait()",
    "where no handler can run": 'hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)',
}


def endless(work: str, grace_s: float = 3600.0) -> subprocess.Popen[str]:
    """A process that comes to no safe point, once it can be told to stop."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS.format(work=WORK[work])],
        cwd=ROOT,
        env=os.environ | {preemption.GRACE_VARIABLE: str(grace_s)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("work", WORK)
def test_a_second_signal_ends_the_process_at_once(work):
    with endless(work) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stderr and "SIGTERM: stopping at the next safe point" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    assert code in (-signal.SIGTERM, 128 + signal.SIGTERM)


@pytest.mark.parametrize("work", WORK)
def test_when_no_safe_point_comes_within_the_grace_period_the_process_ends_as_resumable(work):
    with endless(work, grace_s=0.2) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait() == ExitCode.RESUMABLE
        assert process.stderr and "no safe point came within 0.2 s" in process.stderr.read()


def test_a_launcher_may_give_another_grace_period(monkeypatch, capsys):
    monkeypatch.setenv(preemption.GRACE_VARIABLE, "100")
    with in_good_order():
        signal.raise_signal(signal.SIGTERM)
        assert preemption.GRACE_S < NOTICE.left_s() <= 100
    monkeypatch.setenv(preemption.GRACE_VARIABLE, "")
    with in_good_order():
        assert NOTICE.grace_s == preemption.GRACE_S
    for wrong in ("soon", "0", "-3", "inf", "nan"):
        monkeypatch.setenv(preemption.GRACE_VARIABLE, wrong)
        assert main(["run", "no/such.py"]) == ExitCode.USER
        assert f"CODEGYM_GRACE_S must be a number of seconds, got {wrong!r}" in capsys.readouterr().err


def test_ctrl_c_is_noted_first_and_then_interrupts():
    with in_good_order():
        signal.raise_signal(signal.SIGINT)
        assert preemption.requested()
        assert preemption.exit_code() == ExitCode.INTERRUPTED
        assert NOTICE.left_s() == math.inf, "a person can wait"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_there_within_and_as_they_were_without():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Stopped, match="all is kept"), in_good_order():
        preemption.check("not yet")
        signal.raise_signal(signal.SIGTERM)
        assert preemption.exit_code() == ExitCode.RESUMABLE
        assert 0 < NOTICE.left_s() <= preemption.GRACE_S
        with preemption.keeping("said by the innermost"):
            preemption.check("all is kept")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert not preemption.requested()
    preemption.check()


def test_an_ignored_interrupt_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with in_good_order():
            signal.raise_signal(signal.SIGINT)
            assert not preemption.requested()
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_installs_nothing():
    seen = []

    def work() -> None:
        with in_good_order():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_a_signal_to_a_forked_child_is_the_childs():
    program = """
import os, signal
from codegym_jax.pipelines import preemption

with preemption.in_good_order():
    child = os.fork()
    if not child:
        signal.pause()
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), preemption.requested())
"""
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout == f"{-signal.SIGTERM} False\n"


def test_the_clock_stands_still_while_a_checkpoint_is_written():
    with in_good_order():
        with NOTICE.saving():
            signal.raise_signal(signal.SIGTERM)
            assert NOTICE.left_s() == math.inf
        assert 0 < NOTICE.left_s() < math.inf


def test_all_processes_stop_where_one_is_to():
    star = Star()
    processes = [Processes(links.index, links.count, links) for links in star.links]

    def go(one: Processes) -> str:
        one.stop_if(False, "stop")
        with pytest.raises(Stopped):
            one.stop_if(one.index == 1, "stop")
        with pytest.raises(Stopped) as stop:
            one.once(lambda: preemption_of("2 of 3 are kept"))
        return str(stop.value)

    try:
        assert list(star.pool.map(go, processes)) == ["2 of 3 are kept"] * COUNT
    finally:
        star.close()


def preemption_of(kept: str) -> None:
    """Stops as the work of one process does."""
    raise Stopped(kept)


@pytest.mark.parametrize("first", range(COUNT))
def test_who_is_told_to_stop_tells_all_others_once(first):
    star = Star()
    try:
        star.links[first].notify()
        for index in set(range(COUNT)) - {first}:
            assert star.notices[index].get(timeout=60).startswith(f"process {first} of {COUNT}")
        star.links[(first + 1) % COUNT].notify()
        star.gather([b""] * COUNT)
        assert all(notices.empty() for notices in star.notices)
    finally:
        star.close()


@pytest.mark.parametrize("dynamic", [False, True])
def test_an_abandoned_step_leaves_no_trace(tmp_path, dynamic):
    """The source is that of before: the step before can be saved, and a resumed one plays the same."""
    stop = threading.Event()

    def play(params, requests, version):
        if stop.is_set():
            raise Stopped
        return dice.play(params, requests, version)

    source = make_source(tmp_path / "stopped", dynamic=dynamic, play=play)
    source.next(1, "start", 0)
    state = source.get_state()
    stop.set()
    with pytest.raises(Stopped):
        source.next(2, "later", 1)
    assert source.get_state() == state
    whole, resumed = (make_source(tmp_path / name, dynamic=dynamic) for name in ("whole", "stopped"))
    whole.next(1, "start", 0)
    resumed.set_state(state)
    assert digest(resumed.next(2, "later", 1).played) == digest(whole.next(2, "later", 1).played)
    assert resumed.get_state() == whole.get_state()


def test_the_last_whole_step_is_saved_unless_it_is_nothing_without_what_was_abandoned(tmp_path):
    abandoned = False

    def snapshot(step):
        if abandoned:
            raise Stopped
        return {"step": jnp.asarray(step)}, {"step": step}

    checkpoints = Checkpointer(tmp_path)
    saves = Saves("train", STEPS, checkpoints, snapshot, step=0)
    with pytest.raises(Stopped, match=r"train: step 3 of 8 is saved$"), saves.stops_after(3):
        raise Stopped
    abandoned = True
    with pytest.raises(Stopped, match=r"train: step 3 of 8 is saved, 4 is made again$"), saves.stops_after(4):
        raise Stopped
    _, extra = checkpoints.restore({"step": jnp.asarray(0)})
    assert extra == {"step": 3}


def test_help_names_every_exit_code():
    said = _parser().format_help()
    for code in ExitCode:
        assert f"\n{code.value:4d}  " in said


def test_compiled_programs_lie_where_jax_is_told_to():
    program = "import jax; from codegym_jax.cli.host import with_jax; with_jax(); "
    program += "print(jax.config.jax_compilation_cache_dir)"
    told = {"JAX_COMPILATION_CACHE_DIR": "gs://bucket/compile_cache"}
    plain = {name: value for name, value in os.environ.items() if name not in told}
    for environment, expected in (
        (plain | told, "gs://bucket/compile_cache"),
        (plain, str(cache_dir() / "xla")),
    ):
        said = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.strip() == expected
