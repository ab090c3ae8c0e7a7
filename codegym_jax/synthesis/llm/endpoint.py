"""One attempt at one completion, and what a failure means: try again, never this one, never any."""

import asyncio
import email.utils
import json
import time
from typing import Any

from codegym_jax.config import ConfigError, UserError
from codegym_jax.synthesis.llm.ledger import Usage
from codegym_jax.synthesis.llm.settings import EndpointConfig
from codegym_jax.synthesis.llm.store import Completion, Request

_RETRIED_STATUSES = frozenset({408, 409, 425, 429})
_FATAL_STATUSES = frozenset({401, 402, 403, 404})
_MESSAGE_TOKENS = 64  # what an endpoint's own framing of a chat adds, at most


class Transient(Exception):
    """The attempt failed in a way that may pass."""

    def __init__(self, cause: str, wait_s: float = 0.0):
        super().__init__(cause)
        self.cause = cause
        """A counted key: `rate_limited`, `server_error`, `timed_out`, `dropped`, `malformed`."""
        self.wait_s = wait_s
        """What the endpoint asks to be left alone for."""


class RequestRefused(Exception):
    """The endpoint will not answer this request, however often it is sent."""


class EndpointError(UserError):
    """The endpoint refuses every request: a wrong key, address or model, or an account without money."""


class Endpoint:
    """An OpenAI-compatible endpoint."""

    def __init__(self, config: EndpointConfig, api_key: str):
        """Connects to nothing yet.

        Raises:
          ConfigError: when the package `openai` is not installed.
        """
        try:
            import openai
        except ImportError as error:
            raise ConfigError("the LLM synthesizer needs the package openai: codegym-jax[synth]") from error
        self._openai = openai
        self._timeout_s = config.timeout_s
        self._client = openai.AsyncOpenAI(
            base_url=config.base_url, api_key=api_key or "none", max_retries=0, timeout=config.timeout_s
        )

    async def attempt(self, request: Request) -> Completion:
        """Sends a request once.

        Raises:
          Transient: when another attempt may succeed.
          RequestRefused: when none will.
          EndpointError: when no request will succeed.
        """
        openai = self._openai
        body: dict[str, Any] = {
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "seed": request.index,
            **json.loads(request.extra_json),
        }
        try:
            async with asyncio.timeout(self._timeout_s):  # openai's own is of silence, not of the whole
                response = await self._client.chat.completions.with_raw_response.create(
                    model=request.model,
                    messages=[{"role": "user", "content": request.prompt}],
                    extra_body={name: value for name, value in body.items() if value is not None},
                    extra_headers={"Idempotency-Key": request.key},
                )
        except (TimeoutError, openai.APITimeoutError):
            raise Transient("timed_out") from None
        except openai.APIConnectionError as error:
            raise Transient("dropped") from error
        except openai.APIStatusError as error:
            raise _meaning(error.status_code, error.response.headers, _code(error), str(error)) from error
        return _completion(response.http_response.text, request)

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.close()


def most(request: Request) -> Usage:
    """The most tokens that a request can take: no tokenizer makes more tokens than bytes of a prompt."""
    return Usage(
        len(request.prompt.encode("utf-8", "backslashreplace")) + _MESSAGE_TOKENS, request.max_tokens
    )


def retry_after_s(value: str | None, now_s: float) -> float:
    """Seconds to wait by the header `Retry-After`, a number or a date; 0 where it says nothing sensible.

    Args:
      now_s: seconds since 1970.
    """
    if not value:
        return 0.0
    try:
        return max(float(value), 0.0) if float(value) < float("inf") else 0.0
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - now_s, 0.0)
    except ValueError:
        return 0.0


def _meaning(status: int, headers: Any, code: str, text: str) -> Exception:
    if code == "insufficient_quota" or status in _FATAL_STATUSES:
        return EndpointError(f"the endpoint refuses with status {status}: {text[:500]}")
    if status == 429:
        return Transient("rate_limited", retry_after_s(headers.get("retry-after"), time.time()))
    if status >= 500 or status in _RETRIED_STATUSES:
        return Transient("server_error", retry_after_s(headers.get("retry-after"), time.time()))
    return RequestRefused(f"status {status}: {text[:500]}")


def _code(error: Any) -> str:
    """The error code in an error's body, if it holds one."""
    body = error.body
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, str) else ""


def _completion(text: str, request: Request) -> Completion:
    """The first choice of a reply.

    Raises:
      Transient: when the reply is no chat completion.
    """
    try:
        reply = json.loads(text)
        choice = reply["choices"][0]
        content = choice["message"]["content"]
        finish_reason = choice["finish_reason"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError):
        raise Transient("malformed") from None
    if not isinstance(content, str | None) or not isinstance(finish_reason, str):
        raise Transient("malformed")
    usage = reply.get("usage")
    bound = most(request)
    return Completion(
        text=content or "",
        finish_reason=finish_reason,
        prompt_tokens=_count(usage, "prompt_tokens", bound.prompt_tokens),
        completion_tokens=_count(usage, "completion_tokens", bound.completion_tokens),
    )


def _count(usage: Any, name: str, bound: int) -> int:
    """A number of tokens; the bound where an endpoint does not tell."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and value >= 0 else bound
