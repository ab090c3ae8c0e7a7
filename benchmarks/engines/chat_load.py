"""Clients of an OpenAI-compatible server, each of which streams one answer after the other."""

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One answer."""

    first_token_s: float
    """From the request to the first text."""
    tokens: int


def load(
    port: int, *, clients: int, answers: int, prompt: int, tokens: int, seed: str
) -> tuple[float, list[Heard]]:
    """Seconds until every client has all its answers, and the answers.

    Args:
      port: of the server, on this machine.
      clients: at once.
      answers: of each client.
      prompt: letters of a prompt, which differ from any other's.
      tokens: of an answer, at most.
      seed: of the prompts.
    """
    name = _model(port)
    heard: list[list[Heard]] = [[] for _ in range(clients)]
    failed: list[BaseException] = []

    def client(index: int) -> None:
        letters = random.Random(f"{seed} {index}")
        try:
            for _ in range(answers):
                text = "".join(letters.choices("abcdefgijklmnopqrsuvwxyz ", k=prompt))
                heard[index].append(_ask(port, name, text, tokens))
        except Exception as error:  # the thread's boundary: told by the one that started it
            failed.append(error)

    threads = [threading.Thread(target=client, args=(index,)) for index in range(clients)]
    start_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return time.perf_counter() - start_s, [one for of_client in heard for one in of_client]


def is_ready(port: int) -> bool:
    """Whether the server answers."""
    try:
        return bool(_model(port))
    except (OSError, http.client.HTTPException, ValueError, LookupError):
        return False


def _model(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v1/models")
        return json.loads(connection.getresponse().read())["data"][0]["id"]
    finally:
        connection.close()


def _ask(port: int, model: str, text: str, tokens: int) -> Heard:
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0.0,
        "stream": True,
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3600)
    try:
        start_s = time.perf_counter()
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(asked), {"content-type": "application/json"}
        )
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {response.read(500)!r}")
        return _listen(response, start_s, tokens)
    finally:
        connection.close()


def _listen(response: http.client.HTTPResponse, start_s: float, tokens: int) -> Heard:
    """An answer that is cut by its length has all its tokens, however few chunks brought them."""
    first_s, chunks, reason = 0.0, 0, ""
    for line in response:
        event = line.strip().removeprefix(b"data: ")
        if not line.startswith(b"data: ") or event == b"[DONE]":  # a server may send comments meanwhile
            continue
        for choice in json.loads(event).get("choices", ()):
            reason = choice.get("finish_reason") or reason
            if choice["delta"].get("content"):
                first_s = first_s or time.perf_counter() - start_s
                chunks += 1
    return Heard(first_token_s=first_s, tokens=tokens if reason == "length" else chunks)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
