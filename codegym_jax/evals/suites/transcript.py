"""Attempts at suites as text, for people."""

import json
from collections.abc import Iterable

from codegym_jax.evals.suites.play import Attempt
from codegym_jax.evals.suites.suite import Message

_RULE = "=" * 100


def transcripts(attempts: Iterable[Attempt]) -> str:
    """The attempts one after the other. What was said is indented, so that no text can pass for a heading."""
    parts: list[str] = []
    for attempt in attempts:
        parts += [
            _RULE,
            f"task {attempt.task}, run {attempt.run}",
            f"score {attempt.score:g}, {attempt.stop}, {attempt.turns} messages, {attempt.calls} calls,"
            f" {attempt.tokens} tokens of the policy",
            *([f"error: {attempt.error.splitlines()[0]}"] if attempt.error else []),
            f"tools: {', '.join(attempt.tools) or 'none'}",
            "",
        ]
        for message in attempt.messages:
            parts += _said(message)
        if attempt.detail:
            parts += ["[what the suite says]", *_indented(json.dumps(attempt.detail, ensure_ascii=False)), ""]
    text = "\n".join(parts) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate is no character


def _said(message: Message) -> list[str]:
    content = message.get("content")
    text = content if isinstance(content, str) else "" if content is None else json.dumps(content)
    calls = [
        f"{call.get('function', {}).get('name', '')}({call.get('function', {}).get('arguments', '')})"
        for call in message.get("tool_calls") or ()
    ]
    return [f"[{message['role']}]", *_indented(text), *(f"    -> {_one_line(call)}" for call in calls), ""]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]
