"""The ASGI application. ``modernrank serve`` runs it in uvicorn; other servers and Ray may mount it as it is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modernrank.errors import InputError

from .http.access import read_keys
from .http.gate import RECORD, Gate
from .http.problems import KINDS
from .http.scoring import json_response
from .http.service import Service
from .models import Models, sources_of
from .openapi import document
from .page import ICON, PAGE, SCRIPT, STYLE
from .routes import Operation, health, operations
from .settings import Settings
from .wires.base import Problem, detail_error


def create_app(settings: Settings) -> Starlette:
    """The application, which loads its models when it starts and frees them when it ends.

    Args:
        settings: with at least one artifact.

    Raises:
        InputError: a setting cannot be used.
        ArtifactError: an artifact cannot be read.
    """
    return application(make_service(settings))


def make_service(
    settings: Settings, connections: Callable[[], int] = lambda: 0, lost_lines: Callable[[], int] = lambda: 0
) -> Service:
    """What the application consists of, before anything is loaded.

    Raises:
        InputError: a setting cannot be used.
        ArtifactError: an artifact cannot be read.
    """
    if not settings.artifacts:
        raise InputError("name at least one artifact: modernrank serve ARTIFACT", argument="artifacts")
    models = Models(sources_of(settings.artifacts, settings.load_options), settings.strict_models)
    return Service(settings, models, read_keys(settings.api_key_file, os.environ), connections, lost_lines)


def application(service: Service) -> Starlette:
    """The application of a service."""
    table = operations(service)
    if service.settings.metrics_port is not None:
        open_elsewhere = {operation.path for operation in health(service)}
        table = [operation for operation in table if operation.path not in open_elsewhere]
    described = document(table)

    async def openapi(request: Request) -> Response:
        return json_response(described)

    routes = [*_routes(table), Route("/openapi.json", openapi)]
    if service.settings.page:
        routes += [_file("/", PAGE), _file("/page.js", SCRIPT), _file("/page.css", STYLE), _file("/page.svg", ICON)]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()

    app = Starlette(
        routes=routes,
        middleware=[Middleware(Gate, service=service)],
        exception_handlers={HTTPException: _refuse},  # type: ignore[dict-item]
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would name the host that the client claims
    return app


def health_application(service: Service) -> Starlette:
    """Health and metrics alone, for a port of their own."""
    return Starlette(
        routes=_routes(health(service)),
        middleware=[Middleware(Gate, service=service)],
        exception_handlers={HTTPException: _refuse},  # type: ignore[dict-item]
    )


def _routes(table: list[Operation]) -> list[Route]:
    return [Route(operation.path, operation.handler, methods=[operation.method]) for operation in table]


def _file(path: str, file: tuple[bytes, str]) -> Route:
    content, media_type = file
    # Nothing from elsewhere, and nobody may put the page into a frame.
    headers = {
        "content-security-policy": "default-src 'self'; frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
        "cache-control": "no-cache",
    }

    async def endpoint(request: Request) -> Response:
        return Response(content, headers=headers, media_type=media_type)

    return Route(path, endpoint)


async def _refuse(request: Request, error: HTTPException) -> Response:
    """A path or a method that does not exist."""
    if error.status_code == 404:
        message = f"there is no {request.url.path[:100]!r} here; /openapi.json lists the paths"
    else:
        message = f"{request.method} is not what this path takes"
    kind, request_id = KINDS.get(error.status_code, "error"), request.scope[RECORD].request_id
    problem: Any = Problem(error.status_code, kind, message, request_id)
    headers = dict(error.headers or {})
    return json_response(detail_error(problem), headers, error.status_code)
