"""The endpoints under ``/v2``: what the server and its models are, and ``infer``."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from modernrank import ModernRankError, __version__
from modernrank.errors import InputError

from ..http.body import parse_json
from ..http.gate import RECORD
from ..http.problems import RequestError
from ..http.scoring import json_response, refusal, scored, timing_headers, typed, unless_left
from ..http.service import Service
from ..models import LoadedModel
from ..observing.record import Record
from ..wires.base import PairCall, PairScores, Problem, Wire
from .tensors import InferRequest, InferResponse, Texts, scores_tensor, texts_of, wants_binary

HEADER_LENGTH = b"inference-header-content-length"
# An artifact that is reloaded takes the place of the one before: a model has one version.
VERSION = "1"


class InferenceError(msgspec.Struct):
    """A refusal."""

    error: str


def _problem(problem: Problem) -> InferenceError:
    return InferenceError(problem.message)


def pair_call(request: InferRequest, texts: dict[str, Texts]) -> PairCall:
    """The pairs of a request: one query and several documents, or a query for each document.

    Raises:
        InputError: an input is missing, or their numbers do not fit.
    """
    missing = [name for name in ("query", "documents") if name not in texts]
    if missing:
        raise InputError(f"the input {missing[0]!r} is missing; send 'query' and 'documents'")
    queries, documents = texts["query"].values, texts["documents"].values
    if len(queries) not in (1, len(documents)):
        raise InputError(f"there are {len(queries)} queries and {len(documents)} documents; send one query, or as many")
    queries = queries * len(documents) if len(queries) == 1 else queries
    raw = (request.parameters or {}).get("raw_scores") is True
    return PairCall(list(zip(queries, documents, strict=True)), activation="logit" if raw else None)


# `infer` reads more than the body, so it has an endpoint of its own; the wire names it and gives errors their form.
WIRE = Wire("open inference", InferRequest, InferResponse, None, None, _problem, InferenceError)  # type: ignore[arg-type]


class OpenInference:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def server(self, request: Request) -> Response:
        """What the server is."""
        return json_response({"name": "modernrank", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def model(self, request: Request) -> Response:
        """The inputs and outputs of a model."""
        try:
            model = self._named(request)
        except ModernRankError as error:
            return refusal(error, WIRE, request)
        texts = {"datatype": "BYTES", "shape": [-1]}
        scores = [-1] if len(model.reranker.labels) == 1 else [-1, len(model.reranker.labels)]
        content = {
            "name": model.name,
            "versions": [VERSION],
            "platform": model.reranker.info.runtime,
            "inputs": [{"name": "query", **texts}, {"name": "documents", **texts}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": scores}],
        }
        return json_response(content)

    async def model_ready(self, request: Request) -> Response:
        """Whether a model takes requests."""
        try:
            model = self._named(request)
        except ModernRankError as error:
            return refusal(error, WIRE, request)
        ready = self._service.is_ready
        return json_response({"name": model.name, "ready": ready}, status=200 if ready else 503)

    async def infer(self, request: Request) -> Response:
        """Score."""
        record: Record = request.scope[RECORD]
        record.wire = WIRE.name
        try:
            headers = dict(request.scope["headers"])
            self._service.keys.check(headers)
            async with self._service.body(headers, request.receive) as body:
                with self._service.admitted():
                    asked, behind = self._parsed(body, headers)
                    call = pair_call(asked, texts_of(asked, behind))
                    model = self._named(request)
                    result = await unless_left(request.receive, scored(self._service, model, call, record))
            assert isinstance(result, PairScores)
            return _answer(asked, result, record)
        except ModernRankError as error:
            return refusal(error, WIRE, request)

    def _parsed(self, body: bytes, headers: dict[bytes, bytes]) -> tuple[InferRequest, bytes]:
        length = headers.get(HEADER_LENGTH)
        if length is not None and not (length.isdigit() and int(length) <= len(body)):
            raise RequestError(400, "Inference-Header-Content-Length is not a length within the body")
        end = len(body) if length is None else int(length)
        asked = typed(parse_json(body[:end], self._service.settings.body_limits), InferRequest)
        return asked, body[end:]

    def _named(self, request: Request) -> LoadedModel:
        self._service.keys.check(dict(request.scope["headers"]))
        if not self._service.models.ready:
            raise RequestError(503, "the models are still being loaded; ask /v2/health/ready", retry_after=2)
        model = self._service.models.named(request.path_params["model"])
        version = request.path_params.get("version", VERSION)
        if version != VERSION:
            raise RequestError(404, f"{model.name} has no version {version!r}; its only version is {VERSION}")
        return model


def _answer(asked: InferRequest, result: PairScores, record: Record) -> Response:
    rows: Any = result.scores[:, 0] if len(result.labels) == 1 else result.scores
    shape = list(rows.shape)
    output, behind = scores_tensor(rows.reshape(-1).tolist(), shape, wants_binary(asked))
    content = InferResponse(result.facts.model, VERSION, [output], asked.id)
    headers = timing_headers(result, record)
    if not behind:
        return json_response(content, headers)
    head = msgspec.json.encode(content)
    headers[HEADER_LENGTH.decode()] = str(len(head))
    return Response(head + behind, 200, headers, "application/octet-stream")
