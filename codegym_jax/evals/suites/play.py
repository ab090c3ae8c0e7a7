"""One attempt at one task of a suite: a speaker and a session take turns until one of them ends it.

Three kinds of speakers answer: the policy, the *oracle*, which says what the suite calls right, and the
*no-op*, which says that it does not know. All take the same way through the session, so that the oracle's
score tells whether that way is sound, and the no-op's what a score is worth.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from codegym_jax.evals.suites.suite import (
    Message,
    Opening,
    Score,
    Suite,
    SuiteFailure,
    SuiteRefusal,
    SuiteSession,
)

ORACLE, NO_OP = "oracle", "no_op"
MAX_ORACLE_TURNS = 1024
_DO_NOT_KNOW = "I do not know."


class SuiteStop(StrEnum):
    """Why an attempt ended. Everything but `HOST_FAILURE` is data."""

    FINISHED = "finished"
    """The suite ended it."""
    MAX_TURNS = "max_turns"
    """The budget of messages was spent."""
    MAX_TOKENS = "max_tokens"
    """The context was full."""
    MESSAGE_TOO_LONG = "message_too_long"
    """One message spent its tokens without ending; the suite never saw it."""
    PROMPT_TOO_LONG = "prompt_too_long"
    """The context was full before the first message: the policy had no chance."""
    REFUSED = "refused"
    """The suite could not go on with a message."""
    HOST_FAILURE = "host_failure"
    """The suite failed; the attempt is invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What a speaker said: a message, or why there is none."""

    message: Message | None = None
    stop: SuiteStop | None = None
    tokens: int = 0
    """That the policy wrote."""


@runtime_checkable
class Speaker(Protocol):
    """One side of one attempt."""

    def say(self, heard: Sequence[Message]) -> Spoken:
        """The next message.

        Args:
          heard: what came since its last one; at first, the opening's messages.
        """
        ...


SpeakerOf = Callable[[SuiteSession, str, int], Speaker]
"""A speaker for a session, the name of an attempt's task (`SUITE/SUBSET/TASK`), and its run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How an attempt went; JSON-able."""

    task: str
    run: int
    score: float
    stop: str
    """A `SuiteStop`."""
    turns: int
    """Messages of the speaker that the suite took."""
    calls: int
    """Calls of tools in them."""
    tokens: int
    error: str
    """Of an attempt that was refused or is invalid."""
    detail: dict[str, Any]
    tools: list[str]
    """Names of those that were there from the start."""
    messages: list[Message]

    @property
    def valid(self) -> bool:
        return self.stop != SuiteStop.HOST_FAILURE

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def oracle(session: SuiteSession, task: str, run: int) -> Speaker:
    """A speaker that says what the suite calls right."""
    del task, run
    return _Oracle(session)


def no_op(session: SuiteSession, task: str, run: int) -> Speaker:
    """A speaker that does not know."""
    del session, task, run
    return _NoOp()


class _Oracle:
    def __init__(self, session: SuiteSession) -> None:
        self._session = session

    def say(self, heard: Sequence[Message]) -> Spoken:
        del heard
        return Spoken(message=self._session.gold())


class _NoOp:
    def say(self, heard: Sequence[Message]) -> Spoken:
        del heard
        return Spoken(message={"role": "assistant", "content": _DO_NOT_KNOW})


def play(
    suite: Suite,
    subset: str,
    task: str,
    run: int,
    speaker_of: SpeakerOf,
    max_turns: int,
    go_on: Callable[[], None] = lambda: None,
) -> Attempt:
    """Makes one attempt; never raises for what the suite or the speaker did.

    Args:
      suite: of the task.
      subset: of the suite.
      task: of the subset.
      run: which of the attempts at it.
      speaker_of: makes the speaker.
      max_turns: messages that it may send.
      go_on: asked before each message; may raise what abandons the attempt.
    """
    name = f"{suite.facts.suite}/{subset}/{task}"
    said: list[Message] = []
    opening = Opening(messages=())
    exchange = _Exchange()
    session = None
    try:
        session = suite.open(subset, task)
        opening = session.opening
        said += opening.messages
        exchange.talk(session, speaker_of(session, name, run), said, max_turns, go_on)
        score = session.score()
    except SuiteRefusal as refusal:  # by `gold` or `score`, where the policy has no say
        score = exchange.fail(str(refusal))
    except SuiteFailure as failure:
        score = exchange.fail(str(failure))
    finally:
        if session is not None:
            session.close()
    return Attempt(
        task=task,
        run=run,
        score=score.score,
        stop=exchange.stop.value,
        turns=exchange.turns,
        calls=exchange.calls,
        tokens=exchange.tokens,
        error=exchange.error,
        detail=dict(score.detail),
        tools=[str(tool.get("function", {}).get("name", "")) for tool in opening.tools],
        messages=said,
    )


@dataclass(slots=True)
class _Exchange:
    """The turns of an attempt, counted."""

    stop: SuiteStop = SuiteStop.HOST_FAILURE
    turns: int = 0
    calls: int = 0
    tokens: int = 0
    error: str = ""

    def talk(
        self,
        session: SuiteSession,
        speaker: Speaker,
        said: list[Message],
        max_turns: int,
        go_on: Callable[[], None],
    ) -> None:
        """Turn after turn; adds what is said to `said`, and sets `stop`."""
        heard: Sequence[Message] = list(said)
        while self.turns < max_turns:
            go_on()
            spoken = speaker.say(heard)
            self.tokens += spoken.tokens
            if spoken.message is not None:
                said.append(spoken.message)
            if spoken.stop is not None or spoken.message is None:
                self.stop = spoken.stop or SuiteStop.MAX_TOKENS
                return
            self.turns += 1
            self.calls += len(spoken.message.get("tool_calls") or ())
            try:
                reaction = session.reply(spoken.message)
            except SuiteRefusal as refusal:
                self.stop, self.error = SuiteStop.REFUSED, str(refusal)
                return
            heard = reaction.messages
            said += heard
            if reaction.finished:
                self.stop = SuiteStop.FINISHED
                return
        self.stop = SuiteStop.MAX_TURNS

    def fail(self, error: str) -> Score:
        self.stop, self.error = SuiteStop.HOST_FAILURE, error
        return Score(score=0.0)
