"""Servers for real clients: one that is open, and one with a key and few documents."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.client_server import VARIABLE, Server, modernrank, serving
from support.products import Places

# The environment of the default suite has none of the clients.
collect_ignore_glob = [] if VARIABLE in os.environ else ["*"]

CHECKPOINT = Path(__file__).parents[1] / "data" / "tiny"
# Nothing is asked of the network but these servers.
os.environ |= {"HAYSTACK_TELEMETRY_ENABLED": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts") / "tiny"
    subprocess.run(modernrank("export", CHECKPOINT, "--out", folder), check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def server(artifact: Path) -> Iterator[Server]:
    with serving(artifact) as running:
        yield running


@pytest.fixture(scope="session")
def guarded(artifact: Path) -> Iterator[Server]:
    """A server that demands a key, and takes five documents."""
    with serving(artifact, "--max-documents", 5, key="secret") as running:
        yield running


@pytest.fixture(scope="session")
def ranking(server: Server) -> Places:
    """The documents, best first."""
    return server.ranking()


@pytest.fixture(scope="session")
def logits(server: Server) -> Places:
    """The same with raw scores."""
    return server.ranking(raw_scores=True)
