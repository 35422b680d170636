"""Traces through OpenTelemetry, where its API is installed. Names are those of OpenInference; no text is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from modernrank import __version__

from .record import Record

try:
    from opentelemetry import propagate, trace

    IS_INSTALLED = True
except ImportError:
    IS_INSTALLED = False


class Tracer:
    """Makes a span for each request for scores; nothing where OpenTelemetry's API is not installed."""

    def __init__(self) -> None:
        self._tracer: Any = trace.get_tracer("modernrank", __version__) if IS_INSTALLED else None

    @contextmanager
    def request(self, record: Record, headers: Mapping[bytes, bytes]) -> Iterator[None]:
        """A ``with`` block that is the span of a request. The client's trace goes on in it."""
        if self._tracer is None:
            yield
            return
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        kind = trace.SpanKind.SERVER
        context = propagate.extract(carrier)
        with self._tracer.start_as_current_span(record.method, context=context, kind=kind) as span:
            try:
                yield
            finally:
                if span.is_recording():
                    if record.is_scoring:  # else the path may be anything
                        span.update_name(f"{record.method} {record.path}")
                    span.set_attributes(_attributes(record))


def _attributes(record: Record) -> dict[str, str | int | float]:
    report = record.report
    return {
        "openinference.span.kind": "RERANKER",
        "reranker.model_name": record.model,
        "reranker.documents": record.documents,
        "llm.token_count.prompt": report.tokens,
        "http.request.method": record.method,
        "http.response.status_code": record.status,
        "modernrank.wire": record.wire,
        "modernrank.request_id": record.request_id,
        "modernrank.tokenise_seconds": report.tokenise_seconds,
        "modernrank.queue_seconds": report.wait_seconds,
        "modernrank.run_seconds": report.run_seconds,
    }
