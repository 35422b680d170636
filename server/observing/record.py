"""What is known of a request while it goes on, for its log line, its metrics and its trace. No text is in it."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from modernrank import CallReport

# What a client may choose as the id of a request.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")
# The status of a request whose client left before the answer; it is in logs and metrics alone.
CLIENT_LEFT = 499


@dataclass
class Record:
    """A request.

    request_id: from the client's ``x-request-id`` or ``traceparent``, or made up.
    wire, model, documents, report, truncated: known when the body is read, or the call done.
    """

    request_id: str
    method: str
    path: str
    wire: str = ""
    model: str = ""
    documents: int = 0
    truncated: int = 0
    status: int = 0
    report: CallReport = field(default_factory=CallReport)
    begun: float = field(default_factory=time.perf_counter)
    parse_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def is_scoring(self) -> bool:
        """Whether the request was one for scores, as far as it came."""
        return bool(self.wire)


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The id of a request.

    >>> request_id_of({b"x-request-id": b"abc-1"})
    'abc-1'
    >>> request_id_of({b"traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    '4bf92f3577b34da6a3ce929d0e0e4736'
    >>> len(request_id_of({b"x-request-id": b"two words"}))
    32
    """
    given = headers.get(b"x-request-id", b"")
    if REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    if found := TRACEPARENT.fullmatch(headers.get(b"traceparent", b"")):
        return found[1].decode("ascii")
    return uuid.uuid4().hex
