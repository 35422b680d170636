"""The OpenAPI document, made from the table of operations and the types of the wires, so that it cannot differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from modernrank import __version__

from .routes import Operation
from .wires.base import DetailError

# What any request with a body may be answered.
REFUSALS = (400, 401, 404, 408, 413, 415, 422, 429, 431, 500, 503)
COMPONENTS = "#/components/schemas/{name}"


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document of these operations."""
    kinds = [kind for operation in operations for kind in _kinds(operation)]
    unique = list({str(kind): kind for kind in (*kinds, DetailError)}.values())
    schemas, components = msgspec.json.schema_components(unique, ref_template=COMPONENTS)
    schema_of = dict(zip(map(str, unique), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, schema_of)
        path = re.sub(r":path}", "}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "modernrank", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _kinds(operation: Operation) -> Iterable[Any]:
    for wire in operation.wires:
        yield from (wire.request, wire.response, wire.error)


def _operation(operation: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    names = re.findall(r"{(\w+)", operation.path)
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.method.lower()} {operation.path}",
        "parameters": [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names],
        "responses": _responses(operation, schema_of),
    }
    if not operation.is_open:
        described["security"] = [{"key": []}, {}]
    if operation.wires:
        described["requestBody"] = {
            "required": True,
            "content": _json(_any_of([schema_of[str(wire.request)] for wire in operation.wires])),
        }
    return described


def _responses(operation: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    if operation.wires:
        errors = _any_of([schema_of[str(wire.error)] for wire in operation.wires] + [schema_of[str(DetailError)]])
        answers = _any_of([schema_of[str(wire.response)] for wire in operation.wires])
        refusals = {str(status): _response(status, errors) for status in REFUSALS}
        return {"200": _response(200, answers), **refusals}
    schema = None if operation.schema is None else {"type": "object"}
    responses = {str(status): _response(status, schema) for status in operation.statuses}
    if 204 not in operation.statuses and 422 not in operation.statuses:
        responses["200"] = _response(200, schema)
    return responses


def _response(status: int, schema: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if schema is not None:
        described["content"] = _json(schema)
    return described


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _any_of(schemas: list[Any]) -> Any:
    unique = [schema for at, schema in enumerate(schemas) if schema not in schemas[:at]]
    return unique[0] if len(unique) == 1 else {"anyOf": unique}
