"""One request's completions: submitted together, heard as they come, given up when nobody listens."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

from codegym_jax.adapters.serve.asked import Asked
from codegym_jax.adapters.serve.limits import Limits
from codegym_jax.adapters.serve.refusals import bad, timed_out, unavailable
from codegym_jax.adapters.serve.speech import Ending, Speech, Told
from codegym_jax.data.chat import Renderer
from codegym_jax.data.chat_template import ChatTemplateError
from codegym_jax.data.conversation import render_call_begin, render_conversation
from codegym_jax.data.messages import MessagesError
from codegym_jax.rollout.completions import (
    STOP,
    Completion,
    CompletionEngine,
    CompletionRequest,
    EngineClosed,
)
from codegym_jax.rollout.token_sampler import episode_key


@dataclass(frozen=True, slots=True)
class Heard:
    """Something new of one choice; `ending` where it is the last."""

    choice: int
    told: Told | None = None
    ending: Ending | None = None


@dataclass(slots=True)
class Exchange:
    """A request that waits for its answer.

    Attributes:
      prompt: ids that the policy goes on from; how a forced call begins is among them.
    """

    asked: Asked
    engine: CompletionEngine
    renderer: Renderer
    limits: Limits
    prompt: tuple[int, ...]
    begun: tuple[int, ...]
    speeches: list[Speech]

    @property
    def completion_tokens(self) -> int:
        """Sampled so far, over all choices."""
        return sum(len(speech.tokens) for speech in self.speeches)

    async def heard(self) -> AsyncGenerator[Heard, None]:
        """What comes of all choices, in the order in which it comes.

        Raises:
          Refusal: when it takes too long, or the policy fails.
        """
        loop = asyncio.get_running_loop()
        news: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()

        def tell(item: tuple[int, Any]) -> None:
            loop.call_soon_threadsafe(news.put_nowait, item)

        deadline = loop.time() + self.limits.answer_s
        futures: list[Future[Completion]] = []
        try:
            futures += [self._submit(choice, tell) for choice in range(self.asked.choices)]
            speaking = set(range(self.asked.choices))
            while speaking:
                try:
                    async with asyncio.timeout_at(deadline):
                        choice, item = await news.get()
                except TimeoutError as error:
                    raise timed_out(self.limits.answer_s, "the answer") from error
                if choice not in speaking:
                    continue  # it was cut short, and this is what came until then
                speech = self.speeches[choice]
                if isinstance(item, Future):
                    speaking.remove(choice)
                    yield Heard(choice, ending=speech.end(_result(item).finish_reason))
                    continue
                yield Heard(choice, speech.hear(*item))
                if speech.stopped:
                    speaking.remove(choice)
                    futures[choice].cancel()
                    yield Heard(choice, ending=speech.end(STOP))
        finally:
            for future in futures:
                future.cancel()

    def _submit(self, choice: int, tell: Any) -> Future[Completion]:
        asked = self.asked
        request = CompletionRequest(
            token_ids=self.prompt,
            max_tokens=min(asked.max_tokens or self.limits.answer_tokens, self.limits.answer_tokens),
            key=episode_key(asked.seed if asked.seed is not None else secrets.randbits(64), "chat", choice),
            temperature=asked.temperature,
            top_p=asked.top_p,
            top_k=asked.top_k,
            min_p=asked.min_p,
        )
        try:
            future = self.engine.submit(request, lambda ids, logps: tell((choice, (ids, logps))))
        except EngineClosed as error:
            raise unavailable("the policy is not there any more") from error
        future.add_done_callback(lambda done: tell((choice, done)))
        return future


def open_exchange(asked: Asked, engine: CompletionEngine, renderer: Renderer, limits: Limits) -> Exchange:
    """Renders a request, which may take long for a large one; submits nothing yet.

    Raises:
      Refusal: 400, when there is no form for its messages, or no room for an answer.
    """
    try:
        prompt = render_conversation(renderer, asked.messages, asked.tools)
    except MessagesError as error:
        raise bad(str(error), "messages") from error
    except ChatTemplateError as error:
        raise bad(
            f"this policy's chat template has no form for these messages: {error}", "messages"
        ) from error
    except RecursionError as error:
        raise bad("messages or tools are nested too deeply") from error
    begun = tuple(render_call_begin(renderer, asked.function)) if asked.must_call else ()
    whole = (*prompt, *begun)
    if len(whole) >= engine.context_tokens:
        # litellm knows this error by its first words, and so do clients that look for them.
        raise bad(
            f"This model's maximum context length is {engine.context_tokens} tokens, answer included;"
            f" these messages have {len(whole)}",
            "messages",
            "context_length_exceeded",
        )
    speeches = [_speech(asked, renderer, begun) for _ in range(asked.choices)]
    return Exchange(asked, engine, renderer, limits, whole, begun, speeches)


def _speech(asked: Asked, renderer: Renderer, begun: Sequence[int]) -> Speech:
    return Speech(renderer, asked.tools, asked.stop, begun, one_call=asked.one_call)


def _result(future: Future[Completion]) -> Completion:
    try:
        return future.result()
    except (CancelledError, EngineClosed) as error:
        raise unavailable("the policy was closed") from error
    except Exception as error:  # the boundary: whatever the device says ends this answer alone
        raise unavailable("the policy failed") from error
