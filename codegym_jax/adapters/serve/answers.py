"""Answers in OpenAI's form: one object, or the chunks of a stream.

Source: https://platform.openai.com/docs/api-reference/chat/object and .../chat-streaming; the keys
`prompt_token_ids` and `token_ids` are vLLM's.
"""

import json
import math
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from codegym_jax.adapters.serve.exchange import Exchange, Heard
from codegym_jax.adapters.serve.speech import Ending, Token
from codegym_jax.data.chat import Renderer

_HARDLY = -9999.0
"""OpenAI's stand-in for a logarithm that JSON has no number for."""
END_OF_STREAM = "data: [DONE]\n\n"


class Answer:
    """The frame of all that one request gets.

    Args:
      exchange: what is answered.
      model: its name.
      created: seconds since 1970.
    """

    def __init__(self, exchange: Exchange, model: str, created: int) -> None:
        self._exchange, self._asked = exchange, exchange.asked
        self._name = secrets.token_hex(12)
        self._frame = {"id": f"chatcmpl-{self._name}", "created": created, "model": model}

    def whole(self, endings: Sequence[Ending]) -> dict[str, Any]:
        """The answer in one piece; the endings of all choices, in their order."""
        choices = [
            {
                "index": index,
                "message": {"refusal": None, **self._named(ending, index)},
                "finish_reason": ending.finish_reason,
                **self._scores(speech.tokens),
            }
            for index, (ending, speech) in enumerate(zip(endings, self._exchange.speeches, strict=True))
        ]
        answer = {**self._frame, "object": "chat.completion", "choices": choices, "usage": self.usage()}
        return answer | ({"prompt_token_ids": self._prompt} if self._asked.return_token_ids else {})

    def chunks(self, heard: Heard) -> Iterator[dict[str, Any]]:
        """What a stream says of something that was heard; nothing where there is nothing to tell yet."""
        if heard.told is not None:
            scores = self._scores(heard.told.tokens)
            if heard.told.text or self._asked.logprobs or self._asked.return_token_ids:
                yield self._chunk(heard.choice, {"content": heard.told.text}, None, scores)
        if heard.ending is not None:
            if heard.ending.rest:
                yield self._chunk(heard.choice, {"content": heard.ending.rest}, None)
            message = self._named(heard.ending, heard.choice)
            for number, call in enumerate(message.get("tool_calls", ())):
                yield self._chunk(heard.choice, {"tool_calls": [{"index": number, **call}]}, None)
            yield self._chunk(heard.choice, {}, heard.ending.finish_reason)

    def opening(self) -> Iterator[dict[str, Any]]:
        """The first chunk of every choice, before anything is heard."""
        for index in range(self._asked.choices):
            chunk = self._chunk(index, {"role": "assistant", "content": ""}, None)
            yield chunk | ({"prompt_token_ids": self._prompt} if self._asked.return_token_ids else {})

    def closing(self) -> Iterator[dict[str, Any]]:
        """The last chunk, where the usage was asked for."""
        if self._asked.include_usage:
            frame = {**self._frame, "object": "chat.completion.chunk"}
            yield {**frame, "choices": [], "usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """Tokens read and written."""
        read, written = len(self._prompt), self._exchange.completion_tokens
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    @property
    def _prompt(self) -> list[int]:
        return list(self._exchange.prompt)

    def _chunk(
        self, index: int, delta: dict[str, Any], reason: str | None, scores: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "finish_reason": reason, **(scores or {"logprobs": None})}
        return {**self._frame, "object": "chat.completion.chunk", "choices": [choice]}

    def _named(self, ending: Ending, index: int) -> dict[str, Any]:
        """The message, its calls named so that no other message's have their names."""
        message = dict(ending.message)
        if "tool_calls" in message:
            calls = message["tool_calls"]
            message["tool_calls"] = [
                {**call, "id": f"call_{self._name}_{index}_{number}"} for number, call in enumerate(calls)
            ]
        return message

    def _scores(self, tokens: Sequence[Token]) -> dict[str, Any]:
        renderer = self._exchange.renderer
        content = [_scored(renderer, token) for token in tokens]
        found: dict[str, Any] = {
            "logprobs": {"content": content, "refusal": None} if self._asked.logprobs else None
        }
        return found | (
            {"token_ids": [token.token_id for token in tokens]} if self._asked.return_token_ids else {}
        )


def event(value: Any) -> str:
    """One event of a stream."""
    return f"data: {json.dumps(value, allow_nan=False)}\n\n"


def _scored(renderer: Renderer, token: Token) -> dict[str, Any]:
    """A token's log-probability. What is only a part of a character has no text and no bytes of its own."""
    text = renderer.decode([token.token_id])
    whole = "\ufffd" not in text
    return {
        "token": text,
        "logprob": token.logp if math.isfinite(token.logp) else _HARDLY,
        "bytes": list(text.encode()) if whole else None,
        "top_logprobs": [],
    }
