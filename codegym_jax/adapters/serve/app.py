"""The routes: `/v1/chat/completions`, `/v1/models`, `/health`, `/metrics`; and who may ask for what.

A request goes through body, form, prompt, queue and sampling, and each may refuse it. What a client no longer
waits for is cancelled at once. Tools are named to the policy and in its answers; none is ever executed here.
"""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from codegym_jax.adapters.serve import counters
from codegym_jax.adapters.serve.answers import END_OF_STREAM, Answer, event
from codegym_jax.adapters.serve.asked import read_request
from codegym_jax.adapters.serve.counters import Counters
from codegym_jax.adapters.serve.exchange import Exchange, open_exchange
from codegym_jax.adapters.serve.limits import Limits
from codegym_jax.adapters.serve.refusals import SERVER, Refusal, timed_out, too_busy, unavailable
from codegym_jax.adapters.serve.speech import Ending
from codegym_jax.data.chat import Renderer
from codegym_jax.report.live.server import trusted
from codegym_jax.rollout.completions import CompletionEngine

_CLIENT_LEFT = 499
"""The usual status for it, in counts alone: nobody is there to read it."""
Answerer = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True, kw_only=True)
class Service:
    """What is served, and to whom."""

    engine: CompletionEngine
    renderer: Renderer
    model_name: str
    limits: Limits = field(default_factory=Limits)
    token: str = ""
    """What a client must bring; empty lets in everyone who names a known host."""
    hosts: Sequence[str] = ()
    """Names of this machine. Without a token, a request for another name comes from a web page that was made
    to lead here, and is refused."""
    counters: Counters = field(init=False)
    started: int = field(init=False)
    open_choices: int = 0
    """That run or wait."""

    def __post_init__(self) -> None:
        self.counters = Counters(self.engine)
        self.started = int(time())


def make_app(service: Service) -> Starlette:
    """The application."""

    def route(path: str, method: str, answer: Callable[[Service, Request], Awaitable[Response]]) -> Route:
        return Route(path, _guarded(service, path, answer), methods=[method])

    return Starlette(
        routes=[
            route("/v1/chat/completions", "POST", _chat),
            route("/v1/models", "GET", _models),
            route("/v1/models/{name:path}", "GET", _model),
            route("/health", "GET", _health),
            route("/metrics", "GET", _metrics),
        ],
        exception_handlers={HTTPException: _no_route, Exception: _broken},
    )


def _guarded(
    service: Service, path: str, answer: Callable[[Service, Request], Awaitable[Response]]
) -> Answerer:
    """The answer to those who may have it, counted; refusals in OpenAI's form."""

    async def respond(request: Request) -> Response:
        try:
            _admit(service, path, request)
            response = await answer(service, request)
        except Refusal as refusal:
            response = refusal.response()
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_LEFT)
        except asyncio.CancelledError:  # what still runs when the server has waited for it long enough
            response = _stopped().response()
        service.counters.answers.labels(path, str(response.status_code)).inc()
        return response

    return respond


def _admit(service: Service, path: str, request: Request) -> None:
    """Refuses those without the token; whether the server lives may be asked by all."""
    if not service.token:
        host = request.headers.get("host", "")
        if not trusted(host, {*service.hosts, "localhost"}):
            raise Refusal(421, f"not the host {host[:100]!r}")
    elif path != "/health":
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(token.strip().encode(), service.token.encode())
        if scheme.lower() != "bearer" or not same:
            raise Refusal(401, "a bearer token is needed, and this is not it", code="invalid_api_key")


async def _chat(service: Service, request: Request) -> Response:
    arrived = monotonic()
    asked = read_request(await _body(request, service.limits), service.limits)
    if asked.model != service.model_name:
        raise _unknown_model(service, asked.model)
    if not service.engine.healthy:
        raise unavailable("the policy has failed; the server must be started again")
    exchange = await asyncio.to_thread(open_exchange, asked, service.engine, service.renderer, service.limits)
    answer = Answer(exchange, service.model_name, int(time()))
    place = _Place(service, asked.choices, arrived)
    if not asked.stream:
        with place:
            return await _unless_gone(request, _whole(exchange, answer, place))
    place.take()  # before the answer begins: a full queue is told by its status
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    stream = _stream(exchange, answer, place)
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


class _Place:
    """A request's place in the queue, from `take` or the beginning of a `with` block until that ends.

    Args:
      service: whose.
      choices: that will run or wait.
      arrived: when the request did, by the monotonic clock.
    """

    def __init__(self, service: Service, choices: int, arrived: float) -> None:
        self._service, self._choices, self._arrived = service, choices, arrived
        self._taken = self._spoken = False

    def take(self) -> None:
        """Refuses (429) when too many wait."""
        service = self._service
        waiting = service.open_choices + self._choices - service.engine.load().slots
        if waiting > service.limits.waiting:
            raise too_busy(max(0, waiting - self._choices))
        service.open_choices += self._choices
        self._taken = True

    def __enter__(self) -> "_Place":
        if not self._taken:
            self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self._service.open_choices -= self._choices

    def first_token(self) -> None:
        """Is told of every token; the first counts."""
        if not self._spoken:
            self._service.counters.first_token_s.observe(monotonic() - self._arrived)
        self._spoken = True

    def answered(self, usage: Mapping[str, int]) -> None:
        """Is told of the end."""
        counts = self._service.counters
        counts.answer_s.observe(monotonic() - self._arrived)
        counts.prompt_tokens.inc(usage["prompt_tokens"])
        counts.completion_tokens.inc(usage["completion_tokens"])


async def _whole(exchange: Exchange, answer: Answer, place: _Place) -> Response:
    endings: dict[int, Ending] = {}
    async with contextlib.aclosing(exchange.heard()) as heard:
        async for news in heard:
            place.first_token()
            if news.ending is not None:
                endings[news.choice] = news.ending
    place.answered(answer.usage())
    return JSONResponse(answer.whole([endings[choice] for choice in range(len(endings))]))


async def _stream(exchange: Exchange, answer: Answer, place: _Place) -> AsyncIterator[str]:
    """Events; a refusal that comes when the answer has begun is the last of them."""
    with place:
        for chunk in answer.opening():
            yield event(chunk)
        try:
            async with contextlib.aclosing(exchange.heard()) as heard:
                async for news in heard:
                    place.first_token()
                    for chunk in answer.chunks(news):
                        yield event(chunk)
        except Refusal as refusal:
            yield event(refusal.body())
            return
        except asyncio.CancelledError:
            yield event(_stopped().body())
            return
        for chunk in answer.closing():
            yield event(chunk)
        place.answered(answer.usage())
        yield END_OF_STREAM


async def _unless_gone(request: Request, work: Awaitable[Response]) -> Response:
    """What work gives; it is cancelled when the client leaves."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request, limits: Limits) -> bytes:
    """A request's body, read as far as the limits go."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which a form on somebody's web page cannot send
        raise Refusal(415, f"the content type must be application/json, got {kind[:100]!r}")
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_s):
            async for part in request.stream():
                body += part
                if len(body) > limits.body_bytes:
                    raise Refusal(413, f"the body has more than {limits.body_bytes} bytes")
    except TimeoutError as error:
        raise timed_out(limits.body_s, "the body") from error
    return bytes(body)


def _stopped() -> Refusal:
    return unavailable("the server was told to stop")


def _unknown_model(service: Service, name: str) -> Refusal:
    message = f"the model {name[:100]!r} is not served here; {service.model_name!r} is"
    return Refusal(404, message, param="model", code="model_not_found")


def _description(service: Service) -> dict[str, Any]:
    return {
        "id": service.model_name,
        "object": "model",
        "created": service.started,
        "owned_by": "codegym",
        "max_model_len": service.engine.context_tokens,
    }


async def _models(service: Service, request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_description(service)]})


async def _model(service: Service, request: Request) -> Response:
    name = request.path_params["name"]
    if name != service.model_name:
        raise _unknown_model(service, name)
    return JSONResponse(_description(service))


async def _health(service: Service, request: Request) -> Response:
    if not service.engine.healthy:
        raise unavailable("the policy has failed; the server must be started again")
    return JSONResponse({"status": "ok"})


async def _metrics(service: Service, request: Request) -> Response:
    return PlainTextResponse(service.counters.text(), headers={"content-type": counters.CONTENT_TYPE})


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path[:100]}: {error.detail}"
    return Refusal(error.status_code, message, code="unknown_url").response()


async def _broken(request: Request, error: Exception) -> Response:
    return Refusal(500, "the server failed", code="internal_error", kind=SERVER).response()
