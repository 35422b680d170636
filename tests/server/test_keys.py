"""Who may ask what."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modernrank import InputError
from modernrank.server.http.access import read_keys
from support.serving import RunningServer, serving

GOOD = {"query": "the terms", "documents": ["of the license"]}
OPEN = ["/health", "/health/live", "/metrics", "/ping", "/v2/health/ready", "/.well-known/ready", "/", "/page.js"]
CLOSED = ["/info", "/v1/models", "/meta", "/status"]


@pytest.fixture(scope="module")
def keyed(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("# of the search team\nfirst-key\n\nsecond key with blanks\n")
    with serving(
        artifacts / "tiny", "--api-key-file", file, env={"MODERNRANK_API_KEYS": "third,fourth fifth"}
    ) as running:
        yield running


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer first-key"},
        {"authorization": "bearer second key with blanks"},
        {"authorization": "Bearer third"},
        {"authorization": "fourth"},  # LlamaIndex leaves out the word
        {"x-api-key": "fifth"},
    ],
)
def test_every_key_in_every_form(keyed: RunningServer, headers: dict[str, str]) -> None:
    assert keyed.post("/rerank", GOOD, headers).status == 200
    assert all(keyed.get(path, headers).status == 200 for path in CLOSED)


@pytest.mark.parametrize(
    "key", ["", "Bearer", "Bearer ", "Bearer first", "Bearer first-keys", "Basic first-key", "x" * 5000]
)
def test_other_keys_are_401(keyed: RunningServer, key: str) -> None:
    for path in ("/rerank", "/v2/rerank", "/score", "/predict", "/v2/models/tiny/infer"):
        answer = keyed.post(path, GOOD, {"authorization": key} if key else {})
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "Authorization" in (answer.json.get("message") or answer.json["error"])
    assert all(keyed.get(path, {"authorization": key}).status == 401 for path in CLOSED)


def test_a_refused_client_is_not_read(keyed: RunningServer) -> None:
    """No body is parsed for somebody without a key."""
    begun = time.monotonic()
    assert keyed.post("/rerank", b"{" * 1_000_000).status == 401
    assert time.monotonic() - begun < 5


def test_what_is_open_stays_open(keyed: RunningServer) -> None:
    assert {keyed.get(path).status for path in OPEN} <= {200, 204}


def test_keys_are_in_no_log(keyed: RunningServer) -> None:
    keyed.post("/rerank", GOOD, {"authorization": "Bearer wrong-key"})
    keyed.post("/rerank", GOOD, {"authorization": "Bearer first-key"})
    assert not any(key in line for key in ("first-key", "third", "fourth", "wrong-key") for line in keyed.lines)


def test_a_source_without_keys_is_an_error(tmp_path: Path) -> None:
    """It would otherwise open the server to everybody."""
    empty = tmp_path / "empty"
    empty.write_text("# none\n\n")
    for file, environment in (
        (empty, {}),
        (tmp_path / "missing", {}),
        (tmp_path, {}),
        (None, {"MODERNRANK_API_KEYS": " , "}),
    ):
        with pytest.raises(InputError):
            read_keys(file, environment)
    assert not read_keys(None, {})


def test_no_other_site_may_use_it_from_a_browser(server: RunningServer) -> None:
    answer = server.post("/rerank", GOOD, {"origin": "https://example.org"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert server.send("OPTIONS", "/rerank", None, {"origin": "https://example.org"}).status == 405


def test_answers_name_no_path_of_the_machine(artifacts: Path, server: RunningServer) -> None:
    for path in ("/info", "/v1/models", "/meta", "/status", "/metrics", "/openapi.json", "/v2/models/tiny", "/v2"):
        assert str(artifacts).encode() not in server.get(path).body
