"""LibreChat's reranker, the code of @librechat/agents, with the variables on the page. Requires npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from modernrank import Reranker
from support.product_page import HOST, KEY, blocks, variables
from support.products import DOCUMENTS, QUERY
from support.serving import RunningServer, serving

pytestmark = [
    pytest.mark.integrations,
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed"),
]

PACKAGE = "@librechat/agents@3.9.2"
SCRIPT = Path(__file__).with_name("librechat.cjs")


@pytest.fixture(scope="module")
def server(demo: Path) -> Iterator[RunningServer]:
    with serving(demo, "--threads", 1, env={"MODERNRANK_API_KEYS": KEY}) as running:
        yield running


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's folder, with the one module that its reranker requires."""
    folder = tmp_path_factory.mktemp("librechat")
    subprocess.run(["npm", "pack", PACKAGE], cwd=folder, check=True, capture_output=True)
    (archive,) = folder.glob("*.tgz")
    subprocess.run(["tar", "-xzf", archive, "-C", folder], check=True)
    subprocess.run(
        ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "axios@1"], check=True, capture_output=True
    )
    return folder / "package"


def ranked(package: Path, server: RunningServer, documents: list[str], **changes: str) -> list[tuple[str, float]]:
    """What LibreChat's reranker gives with the variables on the page."""
    settings = yaml.safe_load(blocks("LibreChat", "yaml")[0])["webSearch"]
    environment = {name: value.replace(HOST, server.url) for name, value in variables("LibreChat").items()}
    done = subprocess.run(
        ["node", SCRIPT, package, QUERY, json.dumps(documents)],
        env={**os.environ, "RERANKER_TYPE": settings["rerankerType"], **environment, **changes},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.split("\n") if line.startswith("[{"))  # it also logs
    return [(place["text"], place["score"]) for place in json.loads(line)]


@pytest.mark.parametrize("documents", [DOCUMENTS, [*DOCUMENTS, DOCUMENTS[1]], DOCUMENTS * 100])
def test_passages_are_in_the_order_of_the_reranker(
    documents: list[str], package: Path, server: RunningServer, demo: Path
) -> None:
    with Reranker.load(demo) as reranker:
        expected = reranker.rank(QUERY, documents, activation="sigmoid")

    found = ranked(package, server, documents)

    assert [text for text, _ in found] == [place.document for place in expected]
    assert [score for _, score in found] == pytest.approx([place.score for place in expected], abs=1e-6)


def test_after_an_error_it_takes_the_passages_as_they_are(package: Path, server: RunningServer) -> None:
    """As the page says."""
    assert ranked(package, server, DOCUMENTS, JINA_API_KEY="wrong") == [(text, 0) for text in DOCUMENTS]
