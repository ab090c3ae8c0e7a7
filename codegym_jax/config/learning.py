"""The settings of learning: the warm start, the update, the algorithm, and which tasks it gets."""

from dataclasses import dataclass

from codegym_jax.config.errors import at_least, require


@dataclass(frozen=True, kw_only=True, slots=True)
class SftConfig:
    """The warm start: supervised learning on demonstrations, policy tokens only."""

    # "oracle"; or a path: of a run folder or a file of its episodes (those that earned the reward), or of
    # `messages` rows (.jsonl, .parquet), which are taken whole
    source: str = "oracle"
    demonstrations_per_environment: int = 16
    max_demonstration_calls: int = 8  # longer tasks are left to reinforcement learning
    steps: int = 300
    rows: int = 16  # episodes per update
    learning_rate: float = 4e-3
    warmup_steps: int = 30

    def __post_init__(self) -> None:
        at_least("sft", self, demonstrations_per_environment=1, max_demonstration_calls=1, steps=0, rows=1)
        at_least("sft", self, learning_rate=0, warmup_steps=0)


MEANS = ("token", "episode", "fixed")
"""What a loss is a mean over: "token"s, "episode"s, or "fixed": as if all episodes were of full length."""
KL_ESTIMATORS = ("none", "k1", "k2", "k3")
IMPORTANCE = ("none", "truncated", "masked")
OVERLONG = ("keep", "mask", "penalty")
OPTIMIZERS = ("adamw", "lion", "muon", "adafactor")
ORDERS = ("uniform", "easy_first")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Reinforcement learning: its length, its batches and its optimizer. Defaults that are not about size are
    the paper's (appendix E.1)."""

    steps: int = 60
    episodes_per_update: int = 64  # about; a step makes as many updates as its episodes fill
    rows_per_batch: int = 32  # packed rows in one forward and backward pass
    row_tokens: int = 0  # width of a packed row; 0: `rollout.max_tokens`
    chunk_tokens: int = 32  # positions of every row that have logits at the same time
    optimizer: str = "adamw"  # one of OPTIMIZERS
    learning_rate: float = 2.5e-4
    warmup_steps: int = 5
    weight_decay: float = 0.1
    adam_b1: float = 0.9
    adam_b2: float = 0.95
    max_grad_norm: float = 1.0
    max_invalid_fraction: float = 0.2  # more host failures than this in one step stop the run
    max_off_policy_steps: int = 0  # 1: the next step is sampled while this one is learned
    checkpoint_every: int = 10
    keep_checkpoints: int = 2  # the newest; the one before it guards against damage
    keep_every: int = 0  # checkpoints of every so many steps are kept for good; 0: none

    def __post_init__(self) -> None:
        require(self.optimizer in OPTIMIZERS, "train.optimizer", self.optimizer, _one_of(OPTIMIZERS))
        at_least("train", self, chunk_tokens=1, rows_per_batch=1, row_tokens=0, max_off_policy_steps=0)
        at_least("train", self, steps=0, episodes_per_update=1, learning_rate=0, warmup_steps=0)
        at_least("train", self, weight_decay=0, adam_b1=0, adam_b2=0, max_grad_norm=0)
        at_least("train", self, max_invalid_fraction=0, checkpoint_every=1)
        at_least("train", self, keep_checkpoints=1, keep_every=0)
        whole = self.keep_every % max(self.checkpoint_every, 1) == 0
        multiple = f"0, or a multiple of train.checkpoint_every={self.checkpoint_every}"
        require(whole, "train.keep_every", self.keep_every, multiple)
        staleness = self.max_off_policy_steps
        require(staleness <= 1, "train.max_off_policy_steps", staleness, "0 or 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class AlgorithmConfig:
    """How rewards become a gradient. Numbers with a default of 0 are off."""

    name: str = "grpo"  # a key of `algorithms.recipes.ALGORITHMS`: advantages, a surrogate, a mean
    mean: str = ""  # one of MEANS; empty: the algorithm's own
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float = 0.0  # bounds the ratio where the advantage is negative, such as 3
    kl: str = "none"  # estimator of the KL to the starting policy, one of KL_ESTIMATORS
    kl_coefficient: float = 0.0
    kl_in_reward: bool = False  # else in the loss
    entropy_coefficient: float = 0.0  # of the bonus
    importance: str = "none"  # weights for the sampler's own distribution, one of IMPORTANCE
    importance_cap: float = 2.0  # largest weight ("truncated"), or where a token is dropped ("masked")
    turn_discount: float = 1.0  # credit lost with each turn between a call and the episode's end
    gae_discount: float = 1.0  # of algorithms with a critic, by token
    gae_lambda: float = 0.95
    value_coefficient: float = 0.5
    value_clip: float = 0.2
    overlong: str = "keep"  # episodes cut off by a token budget; one of OVERLONG
    overlong_buffer: float = 0.2  # "penalty": grows to 1 over this last share of the token budget
    format_reward: float = 0.0  # for episodes whose every message was a call; shaped terms never
    valid_call_reward: float = 0.0  # decide which groups have a signal. The share of calls without an error
    done_reward: float = 0.0  # for episodes that gave an answer

    def __post_init__(self) -> None:
        choices = {"kl": KL_ESTIMATORS, "importance": IMPORTANCE, "overlong": OVERLONG, "mean": ("", *MEANS)}
        for name, known in choices.items():
            require(getattr(self, name) in known, f"algorithm.{name}", getattr(self, name), _one_of(known))
        at_least("algorithm", self, clip_low=0, clip_high=0, dual_clip=0, kl_coefficient=0)
        at_least("algorithm", self, entropy_coefficient=0, importance_cap=1, turn_discount=0, gae_discount=0)
        at_least("algorithm", self, gae_lambda=0, value_coefficient=0, value_clip=0)
        for name in ("turn_discount", "gae_discount", "gae_lambda", "clip_low"):
            require(getattr(self, name) <= 1, f"algorithm.{name}", getattr(self, name), "at most 1")
        dual = self.dual_clip
        require(
            dual == 0 or dual > 1 + self.clip_high, "algorithm.dual_clip", dual, "0, or above 1 + clip_high"
        )
        dead = self.kl != "none" and self.kl_coefficient == 0
        require(not dead, "algorithm.kl_coefficient", self.kl_coefficient, f"positive with kl {self.kl!r}")
        flat = self.kl == "k1" and not self.kl_in_reward
        told = "k2 or k3 in the loss, where k1 has no gradient on average"
        require(not flat, "algorithm.kl", self.kl, told)
        buffer = self.overlong_buffer
        require(0 < buffer <= 1, "algorithm.overlong_buffer", buffer, "above 0 and at most 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class CurriculumConfig:
    """Which tasks a step is made of."""

    order: str = "uniform"  # one of ORDERS; easy_first begins with tasks of few oracle calls
    easy_first_steps: int = 40  # so long until all tasks are drawn alike
    prefer_learnable: float = 0.0  # 0 to 1: how much rarer tasks become that always or never succeeded
    dynamic_sampling: bool = False  # drop groups whose attempts all earned the same, and draw others
    max_draws: int = 3  # so many times the tasks of a step at most

    def __post_init__(self) -> None:
        require(self.order in ORDERS, "curriculum.order", self.order, _one_of(ORDERS))
        at_least("curriculum", self, easy_first_steps=1, prefer_learnable=0, max_draws=1)
        require(self.prefer_learnable <= 1, "curriculum.prefer_learnable", self.prefer_learnable, "at most 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Low-rank updates of the matrices in place of full ones; rank 0 is off."""

    rank: int = 0
    alpha: float = 16.0  # the update is scaled by alpha / rank
    targets: tuple[str, ...] = ("q", "k", "v", "o", "gate", "up", "down")

    def __post_init__(self) -> None:
        at_least("lora", self, rank=0, alpha=0)
        known = ("q", "k", "v", "o", "gate", "up", "down")
        for target in self.targets:
            require(target in known, "lora.targets", target, f"made of {', '.join(known)}")


def _one_of(known: tuple[str, ...]) -> str:
    return "one of " + ", ".join(name or "(empty)" for name in known)
