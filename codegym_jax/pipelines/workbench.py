"""From a config and a run folder to the parts that every loop works with: wiring, no learning."""

import dataclasses
import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from time import monotonic
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from codegym_jax import config as config_module
from codegym_jax.config import ConfigError, RunConfig, UserError
from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.chat import Renderer, special_tokens, training_texts
from codegym_jax.data.splits import TRAIN
from codegym_jax.data.task_set import TaskSet, TaskSetError
from codegym_jax.data.tokenizer import Tokenizer, train_bpe
from codegym_jax.data.working_copy import WorkingCopy, checkpoint_place, find_copy
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.env import Env, HostFailure
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.metrics import MetricsWriter, Sink, stage_rows
from codegym_jax.models import layers_layout, local_view, sharding
from codegym_jax.models.transformer import Transformer
from codegym_jax.models.weights import Weights, open_weights
from codegym_jax.pipelines.console import say
from codegym_jax.pipelines.episode_rules import episode_limits, run_renderer, tokenizer_path
from codegym_jax.pipelines.policy import compute_of, find_preset
from codegym_jax.pipelines.preemption import requested
from codegym_jax.pipelines.processes import ALONE, NoMetrics, Processes
from codegym_jax.pipelines.profiling import Profile
from codegym_jax.records import EnvSpec, Episode, Task
from codegym_jax.rollout import exchange
from codegym_jax.rollout.agent import Agent, EpisodeRequest
from codegym_jax.rollout.device_time import TimedSampler
from codegym_jax.rollout.episode_log import write_episodes
from codegym_jax.rollout.generate import Sampler
from codegym_jax.rollout.transcript import transcripts
from codegym_jax.trainer.checkpoint import Checkpointer
from codegym_jax.trainer.state import TrainState, init_state

Batches = TypeVar("Batches")

_FREE = ("mesh.", "sampling_mesh.", "train.keep_")
"""Settings of where a run computes and what it keeps, not of what it learns: resumed, it may change them."""


def open_run(config: RunConfig, folder: pathlib.Path, processes: Processes = ALONE) -> None:
    """Makes the run folder, or checks that it belongs to the same config, so that a run can be resumed.

    The devices may differ, and how they are laid out; the folder then keeps the layout given last.

    Raises:
      ConfigError: when the folder holds a run of another config; names the settings that differ.
      ProcessesDisagree: when the processes of the run do not have the same config.
    """
    text = config_module.to_json(config)
    processes.agree({"the config": config_module.digest(config)})
    processes.once(lambda: _adopt_config(text, folder))


def _adopt_config(text: str, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    if path.exists():
        saved = json.loads(path.read_text())
        different = [line for line in _differences(saved, json.loads(text)) if not line.startswith(_FREE)]
        if different:
            raise ConfigError(
                f"{folder} holds a run with other settings ({', '.join(different)}); "
                "give another folder with --run, or the same settings to resume"
            )
        if saved == json.loads(text):
            return
    write_atomically(path, text)


def check_task_set(folder: pathlib.Path) -> None:
    """Checks that a run can be trained on a task set, whoever made it.

    Raises:
      ConfigError: when it is missing or damaged, was verified on another guest, or has no training tasks.
    """
    try:
        task_set = TaskSet.open(folder)
    except TaskSetError as error:
        raise ConfigError(f"data.task_set: {error}") from error
    guest_hash, ours = task_set.manifest.get("guest_hash", ""), find_artefact().wasm_sha256
    if guest_hash != ours:
        raise ConfigError(
            f"data.task_set: {folder} was verified on the guest {guest_hash[:12] or 'unknown'}, and this is"
            f" {ours[:12]}; make it again with the command that made it"
        )
    if not task_set.counts[TRAIN]:
        counts = ", ".join(f"{count} in {split}" for split, count in task_set.counts.items())
        raise ConfigError(f"data.task_set: {folder} has no tasks to train on ({counts})")


@dataclass(frozen=True)
class Workbench:
    """The parts of one run, each made when first used. Of several processes only the first writes files."""

    config: RunConfig
    folder: pathlib.Path
    cache: pathlib.Path
    processes: Processes = ALONE
    sinks: Sequence[Sink] = ()
    """Are shown the metrics, too; open as long as the run is."""
    profile: Profile | None = None
    """Steps of each stage to trace; of several processes only the first traces."""

    @cached_property
    def copy(self) -> WorkingCopy | None:
        """Of a run on a bucket, what ties this process's folder to it."""
        return find_copy(self.folder)

    def pull(self) -> None:
        """Of a run on a bucket, makes this process's folder what the bucket holds.

        Raises:
          UserError: when another process on this machine works in the folder.
        """
        if self.copy is None:
            return
        if not self.copy.lock():
            raise UserError(f"another process on this machine works on {self.copy.url}, in {self.folder}")
        self.copy.pull()

    def push(self) -> None:
        """Of a run on a bucket, copies there what process 0 has written."""
        if self.copy is not None and self.processes.is_first:
            self.copy.push()

    def once(self, action: Callable[[], object]) -> None:
        """Process 0 acts on the run folder; what it did is there for all when this returns."""

        def act() -> None:
            action()
            self.push()

        self.processes.once(act)
        if self.copy is not None and not self.processes.is_first:
            self.copy.pull()

    def fetch(self, path: pathlib.Path) -> pathlib.Path:
        """A file of the run folder again, brought from the bucket where it is only there."""
        return path if self.copy is None else self.copy.fetch(path)

    def fetch_all(self) -> None:
        """Brings all files that are on the bucket alone: the episodes of other machines."""
        if self.copy is not None:
            self.copy.fetch_all()

    def checkpoints(self, stage: str, *, keep: int = 2, keep_every: int = 0) -> Checkpointer:
        """Where a stage saves. On a bucket, the run belongs to this process from now on.

        Args:
          stage: that saves.
          keep: as `Checkpointer`, like the next one.
          keep_every: see there.
        """
        if self.copy is not None and self.processes.is_first and (before := self.copy.take()):
            say(f"{self.copy.url} was {before}; if that one still runs, it will stop at its next checkpoint")
            self.copy.pull()
        place = checkpoint_place(self.folder, stage)
        return Checkpointer(place, keep=keep, keep_every=keep_every, before_commit=self._before_commit)

    def _before_commit(self) -> None:
        """What a checkpoint refers to goes before it."""
        self.push()
        if self.copy is not None:
            self.copy.require_own()

    @cached_property
    def task_set(self) -> TaskSet:
        """The run's own copy of its task set, so that a run folder can be reverified anywhere."""
        return TaskSet.open(self.folder / "task_set")

    def adopt_task_set(self, source: pathlib.Path) -> None:
        """Copies a finished task set into the run folder, unless it is there."""
        self.once(lambda: self.copy_task_set(source))

    def copy_task_set(self, source: pathlib.Path) -> None:
        """The same, by this process alone."""
        target = self.folder / "task_set"
        if target.exists():
            return
        temporary = self.folder / "task_set.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(source, temporary)
        temporary.rename(target)

    @cached_property
    def sandbox(self) -> Sandbox:
        """Compiles the guest on first use of this machine."""
        return Sandbox(self.config.sandbox, self.cache)

    def open_env(self, spec: EnvSpec, config_json: str) -> Env:
        """One environment on a fresh guest."""
        return Env(self.sandbox, spec, config_json)

    @cached_property
    def weights(self) -> Weights | None:
        """The pretrained weights that the config names, found and checked but not read."""
        source = self.config.policy.weights
        return open_weights(source) if source else None

    @cached_property
    def renderer(self) -> Renderer:
        """The style and the tokenizer, which the run keeps a copy of."""
        path = tokenizer_path(self.folder)
        self.once(lambda: path.exists() or self._find_tokenizer().save(path))
        if self.processes.count > 1:
            self.processes.agree({path.name: file_digest(path), **self.fingerprint})
        return run_renderer(self.config.style, self.folder)

    def _find_tokenizer(self) -> Tokenizer:
        """The one that the config names, that of the weights, or one trained on all training tasks."""
        named = self.config.policy.tokenizer
        if named:
            return Tokenizer.load(named)
        if self.weights is not None:
            if self.weights.tokenizer_source is None:
                raise ConfigError(
                    f"policy.weights: {self.config.policy.weights} has no tokenizer.json; name one by"
                    " policy.tokenizer"
                )
            return Tokenizer.load(self.weights.tokenizer_source)
        texts = (
            text
            for task in self.tasks(TRAIN)
            for text in training_texts(
                self.config.style, self.spec_of(task), task.oracle_actions, task.oracle_observations
            )
        )
        return train_bpe(
            texts,
            max_vocabulary=self.config.data.max_vocabulary,
            special_tokens=special_tokens(self.config.style),
        )

    @cached_property
    def mesh(self) -> Mesh:
        """All devices of this process group, as the learner uses them."""
        return sharding.make_mesh(**dataclasses.asdict(self.config.mesh))

    @cached_property
    def sampling_mesh(self) -> Mesh:
        """What this process samples on: the same devices as the learner, or its own of them."""
        return self._sampling_meshes[self.processes.index]

    @cached_property
    def _sampling_meshes(self) -> list[Mesh]:
        """Of each process."""
        sizes = dataclasses.asdict(self.config.sampling_mesh)
        if self.processes.count == 1:
            return [sharding.make_mesh(**sizes) if any(sizes.values()) else self.mesh]
        if not any(sizes.values()):
            sizes = {"data": -1, "fsdp": 1, "tensor": self.config.mesh.tensor}
        try:
            return local_view.local_meshes(lambda devices: sharding.make_mesh(**sizes, devices=devices))
        except ValueError as error:
            raise ConfigError(
                f"sampling_mesh: each of {self.processes.count} processes samples on its own"
                f" {jax.local_device_count()} devices, and they do not make a mesh of {sizes}: {error}"
            ) from error

    @cached_property
    def model(self) -> Transformer:
        """The policy, in the shape of its weights or of a preset.

        Raises:
          ConfigError: when there is no such preset, or the tokenizer has ids that the weights lack.
        """
        policy = self.config.policy
        compute = compute_of(policy)
        if self.weights is None:
            shape = find_preset(policy.preset)
            return Transformer(shape, shape.vocabulary or self.renderer.vocabulary_size, compute)
        known, needed = self.weights.vocabulary_size, self.renderer.vocabulary_size
        if needed > known:
            raise ConfigError(
                f"policy.tokenizer: its ids go up to {needed - 1}, those of {policy.weights} to {known - 1}"
            )
        return Transformer(self.weights.config, known, compute)

    @cached_property
    def sampling_model(self) -> Transformer:
        """The policy with each layer by itself: a stack of layers decodes slower (`LOG.md`)."""
        compute = dataclasses.replace(self.model.compute, scan_layers=False)
        return Transformer(self.model.config, self.model.vocabulary_size, compute)

    def init_params(self) -> Any:
        """The parameters that a run starts from, in their places: pretrained, or a function of the seed."""
        if self.weights is not None:
            return self.weights.load(self.model, self.mesh)
        return sharding.init_parameters(self.model, self.mesh, self.config.seed, jnp.zeros((1, 2), jnp.int32))

    @cached_property
    def agent(self) -> Agent:
        """Plays episodes; one for training and evaluation, so that nothing is compiled twice."""
        limits = episode_limits(self.config.rollout)
        return Agent(self.timed_sampler, self.renderer, self.open_env, limits, self.config.seed)

    @cached_property
    def timed_sampler(self) -> TimedSampler:
        """The sampler, with a clock for the time that it takes."""
        return TimedSampler(self.sampler)

    @cached_property
    def sampler(self) -> Sampler:
        """The slots on the device."""
        rollout, count = self.config.rollout, self.processes.count
        if rollout.slots % count:
            raise ConfigError(
                f"rollout.slots must divide by the number of processes, {count}, got {rollout.slots}"
            )
        return Sampler(
            self.sampling_model,
            self.sampling_mesh,
            slots=rollout.slots // count,
            max_tokens=rollout.max_tokens,
            max_message_tokens=rollout.max_turn_tokens,
            stop_sequences=self.renderer.stop_sequences,
            top_k=rollout.top_k,
            top_p=rollout.top_p,
            min_p=rollout.min_p,
        )

    def init_state(self, params: Any, optimizer: optax.GradientTransformation) -> TrainState:
        """The state before the first update, all of it on the mesh: counters on every device of it."""
        everywhere = sharding.place(self.mesh)

        def settle(leaf: jax.Array) -> jax.Array:
            return leaf if isinstance(leaf.sharding, NamedSharding) else _spread(np.asarray(leaf), everywhere)

        return jax.tree.map(settle, init_state(params, optimizer))

    def play(self, params: Any, requests: Sequence[EpisodeRequest], **settings: Any) -> list[Episode]:
        """Plays episodes (`play_prepared`) with the learner's parameters."""
        return self.play_prepared(self.sampling_params(params), requests, **settings)

    def sampling_params(self, params: Any) -> Any:
        """The learner's parameters as `sampling_model` takes them, on `sampling_mesh`.

        Fresh, updated and restored parameters then compile to the same programs. What is kept in a wider type
        than the model computes in is narrowed once, not at each token; and before a stack is taken apart, so
        that no second wide copy exists. Of several processes each must call this, at the same place among its
        programs over all devices.
        """
        policy = self.config.policy
        if policy.compute_dtype != policy.param_dtype:
            params = sharding.narrowed(params, policy.compute_dtype)
        if policy.scan_layers:
            params = jax.jit(layers_layout.unstack)(params)
        if self.processes.count == 1:
            return sharding.reshard(params, self._layout)
        return local_view.local_params(params, self._layout, self._sampling_meshes)

    def play_prepared(
        self,
        params: Any,
        requests: Sequence[EpisodeRequest],
        *,
        policy_version: int = 0,
        interrupted: Callable[[], bool] = requested,
        **settings: Any,
    ) -> list[Episode]:
        """Plays episodes (`Agent.play_until`) with `sampling_params`, in a thread too.

        Of several processes each plays a share, on its own devices, and plays one episode of its neighbor's
        again; all get all episodes, in the order of the requests.

        Raises:
          EpisodesDisagree: when the processes asked for different episodes, or saw different ones.
          Stopped: when any process was interrupted before its share was played; all abandon theirs.
        """
        index, count = self.processes.index, self.processes.count
        own = exchange.share(requests, index, count)
        episodes, _ = self.agent.play_until(
            interrupted, params, own, policy_version=policy_version, **settings
        )
        self.processes.stop_if(len(episodes) < len(own), "episodes")
        if count == 1:
            return episodes
        name = f"episodes of policy version {policy_version}"
        gather = functools.partial(self.processes.gather, channel="episodes")
        episodes = exchange.all_episodes(episodes, requests, gather, name=name)
        checked = exchange.neighbor_episode(episodes, index, count, turn=policy_version)
        if checked is not None:
            self._play_again(checked, f"{name}: process {(index + 1) % count}")
        return episodes

    def _play_again(self, episode: Episode, whose: str) -> None:
        """Holds another process's episode against what this host's tools say."""
        config_json = episode.task_id.split("@", 2)[2]
        try:
            env = self.open_env(self.task_set.specs[episode.env_id], config_json)
        except HostFailure:
            return
        if found := exchange.difference(episode, env):
            raise exchange.EpisodesDisagree(
                f"{whose} played attempt {episode.attempt} at {episode.task_id}, and on process"
                f" {self.processes.index} {found}"
            )

    @cached_property
    def _layout(self) -> Any:
        """Where the table puts each parameter for sampling; found by tracing the model's initialization."""
        tokens_BT = jnp.zeros((1, 2), jnp.int32)
        return sharding.parameter_shardings(self.sampling_model, self.sampling_mesh, tokens_BT)

    def place(self, batches: Batches) -> Batches:
        """Batches on the devices, their rows spread over the mesh's data axes.

        Args:
          batches: any pytree of host arrays "... B T", the same on every process; numbers stay as they are.
        """

        def put(leaf: Any) -> Any:
            if not isinstance(leaf, np.ndarray):
                return leaf
            axes = [None] * (leaf.ndim - 2) + ["rows", None]
            return _spread(leaf, sharding.place(self.mesh, *axes))

        return jax.tree.map(put, batches)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """What a checkpoint belongs to besides its config: the guest and the task set."""
        return {"guest_hash": self.sandbox.guest_hash, "task_set": self.task_set.digest}

    def tasks(self, split: str) -> list[Task]:
        """All tasks of a split, in the order of their ids."""
        return sorted(self.task_set.source(split), key=lambda task: task.task_id)

    def spec_of(self, task: Task) -> EnvSpec:
        """The environment of a task."""
        return self.task_set.specs[task.env_id]

    def metrics(self, stage: str, cursor: int | None) -> MetricsWriter | NoMetrics:
        """Writes a stage's metrics, from where a checkpoint's cursor stands; None is where the stage begins.

        What stands behind the cursor will be written again. But a stage that another one followed had ended
        and is only made again since its last checkpoints are damaged: its rows stay, and those behind them.
        """
        if not self.processes.is_first:
            return NoMetrics()
        path = self.folder / "metrics.jsonl"
        rows = stage_rows(path, stage)
        if rows.followed:
            return NoMetrics(cursor=rows.end)
        return MetricsWriter(path, cursor=rows.begin if cursor is None else cursor, sinks=self.sinks)

    def save_episodes(self, name: str, episodes: Sequence[Episode]) -> None:
        """Writes episodes to `episodes/<name>.jsonl`."""
        self.write_episodes(self.folder / "episodes" / f"{name}.jsonl", episodes)

    def write_episodes(self, path: pathlib.Path, episodes: Sequence[Episode]) -> None:
        """Writes episodes to any file."""
        if self.processes.is_first:
            write_episodes(path, episodes, self._prompt_of(episodes))

    def save_transcripts(self, name: str, episodes: Sequence[Episode]) -> None:
        """Writes episodes for people to read, to `transcripts/<name>.txt`."""
        if not self.processes.is_first:
            return
        path = self.folder / "transcripts" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, transcripts(episodes, self._prompt_of(episodes), self.renderer.decode))

    def _prompt_of(self, episodes: Sequence[Episode]) -> Callable[[Episode], str]:
        """The prompt of each episode as text; one for all episodes of an environment."""
        prompts = {
            env_id: self.renderer.decode(self.renderer.render_prompt(self.task_set.specs[env_id]))
            for env_id in {episode.env_id for episode in episodes}
        }
        return lambda episode: prompts[episode.env_id]

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the time spent inside to the stage's total in `timing.json`."""
        start_s = monotonic()
        yield
        if not self.processes.is_first:
            return
        path = self.folder / "timing.json"
        timing = json.loads(path.read_text()) if path.exists() else {}
        timing[stage] = round(timing.get(stage, 0.0) + monotonic() - start_s, 2)
        write_atomically(path, json.dumps(timing) + "\n")
        self.push()


def _spread(array: np.ndarray, where: NamedSharding) -> jax.Array:
    """A host array that every process holds, on the devices of all."""
    return jax.make_array_from_callback(array.shape, where, lambda index: array[index])


def file_digest(path: pathlib.Path) -> str:
    """The sha256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _differences(saved: dict[str, Any], given: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(saved.keys() | given.keys()):
        one, other = saved.get(key), given.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            yield f"{prefix}{key}: {json.dumps(one)} there, {json.dumps(other)} given"


def device_line() -> str:
    """The devices, for the first line of a log."""
    kinds = {device.device_kind for device in jax.devices()}
    return (
        f"{jax.device_count()} x {', '.join(sorted(kinds))} ({jax.default_backend()}), jax {jax.__version__}"
    )
