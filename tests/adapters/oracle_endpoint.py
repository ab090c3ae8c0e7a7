"""An OpenAI-compatible endpoint with an oracle behind it: says what a model would have to say."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from codegym_jax.records import Task

Message = dict[str, Any]
Policy = Callable[[list[Message]], list[tuple[str, str]]]
"""The messages so far -> what the assistant calls next, as (name, arguments); nothing: it says "I stop."."""


def oracle(tasks: Sequence[Task]) -> Policy:
    """Plays the oracle of whichever task the tools' answers are of.

    An oracle sees only what the tools told it, so tasks whose oracles were told the same do the same next.
    """

    def calls(messages: list[Message]) -> list[tuple[str, str]]:
        told = [message["content"] for message in messages if message["role"] == "tool"]
        for task in tasks:
            if list(task.oracle_observations[: len(told)]) == told:
                call = json.loads(task.oracle_actions[len(told)])
                return [(call["name"], json.dumps(call["parameters"]))]
        return []

    return calls


@contextlib.contextmanager
def served(policy: Policy) -> Iterator[str]:
    """The base URL of an endpoint that answers as a policy does, with and without streaming."""

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            calls = policy(body["messages"])
            message = _message(calls, sum(one["role"] == "assistant" for one in body["messages"]))
            reason = "tool_calls" if calls else "stop"
            if body.get("stream"):
                chunk = _completion("chat.completion.chunk", {"delta": message, "finish_reason": reason})
                self._answer("text/event-stream", f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n")
            else:
                whole = _completion("chat.completion", {"message": message, "finish_reason": reason})
                self._answer("application/json", json.dumps(whole))

        def _answer(self, kind: str, text: str) -> None:
            data = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _message(calls: list[tuple[str, str]], turn: int) -> Message:
    if not calls:
        return {"role": "assistant", "content": "I stop."}
    tool_calls = [
        {
            "index": index,
            "id": f"call_{turn}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for index, (name, arguments) in enumerate(calls)
    ]
    return {"role": "assistant", "content": None, "tool_calls": tool_calls}


def _completion(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": kind,
        "created": 0,
        "model": "oracle",
        "choices": [{"index": 0, **choice}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
