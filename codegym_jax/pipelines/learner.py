"""The learner of reinforcement learning: parameters, and the programs that turn a step's episodes into
updates of them. Knows no loop and no files."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from codegym_jax.algorithms.critic import explained_variance
from codegym_jax.algorithms.recipes import ALGORITHMS, Algorithm, make_objective
from codegym_jax.algorithms.surrogates import clipped_weight
from codegym_jax.config import AlgorithmConfig, ConfigError, LoraConfig, RunConfig, TrainConfig
from codegym_jax.data.stable_hash import stable_hash
from codegym_jax.pipelines.lessons import Judged, earned_rewards, make_lessons
from codegym_jax.pipelines.trainable import Trainable
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.records import Episode, Update
from codegym_jax.rollout.packing import Lesson, Mean, pack, pack_in_order, unpack
from codegym_jax.trainer.optimizer import make_optimizer
from codegym_jax.trainer.state import on_host
from codegym_jax.trainer.update import Findings, examine, make_policy_update, make_scorer, require_made


class Learned(NamedTuple):
    """What came of one step."""

    metrics: list[dict[str, Any]]
    """Of each update, on the device still."""
    lengths: list[int]
    """Tokens of each episode that taught something."""
    shares: dict[str, float]
    """Metrics of how episodes became lessons and rows."""


class Learner:
    """Learns from one step's episodes after the other.

    Args:
      bench: the run.
      start: the model's parameters; donated to the first update, unless adapters learn in their place.
    """

    def __init__(self, bench: Workbench, start: Any) -> None:
        config = bench.config
        self._bench, self._settings = bench, config.algorithm
        self._algorithm = find_algorithm(config.algorithm.name)
        require_consistent(config, self._algorithm)
        self._row_tokens = config.train.row_tokens or config.rollout.max_tokens
        self._trainable = Trainable(model=bench.model, lora=config.lora, critic=self._algorithm.critic)
        optimizer = reinforcing_optimizer(config.train)
        split = self._trainable.split(start, bench.mesh, config.seed)
        self._frozen = split.frozen
        self._asks_itself = asks_itself(self._algorithm, config.algorithm)
        # Adapters leave their base as it was; anything else is donated, so that a reference needs a copy.
        self._reference = None
        if config.algorithm.kl != "none":
            self._reference = start if config.lora.rank else jax.tree.map(jnp.copy, start)
        self.state = bench.init_state(split.params, optimizer)
        self._policy = jax.jit(self._trainable.policy) if config.lora.rank else self._trainable.policy
        score_fn = self._trainable.score_fn(
            chunk_tokens=config.train.chunk_tokens,
            entropy_gradient=config.algorithm.entropy_coefficient > 0,
        )
        objective = objective_of(self._algorithm, config.algorithm)
        self._update = make_policy_update(score_fn, objective, optimizer)
        self._score = make_scorer(score_fn)
        reference_model = Trainable(model=bench.model, lora=LoraConfig(), critic=False)
        self._score_reference = make_scorer(reference_model.score_fn(chunk_tokens=config.train.chunk_tokens))

    def policy(self) -> Any:
        """The model's parameters now; they may share buffers with the learner's, which an update donates."""
        params: Any = self.state.params
        return self._policy(params, self._frozen)

    @property
    def scorings(self) -> int:
        """Forward passes over a step's episodes before its updates."""
        return self._asks_itself + (self._reference is not None)

    def judge(self, episodes: Sequence[Episode]) -> list[Judged]:
        """What the learner, its critic and the reference say of a step's episodes, where the algorithm asks.

        Args:
          episodes: before the step's first update.
        """
        readable = [episode for episode in episodes if episode.is_policy[1:].any()]
        if not self.scorings or not readable:
            return [Judged()] * len(episodes)
        update, places = pack_in_order(
            [_unlearned(episode) for episode in readable],
            rows_per_batch=self._bench.config.train.rows_per_batch,
            row_tokens=self._row_tokens,
        )
        placed = self._bench.place(update)
        scores: dict[str, Any] = {}
        if self._asks_itself:
            own = self._score(self.state.params, self._frozen, placed)
            scores |= {"old_logp": own.logp_BT, "value": own.value_BT}
        if self._reference is not None:
            scores["reference_logp"] = self._score_reference(self._reference, (), placed).logp_BT
        columns = {
            name: unpack(on_host(values), places) for name, values in scores.items() if values is not None
        }
        judged = (
            Judged(**{name: values[index] for name, values in columns.items()})
            for index in range(len(readable))
        )
        return [next(judged) if episode.is_policy[1:].any() else Judged() for episode in episodes]

    def learn(self, step: int, episodes: Sequence[Episode], judged: Sequence[Judged]) -> Learned:
        """Makes the updates of a step; none where no episode teaches anything.

        Args:
          step: counted from 1; with the run's seed it fixes how episodes are dealt into updates.
          episodes: of whole groups, a group's attempts beside each other.
          judged: of each, as `judge` gave it.

        Raises:
          NotFinite: when a gradient is not finite; later updates of the step are not made either.
        """
        rollout, train = self._bench.config.rollout, self._bench.config.train
        lessons = make_lessons(
            episodes,
            judged,
            self._algorithm,
            self._settings,
            attempts_per_task=rollout.attempts_per_task,
            max_tokens=rollout.max_tokens,
        )
        updates = pack(
            lessons,
            episodes_per_update=train.episodes_per_update,
            rows_per_batch=train.rows_per_batch,
            row_tokens=self._row_tokens,
            mean=cast(Mean, self._settings.mean or self._algorithm.mean),
            fixed_tokens=rollout.max_tokens,
            rng=np.random.default_rng(stable_hash(self._bench.config.seed, "collate", step)),
        )
        metrics: list[dict[str, Any]] = []
        for update in updates:
            placed = self._bench.place(update)
            require_made(metrics, updates)  # so that the state is still the one that an update failed on
            self.state, of_update = self._update(self.state, self._frozen, placed)
            metrics.append(of_update)
        require_made(metrics, updates)
        lengths = [len(lesson.token_ids) for lesson in lessons]
        positions = sum(update.positions for update in updates)
        earned_PG, valid_PG = earned_rewards(
            episodes, self._settings, rollout.attempts_per_task, rollout.max_tokens
        )
        shares = {
            **_of_critic(lessons),
            "shaped_reward": float(earned_PG[valid_PG].mean()) if valid_PG.any() else 0.0,
            "tokens": float(sum(update.token_count for update in updates)),
            "padding_share": 1.0 - sum(lengths) / positions if updates else 0.0,
        }
        return Learned(metrics, lengths, shares)

    def examine(self, update: Update) -> tuple[list[Findings], Any]:
        """`trainer.update.examine` of an update that `learn` refused."""
        placed = self._bench.place(update)
        return examine(self._update, self._score, self.state, self._frozen, placed)


def find_algorithm(name: str) -> Algorithm:
    """The algorithm called `name`.

    Raises:
      ConfigError: when there is none.
    """
    if name not in ALGORITHMS:
        raise ConfigError(f"algorithm.name must be one of {', '.join(ALGORITHMS)}, got {name!r}")
    return ALGORITHMS[name]


def asks_itself(algorithm: Algorithm, settings: AlgorithmConfig) -> bool:
    """Whether a step begins with the learner's own log-probabilities, which ratios are then taken to."""
    return algorithm.critic or settings.kl_in_reward or settings.importance != "none"


def require_consistent(config: RunConfig, algorithm: Algorithm) -> None:
    """Checks settings that only make sense with others.

    Raises:
      ConfigError: naming the setting to change.
    """
    settings, rollout = config.algorithm, config.rollout
    if 0 < config.train.row_tokens < rollout.max_tokens:
        raise ConfigError(
            f"train.row_tokens must be 0, or at least rollout.max_tokens = {rollout.max_tokens} so that an"
            f" episode fits into a row, got {config.train.row_tokens}"
        )
    if settings.dual_clip and algorithm.surrogate is clipped_weight:
        raise ConfigError(
            f"algorithm.dual_clip must be 0 with algorithm.name={settings.name}, got {settings.dual_clip}"
        )
    drawn_otherwise = {
        "rollout.temperature": rollout.temperature != 1,
        "rollout.top_p": rollout.top_p < 1,
        "rollout.top_k": rollout.top_k > 0,
        "rollout.min_p": rollout.min_p > 0,
        "train.max_off_policy_steps": config.train.max_off_policy_steps > 0,
    }
    causes = [name for name, holds in drawn_otherwise.items() if holds]
    if causes and settings.importance == "none" and asks_itself(algorithm, settings):
        raise ConfigError(
            f"algorithm.importance must be truncated or masked with {causes[0]} as set, got 'none':"
            " ratios start from the learner here, and nothing else corrects for what tokens were drawn from"
        )


def objective_of(algorithm: Algorithm, settings: AlgorithmConfig) -> Any:
    """The objective of an algorithm with a run's settings."""
    return make_objective(
        algorithm,
        clip_low=settings.clip_low,
        clip_high=settings.clip_high,
        dual_clip=settings.dual_clip,
        kl="none" if settings.kl_in_reward else settings.kl,
        kl_coefficient=settings.kl_coefficient,
        entropy_coefficient=settings.entropy_coefficient,
        importance=settings.importance,
        importance_cap=settings.importance_cap,
        value_coefficient=settings.value_coefficient,
        value_clip=settings.value_clip,
    )


def reinforcing_optimizer(train: TrainConfig) -> optax.GradientTransformation:
    """The optimizer of reinforcement learning, as set."""
    return make_optimizer(
        train.optimizer,
        train.learning_rate,
        warmup_steps=train.warmup_steps,
        weight_decay=train.weight_decay,
        b1=train.adam_b1,
        b2=train.adam_b2,
        max_grad_norm=train.max_grad_norm,
    )


def _of_critic(lessons: Sequence[Lesson]) -> dict[str, float]:
    """How much of the step's returns the critic foresaw; nothing without a critic."""
    rows = [
        np.stack([one.old_value, one.returns, one.is_policy])[:, 1:]
        for one in lessons
        if one.old_value is not None and one.returns is not None
    ]
    if not rows:
        return {}
    row_3T = np.concatenate(rows, axis=1, dtype=np.float32)
    length = 1 << (row_3T.shape[1] - 1).bit_length()  # few shapes, few programs
    value_BT, return_BT, is_policy_BT = jnp.asarray(np.pad(row_3T, ((0, 0), (0, length - row_3T.shape[1]))))[
        :, None
    ]
    return {"explained_variance": float(explained_variance(value_BT, return_BT, is_policy_BT))}


def _unlearned(episode: Episode) -> Lesson:
    """An episode to be read, not learned."""
    return Lesson(episode.token_ids, episode.is_policy, None, np.zeros(len(episode.token_ids), np.float32))
