"""The records that cross a boundary between packages. Plain data: no JAX, no I/O, no behavior.

An *environment* is a class in the published CodeGym format (`EnvSpec`), a *task* is an environment
with one hidden config (`Task`), an *episode* is one attempt at a task (`Episode`), made of *turns*.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped


class StopReason(StrEnum):
    """Why an episode ended. Everything but `HOST_FAILURE` is the policy's own doing, hence data."""

    DONE = "done"
    """The policy called `Done`; the reward says whether the answer was right."""
    MAX_TURNS = "max_turns"
    """The turn budget was spent before `Done`."""
    MAX_TOKENS = "max_tokens"
    """The next turn or tool result would not fit into the episode's token budget."""
    TURN_TOO_LONG = "turn_too_long"
    """One policy message spent the tokens of a turn without ending."""
    TOO_MANY_ERRORS = "too_many_errors"
    """More failed calls than the rollout tolerates."""
    TRAP = "trap"
    """A call exhausted the guest, and the state could not be rebuilt by replay."""
    HOST_FAILURE = "host_failure"
    """The host failed; the attempt is invalid: it neither learns nor teaches."""


class CallError(StrEnum):
    """What was wrong with one call. The observation then starts with `Error:`, and the step counts."""

    NOT_JSON = "not_json"
    """The message holds no single well-formed call."""
    UNKNOWN_TOOL = "unknown_tool"
    """The call names no tool of this environment."""
    BAD_PARAMETERS = "bad_parameters"
    """A parameter is missing, unknown, or of the wrong form."""
    TOOL_RAISED = "tool_raised"
    """The tool itself reported an error, or raised one."""
    OUT_OF_FUEL = "out_of_fuel"
    """The call ran past its fuel; the state was rebuilt as if it had only failed."""
    OUT_OF_MEMORY = "out_of_memory"
    """The call ran past the guest's memory; the state was rebuilt as if it had only failed."""
    STACK_OVERFLOW = "stack_overflow"
    """The call overflowed the Wasm stack; the state was rebuilt as if it had only failed."""
    FORBIDDEN = "forbidden"
    """The call reached for the outside world; the state was rebuilt as if it had only failed."""
    REFUSED = "refused"
    """The episode had already ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSpec:
    """One parameter of a tool; `type_name` is as its docstring says it, "" where it does not."""

    name: str
    type_name: str = ""
    description: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """One tool as the agent sees it: `doc` ends before "Example Output", as in the paper (sec. 3.3.1)."""

    name: str
    parameters: tuple[ParameterSpec, ...] = ()
    doc: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvSpec:
    """One environment in the published CodeGym format."""

    code_id: str
    """The coding problem it was made from, such as `HumanEval_52`."""
    class_name: str
    """Such as `BelowThresholdEnv`."""
    source: str
    """The whole Python file, run unmodified in the guest."""
    tools: tuple[ToolSpec, ...]
    """In the order of `func_mapping`; `Observe` and `Done` among them."""
    statement: str = ""
    """The task text shown to the agent; it never tells the procedure."""
    license: str = ""
    origin: str = ""
    """The corpus: `humaneval`, `codeio`, or the name of a file."""

    @property
    def env_id(self) -> str:
        """`<code_id>__<class_name>`, which is also the file's stem."""
        return f"{self.code_id}__{self.class_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An environment with one hidden config."""

    env_id: str
    config_json: str
    """The hidden config as canonical JSON (sorted keys, no spaces, UTF-8)."""
    oracle_actions: tuple[str, ...] = ()
    """The oracle's calls, each `{"name": ..., "parameters": {...}}`; empty while unverified."""
    oracle_observations: tuple[str, ...] = ()
    """What each of those calls returned; the last one is the answer's verdict."""
    answer_json: str = ""
    """The reference answer as JSON; never shown to a policy."""

    @property
    def task_id(self) -> str:
        """The published form, `codegym_v1@<code_id>__<Class>@<config>`; a policy never sees it."""
        return f"codegym_v1@{self.env_id}@{self.config_json}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One exchange: what the policy sent, and what came back."""

    message: str
    """The policy's message as text, for people; the ids are in the episode."""
    action: str
    """The call sent to the environment, as JSON, or the raw message when it held no call."""
    observation: str
    """What the environment said; empty after a `Done`, whose verdict would leak the answer."""
    error: CallError | None = None
    fault: str = ""
    """Why the message held no call, in the terms of its style; where given, the policy read it in place of
    the observation, which is what the environment said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One attempt at a task, as tokens and as turns."""

    task_id: str
    attempt: int
    """Index among the attempts at this task in the whole run; with `task_id` and the run's seed it
    fixes every random key of the episode."""
    policy_version: int
    """The learner's update count when the episode was sampled."""
    token_ids: Int[np.ndarray, " T"]
    is_policy: Bool[np.ndarray, " T"]
    """True where the policy produced the token; everything else is prompt or tool result."""
    sampler_logp: Float[np.ndarray, " T"]
    """Of the distribution really sampled (after temperature, top-k, top-p); 0 off the policy's tokens."""
    policy_logp: Float[np.ndarray, " T"]
    """Of the unmodified policy (temperature 1, no truncation); 0 off the policy's tokens."""
    turns: tuple[Turn, ...]
    reward: float
    """1.0 when the answer equals the reference, else 0.0."""
    stop_reason: StopReason

    @property
    def env_id(self) -> str:
        """That of the task; its config may hold further `@`."""
        return self.task_id.split("@", 2)[1]

    @property
    def valid(self) -> bool:
        """False where the host failed, so that the attempt says nothing about the policy."""
        return self.stop_reason is not StopReason.HOST_FAILURE


class PackedBatch(NamedTuple):
    """Rows of equal width, each of several episodes behind one another; a pytree. Masks are explicit, never
    derived from a pad id.

    Nothing is shifted: every field belongs to `tokens_BT[b, t]` itself. Where the batches of an update are
    stacked, all leaves have one more axis in front.
    """

    tokens_BT: Shaped[np.ndarray, "B T"]
    segment_BT: Shaped[np.ndarray, "B T"]
    """Counts the episodes of a row from 1; 0 is padding."""
    is_policy_BT: Shaped[np.ndarray, "B T"]
    """1.0 where a loss may act: the policy's tokens, but never an episode's first."""
    weight_BT: Shaped[np.ndarray, "B T"]
    """What a token counts in the objective, which is then a plain sum over all batches of an update; 0 off
    the mask. Sums to 1 over the update for a mean over tokens or episodes."""
    sampler_logp_BT: Shaped[np.ndarray, "B T"]
    """Of the distribution that the token was drawn from, given what precedes it; 0 off the mask."""
    advantage_BT: Shaped[np.ndarray, "B T"]
    """How much better than expected it went after this token; 0 off the mask."""
    old_logp_BT: Shaped[np.ndarray, "B T"] | None = None
    """The learner's own, before the first update of the step; None where the sampler's stand for them."""
    reference_logp_BT: Shaped[np.ndarray, "B T"] | None = None
    """Of the policy that the run started from; None where no KL divergence asks for them."""
    old_value_BT: Shaped[np.ndarray, "B T"] | None = None
    """The critic's, before the first update of the step; None without a critic."""
    return_BT: Shaped[np.ndarray, "B T"] | None = None
    """What the critic is to learn; None without a critic."""


class Update(NamedTuple):
    """All that one optimizer step learns from."""

    batches: PackedBatch
    """Stacked: leaves "N B T". N is a power of two, so that few programs are compiled."""
    batch_count: int
    """The first so many batches count; the others are filling."""
    token_count: int
    """Policy tokens in all of them."""
    episode_count: int

    @property
    def positions(self) -> int:
        """Of the batches that count, padding included."""
        return self.batch_count * self.batches.tokens_BT.shape[-2] * self.batches.tokens_BT.shape[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a problem, an environment or a task was not accepted; `reason` is the counted key."""

    reason: str
    detail: str = ""
    subject: str = ""
    """File, row, environment or task that was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRate:
    """A success rate with its 95% interval."""

    success: float
    ci95: tuple[float, float]
    n: int
    by_env: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Environment id -> (successes, attempts)."""
