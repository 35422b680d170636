"""The endpoint of all wires: body in, call carried out, answer in the form that the client speaks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from modernrank import ModernRankError
from modernrank.errors import InputError

from ..carry_out import carry_out
from ..models import LoadedModel
from ..observing.record import Record
from ..wires.base import Call, Outcome, RankCall, Wire
from .body import ClientLeftError, check_content_type, parse_json
from .gate import RECORD
from .problems import RequestError, problem_of, retry_after_of, status_of
from .service import Service

logger = logging.getLogger("modernrank.server")

T = TypeVar("T")
Chooser = Callable[[Any], Wire]
# Seconds and bytes of a refused body that are read, so that the client sees the answer before the connection ends.
LINGER_SECONDS = 2.0
LINGER_BYTES = 64 * 2**20


class ScoringEndpoint:
    """Scores what a body asks for.

    Args:
        service: that scores.
        wires: the forms that it understands; the first one gives errors their form before a body is known.
        choose: the wire of a body, where there are several.
    """

    def __init__(self, service: Service, wires: Sequence[Wire], choose: Chooser | None = None) -> None:
        self.wires = wires
        self._service = service
        self._choose = choose or (lambda body: wires[0])

    async def handle(self, request: Request) -> Response:
        """Answer a request."""
        record: Record = request.scope[RECORD]
        record.wire = self.wires[0].name
        wire = self.wires[0]
        try:
            headers = dict(request.scope["headers"])
            self._service.keys.check(headers)
            check_content_type(headers)
            async with self._service.body(headers, request.receive) as body:
                with self._service.admitted():
                    begun = time.perf_counter()
                    value = parse_json(body, self._service.settings.body_limits)
                    wire = self._choose(value)
                    record.wire = wire.name
                    asked = typed(value, wire.request)
                    call = wire.read(asked)
                    record.parse_seconds = time.perf_counter() - begun
                    model = self._service.models.find(call.model)
                    outcome = await unless_left(request.receive, scored(self._service, model, call, record))
            return json_response(wire.answer(asked, outcome), timing_headers(outcome, record))
        except ModernRankError as error:
            return refusal(error, wire, request)


async def scored(service: Service, model: LoadedModel, call: Call, record: Record) -> Outcome:
    """The result of a call, which is noted in the record of its request.

    Raises:
        ModernRankError: as ``carry_out``; or the queue of the model is too long.
    """
    service.check_queue(model)
    record.model = model.name
    record.documents = len(call.documents) if isinstance(call, RankCall) else len(call.pairs)
    with model.in_use() as reranker:
        outcome = await carry_out(call, model.name, reranker, service.settings.rules, record.request_id)
    record.report, record.truncated = outcome.facts.report, outcome.facts.truncated
    return outcome


def typed(value: Any, kind: Any) -> Any:
    """A JSON value as the type of a wire, where "true" and "3" count as what they say, as some clients send them.

    Raises:
        InputError: a field is missing or has another type.
    """
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"the body does not fit: {error}") from error


async def unless_left(receive: Callable[[], Awaitable[Any]], work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled if the client leaves.

    Raises:
        ClientLeftError: it has left.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_until_left(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeftError
        return task.result()
    finally:
        watch.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


async def _until_left(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def json_response(content: Any, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def timing_headers(outcome: Outcome, record: Record) -> dict[str, str]:
    """Milliseconds of each stage: the headers of text-embeddings-inference, and Server-Timing with fractions."""
    report = outcome.facts.report
    total = time.perf_counter() - record.begun
    stages = {
        "tokenise": report.tokenise_seconds,
        "queue": report.wait_seconds,
        "run": report.run_seconds,
        "total": total,
    }
    return {
        "x-compute-type": "optimized",
        "x-compute-time": str(round(1000 * total)),
        "x-compute-tokens": str(report.tokens),
        "x-total-time": str(round(1000 * total)),
        "x-tokenization-time": str(round(1000 * report.tokenise_seconds)),
        "x-queue-time": str(round(1000 * report.wait_seconds)),
        "x-inference-time": str(round(1000 * report.run_seconds)),
        "x-truncated": str(outcome.facts.truncated),
        "server-timing": ", ".join(f"{name};dur={1000 * seconds:.3f}" for name, seconds in stages.items()),
    }


def refusal(error: ModernRankError, wire: Wire, request: Request) -> Response:
    """The answer to a request that cannot be carried out, in the form of its wire."""
    record: Record = request.scope[RECORD]
    status = status_of(error)
    if status >= 500 and status != 503:
        logger.error("scoring failed: %s", error, extra={"fields": {"request_id": record.request_id}})
    headers = {}
    if (seconds := retry_after_of(error)) is not None:
        headers["retry-after"] = str(seconds)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    body = msgspec.json.encode(wire.problem(problem_of(error, record.request_id)))
    if isinstance(error, RequestError) and error.close:
        return LingeringResponse(body, status, headers, "application/json")
    return Response(body, status, headers, "application/json")


class LingeringResponse(Response):
    """An answer to a request whose body is not read to its end.

    If the connection ended at once, the client would see that its body cannot be sent, and not the answer.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, read on for a moment, and close."""
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                read = 0
                while read < LINGER_BYTES:
                    message = await receive()
                    read += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            pass  # it goes on sending: then the connection ends all the same
        await send({"type": "http.response.body", "body": b"", "more_body": False})
