"""A policy as a speaker in suites: messages in, tokens through the completion engine, messages out.

The opening is rendered once; after that a session's tokens only grow: what the policy wrote stays as it was
sampled, and what it heard is appended. The random stream of a message is named by task, run and turn, so a
session is the same whatever else is played beside it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from codegym_jax.data.chat import Renderer, RenderError
from codegym_jax.data.chat_template import ChatTemplateError
from codegym_jax.data.chat_template import Message as ChatMessage
from codegym_jax.data.conversation import read_assistant_message, render_conversation
from codegym_jax.data.messages import MessagesError
from codegym_jax.data.style import Content
from codegym_jax.evals.suites.play import SpeakerOf, Spoken, SuiteStop
from codegym_jax.evals.suites.suite import Message, SuiteFailure, SuiteSession
from codegym_jax.pipelines import preemption
from codegym_jax.pipelines.episode_rules import tokenizer_path
from codegym_jax.pipelines.stages import stage_params
from codegym_jax.pipelines.suites import PolicyLine
from codegym_jax.pipelines.workbench import Workbench, file_digest
from codegym_jax.rollout.completion_sampler import completion_sampler
from codegym_jax.rollout.completions import STOP, Completion, CompletionEngine, CompletionRequest
from codegym_jax.rollout.token_sampler import episode_key
from codegym_jax.trainer.state import params_hash

_TOKENS_A_CALL = 16
"""Of the device, between two looks at what has ended."""
_LOOK_S = 0.5
"""Between two looks at whether to stop, while a message is sampled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a policy speaks in suites. The defaults are the paper's (section 5.1), as far as it tells."""

    temperature: float = 0.7
    top_p: float = 0.95
    max_message_tokens: int = 1024
    context_tokens: int = 8192


class Policy:
    """A policy that speaks."""

    def __init__(self, engine: CompletionEngine, renderer: Renderer, manner: Manner, seed: int) -> None:
        self._engine, self._renderer, self._manner, self._seed = engine, renderer, manner, seed

    def speaker_of(self, instructions: str) -> SpeakerOf:
        """Speakers that are told `instructions` beside what the suite tells."""

        def speaker(session: SuiteSession, task: str, run: int) -> "_PolicySpeaker":
            return _PolicySpeaker(self, session.opening.tools, instructions, task, run)

        return speaker

    def open(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[int]:
        """A conversation up to where the policy's first message begins."""
        return render_conversation(self._renderer, messages, tools)

    def append(self, heard: Sequence[Message], last: int) -> list[int]:
        """What follows a message whose last token is `last`."""
        closing = [] if last == self._renderer.stop_id else [self._renderer.stop_id]
        said = [ChatMessage(one["role"], (Content(_text(one)),)) for one in heard]
        return closing + self._renderer.render_following(said)

    def sample(self, ids: Sequence[int], task: str, run: int, turn: int) -> Completion:
        """One message."""
        request = CompletionRequest(
            token_ids=tuple(ids),
            max_tokens=self._manner.max_message_tokens,
            key=episode_key(self._seed, f"{task}\0{turn}", run),
            temperature=self._manner.temperature,
            top_p=self._manner.top_p,
        )
        return _await(self._engine.submit(request))

    def read(self, ids: Sequence[int], tools: Sequence[Mapping[str, Any]]) -> Message:
        """A message as suites take it."""
        return read_assistant_message(self._renderer, ids, tools)

    @property
    def context_tokens(self) -> int:
        return self._engine.context_tokens


class _PolicySpeaker:
    """The policy's side of one attempt."""

    def __init__(
        self, policy: Policy, tools: Sequence[Mapping[str, Any]], instructions: str, task: str, run: int
    ) -> None:
        self._policy, self._tools, self._instructions = policy, tools, instructions
        self._task, self._run = task, run
        self._turn = 0
        self._ids: list[int] = []

    def say(self, heard: Sequence[Message]) -> Spoken:
        try:
            self._ids += self._hear(heard)
        except (RenderError, MessagesError, ChatTemplateError) as error:
            raise SuiteFailure(f"{self._task}: {error}") from error
        if len(self._ids) >= self._policy.context_tokens:
            return Spoken(stop=SuiteStop.MAX_TOKENS if self._turn else SuiteStop.PROMPT_TOO_LONG)
        completion = self._policy.sample(self._ids, self._task, self._run, self._turn)
        self._turn += 1
        self._ids += completion.token_ids
        count = len(completion.token_ids)
        message = self._policy.read(completion.token_ids, self._tools)
        if completion.finish_reason == STOP:
            return Spoken(message=message, tokens=count)
        full = len(self._ids) >= self._policy.context_tokens
        stop = SuiteStop.MAX_TOKENS if full else SuiteStop.MESSAGE_TOO_LONG
        return Spoken(message=message, stop=stop, tokens=count)

    def _hear(self, heard: Sequence[Message]) -> list[int]:
        if self._turn:
            return self._policy.append(heard, self._ids[-1])
        return self._policy.open(with_instructions(heard, self._instructions), self._tools)


def with_instructions(messages: Sequence[Message], instructions: str) -> list[Message]:
    """The opening of a conversation with more words in its system message, its own or one made for them."""
    said = [dict(message) for message in messages]
    if not instructions:
        return said
    if said and said[0]["role"] == "system":
        own = {**said[0], "content": f"{_text(said[0])}\n\n{instructions}"}
        return [own, *said[1:]]
    return [{"role": "system", "content": instructions}, *said]


@contextmanager
def opened_policy(bench: Workbench, params: Any, manner: Manner, slots: int) -> Iterator[Policy]:
    """The policy of a run, for the time of a `with` block.

    Args:
      bench: of the run.
      params: the learner's.
      manner: of speaking.
      slots: sessions at the same time.

    Raises:
      UserError: when the style of the run has no form for chats that are no environment's.
    """
    sampler = completion_sampler(
        bench.sampling_model,
        bench.sampling_mesh,
        slots=slots,
        context_tokens=manner.context_tokens,
        tokens_a_call=min(_TOKENS_A_CALL, manner.max_message_tokens),
        stop_sequences=bench.renderer.stop_sequences,
    )
    with CompletionEngine(sampler, bench.sampling_params(params)) as engine:
        yield Policy(engine, bench.renderer, manner, bench.config.seed)


@contextmanager
def playing_policy(
    bench: Workbench, stage: str, manner: Manner, slots: int
) -> Iterator[Callable[[], PolicyLine]]:
    """What a stage of a run saved, as a line of suites; opened when asked for, closed with the block."""
    with ExitStack() as stack:

        def open_line() -> PolicyLine:
            params = stage_params(bench, stage)
            policy = stack.enter_context(opened_policy(bench, params, manner, slots))
            identity = policy_identity(bench, params, manner)
            return PolicyLine(line=stage, identity=identity, speaker_of=policy.speaker_of)

        yield open_line


def policy_identity(bench: Workbench, params: Any, manner: Manner) -> dict[str, Any]:
    """What the attempts of a policy depend on beside the suite, task and run; JSON-able."""
    return {
        "parameters": params_hash(params),
        "compute_dtype": bench.config.policy.compute_dtype,
        "style": bench.config.style,
        "tokenizer": file_digest(tokenizer_path(bench.folder)),
        "seed": bench.config.seed,
        **asdict(manner),
    }


def _await(future: Future[Completion]) -> Completion:
    """The result, unless the command is to stop before it is there."""
    while True:
        try:
            preemption.check()
            return future.result(_LOOK_S)
        except TimeoutError:
            if future.done():  # then it is the future's own
                raise
        except preemption.Stopped:
            future.cancel()
            raise


def _text(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return "" if content is None else str(content)
