"""What one server takes on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Beyond these a request is refused, or its answer ends."""

    body_bytes: int = 4 * 2**20
    answer_tokens: int = 4096
    """Sampled for one choice; asked for more, it ends there for its length."""
    choices: int = 16
    """Of one request."""
    waiting: int = 256
    """Choices that wait for a slot."""
    body_s: float = 30.0
    """Until a request has been read."""
    answer_s: float = 600.0
    """From there until it has been answered, waiting included."""
    drain_s: float = 60.0
    """For the requests that run when the server is told to stop."""
