"""From an error to the status and the sentence with which a request is refused."""

from __future__ import annotations

import math

from modernrank import DeadlineError, InputError, ModernRankError, OverloadedError

from ..wires.base import Problem

# Characters of a reason; what a client sent may be quoted in it.
MAX_REASON = 600
# Seconds that a client should wait where nothing better is known.
RETRY_AFTER = 1


class RequestError(ModernRankError):
    """A request that is refused before it reaches a wire. Details: ``status``; ``retry_after`` in seconds or None."""

    def __init__(self, status: int, message: str, retry_after: float | None = None, close: bool = False) -> None:
        super().__init__(message, status=status, retry_after=retry_after)
        self.status = status
        self.retry_after = retry_after
        self.close = close  # whether the rest of the body is not read, so that the connection must end


KINDS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    408: "timeout",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "overloaded",
    431: "headers_too_large",
    503: "unavailable",
}
# Arguments whose limit is one of size.
SIZES = {"max_documents", "max_characters", "max_query_characters", "max_tokens"}


def status_of(error: ModernRankError) -> int:
    """The status of an answer.

    A deadline is one that the server sets, so that trying again later may help: 503.

    >>> status_of(InputError("no")), status_of(DeadlineError("late"))
    (422, 503)
    """
    if isinstance(error, RequestError):
        return error.status
    if isinstance(error, DeadlineError):
        return 503
    if isinstance(error, InputError) and error.details.get("argument") in SIZES:
        return 413
    return error.http_status


def retry_after_of(error: ModernRankError) -> int | None:
    """Whole seconds after which it is worth trying again; None where it is not."""
    if isinstance(error, RequestError) and error.retry_after is not None:
        return max(RETRY_AFTER, math.ceil(error.retry_after))
    if isinstance(error, OverloadedError):
        return max(RETRY_AFTER, math.ceil(error.details.get("retry_after") or 0))
    return RETRY_AFTER if status_of(error) in (429, 503) else None


def problem_of(error: ModernRankError, request_id: str = "") -> Problem:
    """What a wire says of it. The texts of server errors stay in the log, since they may name files."""
    status = status_of(error)
    if status >= 500 and status != 503:
        message = "the model failed to score this request; the server's log says why"
        return Problem(status, "server_error", message, request_id)
    return Problem(status, KINDS.get(status, "error"), shortened(str(error)), request_id)


def shortened(text: str) -> str:
    """A reason without megabytes of what the client sent.

    >>> len(shortened("x" * 10_000)) < 700
    True
    """
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON // 2]} … {text[-MAX_REASON // 2 :]}"
