"""The OpenAPI document: complete, without loose ends, and true, as Schemathesis finds out."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from modernrank.server import Settings
from modernrank.server.app import make_service
from modernrank.server.openapi import document
from modernrank.server.routes import operations
from support.serving import RunningServer

# The folder of the program, in an environment of its own: make openapi-check.
SCHEMATHESIS = os.environ.get("SCHEMATHESIS", "schemathesis")
CHECKS = "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance"


@pytest.fixture(scope="module")
def described(artifacts: Path) -> dict[str, Any]:
    table = operations(make_service(Settings(artifacts=(str(artifacts / "tiny"),))))
    return document(table)


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [name for value in node.values() for name in references(value)]
    return [name for value in node for name in references(value)] if isinstance(node, list) else []


def test_the_server_shows_it(server: RunningServer, described: dict[str, Any]) -> None:
    shown = server.get("/openapi.json").json
    assert shown == described
    assert len(shown["paths"]) > 25


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    names = set(references(described))
    assert len(names) > 20
    assert {name.removeprefix("#/components/schemas/") for name in names} <= set(described["components"]["schemas"])


def test_every_operation_says_what_it_answers(described: dict[str, Any]) -> None:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert operation["responses"], (path, method)
            assert set(re.findall(r"{(\w+)}", path)) == {p["name"] for p in operation["parameters"]}
            if "requestBody" in operation:
                assert {"200", "400", "401", "413", "415", "422", "429", "503"} <= set(operation["responses"])


@pytest.mark.openapi
def test_schemathesis_finds_nothing(server: RunningServer) -> None:
    """Thousands of bodies made from the document and against it: no server error, no answer outside its schema."""
    url = f"http://127.0.0.1:{server.port}/openapi.json"
    options = ["--checks", CHECKS, "--max-examples", "30", "--seed", "1", "--no-color"]
    done = subprocess.run([SCHEMATHESIS, "run", url, *options], capture_output=True, text=True, timeout=500)
    print(done.stdout[-3000:])
    assert done.returncode == 0
    assert re.search(r"\d{4,} generated, \d{4,} passed", done.stdout)
