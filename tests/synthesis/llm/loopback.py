"""An endpoint on loopback that speaks the OpenAI chat protocol, and misbehaves as a test tells it to."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Say:
    """A completion."""

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int = 100
    completion_tokens: int = 50


@dataclass(frozen=True)
class Fail:
    """An attempt that gives no completion."""

    status: int = 0
    """0: the connection is dropped."""
    body: str = '{"error": {"message": "no", "code": null}}'
    headers: dict[str, str] = field(default_factory=dict)
    in_the_middle: bool = False
    """Drops the connection after the first half of a good reply."""


@dataclass(frozen=True)
class Asked:
    """A request as the endpoint saw it."""

    key: str
    prompt: str
    seed: int
    body: dict[str, Any]
    attempt: int
    """Of the same key, from 0."""


class Endpoint:
    """What happened at the endpoint, and how it answers."""

    def __init__(self, answer: Callable[[Asked], Say | Fail]):
        self.answer = answer
        self.attempts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        """Completions that were sent whole, by key: what a user would pay for."""
        self.paid_tokens = 0
        """Of those completions."""
        self.seen: list[Asked] = []
        self.most_at_a_time = 0
        self.too_early = 0
        """Requests that came before a `Retry-After` had passed."""
        self.ended = threading.Event()
        """Set when the test is over; a slow answer waits for it."""
        self.quiet_until = 0.0
        self.lock = threading.Lock()
        self._now = 0
        self.url = ""

    def arrive(self, key: str, body: dict[str, Any]) -> Asked:
        with self.lock:
            self._now += 1
            self.most_at_a_time = max(self.most_at_a_time, self._now)
            self.too_early += time.monotonic() < self.quiet_until
            asked = Asked(
                key=key,
                prompt=body["messages"][-1]["content"],
                seed=body.get("seed", 0),
                body=body,
                attempt=self.attempts[key],
            )
            self.attempts[key] += 1
            self.seen.append(asked)
        return asked

    def leave(self) -> None:
        with self.lock:
            self._now -= 1


def _handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/chat/completions"
            asked = endpoint.arrive(self.headers["Idempotency-Key"], body)
            reply = None
            try:
                reply = endpoint.answer(asked)
            finally:
                endpoint.leave()
            if isinstance(reply, Say):
                self._send(200, json.dumps(_completion(reply, body)), {})
                with endpoint.lock:
                    endpoint.answered[asked.key] += 1
                    endpoint.paid_tokens += reply.prompt_tokens + reply.completion_tokens
            elif reply.in_the_middle:
                whole = json.dumps(_completion(Say("lost"), body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(whole)))
                self.end_headers()
                self.wfile.write(whole[: len(whole) // 2])
                self.close_connection = True
            elif reply.status == 0:
                self.close_connection = True
            else:
                if "Retry-After" in reply.headers:
                    wait_s = float(reply.headers["Retry-After"])
                    with endpoint.lock:
                        endpoint.quiet_until = max(endpoint.quiet_until, time.monotonic() + wait_s)
                self._send(reply.status, reply.body, reply.headers)

        def _send(self, status: int, text: str, headers: dict[str, str]) -> None:
            data = text.encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
                self.wfile.flush()
            except OSError:  # the client went away
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _completion(say: Say, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": say.text},
                "finish_reason": say.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": say.prompt_tokens,
            "completion_tokens": say.completion_tokens,
            "total_tokens": say.prompt_tokens + say.completion_tokens,
        },
    }


@contextmanager
def serving(answer: Callable[[Asked], Say | Fail]) -> Iterator[Endpoint]:
    """An endpoint for the time of a `with` block; its address is `url`."""
    endpoint = Endpoint(answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(endpoint))
    server.daemon_threads = True
    server.block_on_close = False
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
