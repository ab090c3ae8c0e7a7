"""What a server says no with: OpenAI's form of errors, which its clients turn into exceptions of their own.

Source: https://platform.openai.com/docs/guides/error-codes (status codes and the object `error`).
"""

from typing import Any

from starlette.responses import JSONResponse

INVALID, SERVER = "invalid_request_error", "server_error"


class Refusal(Exception):
    """Ends a request with an error.

    Args:
      status: of HTTP.
      message: for people; names what to change.
      param: the part of the request that is wrong.
      code: for programs.
      kind: OpenAI's `type`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = INVALID,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.kind = status, param, code, kind

    def body(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """As an answer."""
        retry = {"retry-after": "1"} if self.status in (429, 503) else None
        return JSONResponse(self.body(), self.status, headers=retry)


def bad(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    """A request that must be changed before it can be answered."""
    return Refusal(400, message, param=param, code=code)


def timed_out(seconds: float, what: str) -> Refusal:
    """Something took longer than the server waits."""
    return Refusal(408, f"{what} took more than {seconds:g} seconds", code="timeout", kind="timeout")


def too_busy(waiting: int) -> Refusal:
    """The queue is full."""
    message = f"{waiting} requests are waiting already; try again later"
    return Refusal(429, message, code="rate_limit_exceeded", kind="rate_limit_error")


def unavailable(message: str) -> Refusal:
    """The policy cannot answer, whatever is asked."""
    return Refusal(503, message, code="unavailable", kind=SERVER)
