"""Every path of the server, in one table, from which the application and its OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .http import choose
from .http.information import Information
from .http.scoring import ScoringEndpoint
from .http.service import Service
from .open_inference.endpoint import WIRE as OPEN_INFERENCE
from .open_inference.endpoint import OpenInference
from .wires import jina, nim, tei, vllm_score, voyage
from .wires.base import Wire

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """A method of a path.

    summary:  what it does.
    wires:    the forms of its bodies; none for those without a body.
    is_open:  whether it answers without a key.
    statuses: that it may answer besides 200, where it has no body.
    schema:   of its answer, where it has no wire; None for an answer that is not JSON.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    wires: Sequence[Wire] = ()
    is_open: bool = False
    statuses: Sequence[int] = ()
    schema: Any = None


def operations(service: Service) -> list[Operation]:
    """All but the page and the OpenAPI document itself."""
    return [*_scoring(service), *health(service), *_information(service), *_open_inference(service)]


def _scoring(service: Service) -> list[Operation]:
    rerank = ScoringEndpoint(service, choose.RERANK, choose.of_rerank)
    second = ScoringEndpoint(service, choose.COHERE, choose.of_second_rerank)
    infinity = ScoringEndpoint(service, (jina.INFINITY,))
    ranking = ScoringEndpoint(service, (nim.NIM,))
    score = ScoringEndpoint(service, (vllm_score.SCORE,))
    text = "Rank documents for a query"
    table: list[tuple[str, str, ScoringEndpoint]] = [
        ("/rerank", f"{text}: TEI, Jina, Cohere v1, vLLM, Voyage or Weaviate, told apart by the body", rerank),
        ("/v1/rerank", f"{text}: the same", rerank),
        ("/reranking", f"{text}: the same, for clients of llama.cpp", rerank),
        ("/v2/rerank", f"{text}: Cohere v2, with relevant_spans", second),
        ("/infinity/rerank", f"{text}: for clients of Infinity, which get documents back as strings", infinity),
        ("/voyage/v1/rerank", f"{text}: Voyage", ScoringEndpoint(service, (voyage.VOYAGE,))),
        ("/v1/ranking", f"{text}: NVIDIA NIM; logits", ranking),
        ("/v1/retrieval/{model:path}/reranking", f"{text}: NVIDIA's catalogue; logits", ranking),
        ("/score", "Score pairs: vLLM", score),
        ("/v1/score", "Score pairs: vLLM", score),
        ("/predict", "Score pairs, all labels: TEI", ScoringEndpoint(service, (tei.PREDICT,))),
        ("/invocations", "Any of them: SageMaker", ScoringEndpoint(service, choose.INVOCATIONS, choose.of_invocation)),
    ]
    return [Operation("POST", path, summary, end.handle, end.wires) for path, summary, end in table]


def health(service: Service) -> list[Operation]:
    """What is open to everybody, and may have a port of its own."""
    about = Information(service)
    ready = [(path, about.ready) for path in ("/health", "/health/ready", "/v1/health/ready", "/v2/health/ready")]
    live = [(path, about.live) for path in ("/health/live", "/ping", "/v1/health/live", "/v2/health/live")]
    weaviate = [(f"/.well-known/{name}", about.weaviate_ready) for name in ("ready", "live")]
    return [
        *(_open(path, "Ready for requests?", handler, (503,), dict) for path, handler in ready),
        *(_open(path, "Alive?", handler, (), dict) for path, handler in live),
        *(_open(path, "Ready? (Weaviate)", handler, (204, 503)) for path, handler in weaviate),
        _open("/metrics", "Metrics for Prometheus", about.metrics),
    ]


def _open(path: str, summary: str, handler: Handler, statuses: Sequence[int] = (), schema: Any = None) -> Operation:
    return Operation("GET", path, summary, handler, is_open=True, statuses=statuses, schema=schema)


def _information(service: Service) -> list[Operation]:
    about = Information(service)
    return [
        Operation(
            "GET", "/info", "The default model, as TEI describes it", about.tei_info, (), False, (401, 503), dict
        ),
        Operation("GET", "/v1/models", "The models", about.models, (), False, (401,), dict),
        Operation("GET", "/v1/models/{model:path}", "A model", about.model, (), False, (401, 404, 503), dict),
        _open("/v1/cluster/auth", "Are keys demanded? (Xinference)", about.xinference_auth, (), dict),
        Operation("GET", "/meta", "The models, for Weaviate", about.weaviate_meta, (), False, (401,), dict),
        Operation("GET", "/status", "What waits and runs", about.status, (), False, (401,), dict),
        Operation(
            "POST", "/admin/reload", "Load the artifacts anew", about.reload, (), False, (401, 403, 409, 500, 503), dict
        ),
        Operation("POST", "/similarity", "Refused: no embeddings", about.similarity, (), True, (422,), dict),
    ]


def _open_inference(service: Service) -> list[Operation]:
    about = OpenInference(service)
    table = [Operation("GET", "/v2", "The server: Open Inference Protocol", about.server, (), True, (), dict)]
    # A name may contain slashes, so that the longer paths stand before those that would take them for a name.
    for path in ("/v2/models/{model:path}/versions/{version}", "/v2/models/{model:path}"):
        table += [
            Operation("GET", f"{path}/ready", "A model is ready?", about.model_ready, (), False, (401, 404, 503), dict),
            Operation("POST", f"{path}/infer", "Score pairs: Open Inference Protocol", about.infer, (OPEN_INFERENCE,)),
            Operation("GET", path, "A model", about.model, (), False, (401, 404, 503), dict),
        ]
    return table
