"""The endpoints that do not score: health, metrics, the models, and what other servers say of themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from modernrank import ModernRankError, __version__

from ..models import LoadedModel, ReloadingError
from ..observing.metrics import CONTENT_TYPE
from ..observing.record import Record
from ..wires.base import Problem, detail_error
from .gate import RECORD
from .problems import problem_of, status_of
from .scoring import json_response
from .service import Service


class Information:
    """What a server says of itself."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return _health(200, "live", live=True)

    async def ready(self, request: Request) -> Response:
        """The models are loaded and warm, and the server does not end."""
        if self._service.is_ready:
            return _health(200, "ready", ready=True)
        reason = "the server is shutting down" if self._service.is_draining else "the models are being loaded"
        return _health(503, reason, ready=False)

    async def weaviate_ready(self, request: Request) -> Response:
        """Weaviate asks for a status without a body."""
        return Response(status_code=204 if self._service.is_ready else 503)

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(self._service.metrics.text(), media_type=CONTENT_TYPE)

    async def models(self, request: Request) -> Response:
        """The models, as OpenAI's clients list them."""
        return self._guarded(request, {"object": "list", "data": [_card(m) for m in self._service.models.loaded]})

    async def model(self, request: Request) -> Response:
        """One of the models, by its name."""
        if not self._service.models.ready:
            return _health(503, "the models are being loaded")
        try:
            self._service.keys.check(dict(request.scope["headers"]))
            return json_response(_card(self._service.models.named(request.path_params["model"])))
        except ModernRankError as error:
            return _refused(error, request)

    async def xinference_auth(self, request: Request) -> Response:
        """Whether keys are demanded: Xinference's client sends its own only then."""
        return json_response({"auth": bool(self._service.keys)})

    async def tei_info(self, request: Request) -> Response:
        """The default model, as text-embeddings-inference describes it."""
        settings = self._service.settings
        if not self._service.models.ready:
            return _health(503, "the models are being loaded")
        model = self._service.models.find(None)
        labels = list(enumerate(model.reranker.labels))
        return self._guarded(
            request,
            {
                "model_id": model.manifest.source.model_id or model.name,
                "model_sha": model.manifest.source.revision,
                "model_dtype": model.reranker.info.precision,
                "served_model_name": model.name,
                "model_type": {
                    "reranker" if len(labels) == 1 else "classifier": {
                        "id2label": {str(i): n for i, n in labels},
                        "label2id": {n: i for i, n in labels},
                    }
                },
                "max_concurrent_requests": settings.max_requests,
                "max_input_length": model.reranker.max_length,
                "max_batch_tokens": settings.max_tokens,
                "max_batch_requests": None,
                "max_client_batch_size": settings.max_documents,
                "auto_truncate": True,
                "tokenization_workers": model.reranker.info.threads,
                "version": __version__,
                "sha": None,
                "docker_label": None,
            },
        )

    async def weaviate_meta(self, request: Request) -> Response:
        """Weaviate reads that there is an object."""
        cards = [_card(model) for model in self._service.models.loaded]
        return self._guarded(request, {"models": cards})

    async def status(self, request: Request) -> Response:
        """What waits and runs at this moment, for the page."""
        models = [_load(model) for model in self._service.models.loaded]
        return self._guarded(request, {"version": __version__, "ready": self._service.is_ready, "models": models})

    async def reload(self, request: Request) -> Response:
        """Load the artifacts anew."""
        try:
            self._service.keys.check_administrator(dict(request.scope["headers"]))
        except ModernRankError as error:
            return _refused(error, request)
        if not self._service.is_ready:
            return _health(503, "the server is not ready")
        try:
            results = await self._service.models.reload()
        except ReloadingError as error:
            return _refused(error, request)
        failed = {name for name, error in results.items() if error}
        outcome = {name: "kept" if name in failed else "loaded" for name in self._service.models.names}
        return json_response({"models": outcome}, status=500 if failed else 200)

    async def similarity(self, request: Request) -> Response:
        """Refused with the reason."""
        message = "this server scores pairs with a cross-encoder, which has no similarity of embeddings; use /rerank"
        return json_response(detail_error(Problem(422, "not_served", message)), status=422)

    def _guarded(self, request: Request, content: Any) -> Response:
        """An answer for those who have a key."""
        try:
            self._service.keys.check(dict(request.scope["headers"]))
        except ModernRankError as error:
            return _refused(error, request)
        return json_response(content)


def _refused(error: ModernRankError, request: Request) -> Response:
    headers = {"www-authenticate": "Bearer"} if status_of(error) == 401 else {}
    record: Record = request.scope[RECORD]
    return json_response(detail_error(problem_of(error, record.request_id)), headers, status_of(error))


def _health(status: int, message: str, **flags: bool) -> Response:
    """What NIM answers, and the flag that the Open Inference Protocol has: KServe's client reads it, not the status."""
    headers = {"retry-after": "1"} if status == 503 else None
    state = "ok" if status == 200 else "unavailable"
    content = {"object": "health.response", "message": message, "status": state, **flags}
    return json_response(content, headers, status)


def _card(model: LoadedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": int(model.loaded_at),
        "owned_by": "modernrank",
        "model_type": "rerank",  # as Xinference says it
        "root": model.manifest.source.model_id or model.name,
        "max_model_len": model.reranker.max_length,
        "precision": model.reranker.info.precision,
        "provider": model.reranker.info.provider,
        "labels": model.reranker.labels,
    }


def _load(model: LoadedModel) -> dict[str, Any]:
    metrics = model.reranker.metrics
    names = ("waiting_calls", "waiting_tokens", "running", "estimated_wait", "completed", "refused", "pairs")
    counted = {name: getattr(metrics, name) for name in (*names, "pair_tokens", "computed_tokens", "runs")}
    return {**_card(model), "load": counted, "seconds": dataclasses.asdict(metrics.stages)}
