"""Each wire: what a client sends, and what it needs in the answer. Scores are those of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modernrank import Reranker
from support.serving import RunningServer, serving

QUERY = "the terms of the license"
DOCUMENTS = ["notice", "the terms of the license", "word " * 30, "größe 🎈 contract", "notice"]


@pytest.fixture(scope="module")
def expected(reranker: Reranker) -> list[tuple[int, float]]:
    """Index and probability of each document, best first."""
    return [(place.index, place.score) for place in reranker.rank(QUERY, DOCUMENTS, activation="sigmoid")]


@pytest.fixture(scope="module")
def short(artifacts: Path) -> Iterator[tuple[RunningServer, Reranker]]:
    """A server whose pairs have at most 64 tokens, and the same without a server."""
    with (
        serving(artifacts / "tiny", "--max-length", 64) as running,
        Reranker.load(artifacts / "tiny", max_length=64) as model,
    ):
        yield running, model


def same(found: list[dict[str, Any]], expected: list[tuple[int, float]], score: str = "relevance_score") -> bool:
    return [(item["index"], pytest.approx(item[score], abs=1e-6)) for item in found] == expected


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank", "/invocations", "/infinity/rerank"])
def test_documents_in_results_out(server: RunningServer, expected: list[tuple[int, float]], path: str) -> None:
    answer = server.post(path, {"model": "any", "query": QUERY, "documents": DOCUMENTS})
    assert answer.status == 200
    assert same(answer.json["results"], expected)
    assert all("document" not in result for result in answer.json["results"])
    assert answer.json["usage"]["total_tokens"] > 0
    assert answer.json["meta"]["tokens"]["input_tokens"] == answer.json["usage"]["total_tokens"]
    assert answer.json["id"] == answer.headers["x-request-id"]
    assert answer.json["model"] == "tiny"


@pytest.mark.parametrize(("top_n", "count"), [(None, 5), (0, 5), (2, 2), ("2", 2), (99, 5), (10**30, 5), ("null", 5)])
def test_top_n_in_every_form(
    server: RunningServer, expected: list[tuple[int, float]], top_n: object, count: int
) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS, "top_n": top_n}
    assert same(server.post("/rerank", body).json["results"], expected[:count])


@pytest.mark.parametrize("wanted", [True, "true", "True", 1])
def test_documents_come_back_with_what_the_client_sent_with_them(server: RunningServer, wanted: object) -> None:
    """Booleans as strings, as Xinference's clients send them; unknown fields are ignored."""
    documents = [{"text": "notice", "id": 7, "tags": ["a", {"b": None}]}, "license"]
    body = {"query": QUERY, "documents": documents, "return_documents": wanted, "return_len": "true", "unknown": {}}
    results = {result["index"]: result["document"] for result in server.post("/rerank", body).json["results"]}
    assert results == {0: documents[0], 1: {"text": "license"}}
    results = server.post("/infinity/rerank", body).json["results"]
    assert {result["index"]: result["document"] for result in results} == {0: "notice", 1: "license"}


def test_rank_fields_choose_what_counts(server: RunningServer, reranker: Reranker) -> None:
    documents = [{"title": "license", "body": "terms", "year": 2026}, {"title": "notice", "body": "word", "year": 1}]
    body = {"query": QUERY, "documents": documents, "rank_fields": ["body", "year"], "raw_scores": True}
    found = server.post("/rerank", body).json["results"]
    texts = ["body: terms\nyear: 2026", "body: word\nyear: 1"]
    assert same(found, [(place.index, place.score) for place in reranker.rank(QUERY, texts)])
    one = server.post("/rerank", {**body, "rank_fields": ["title"]}).json["results"]
    assert same(one, [(p.index, p.score) for p in reranker.rank(QUERY, ["license", "notice"])])
    refused = server.post("/rerank", {**body, "rank_fields": ["author"]})
    assert refused.status == 422
    assert "author" in refused.json["message"]
    assert (
        server.post("/rerank", {"query": QUERY, "documents": documents}).status == 422
    )  # neither text nor rank_fields


@pytest.mark.parametrize("switch", [{"raw_scores": True}, {"use_activation": False}, {"use_activation": "false"}])
def test_logits_where_a_client_asks_for_them(
    server: RunningServer, reranker: Reranker, switch: dict[str, object]
) -> None:
    found = server.post("/rerank", {"query": QUERY, "documents": DOCUMENTS, **switch}).json["results"]
    assert same(found, [(place.index, place.score) for place in reranker.rank(QUERY, DOCUMENTS)])


def test_contents_of_vllm_are_texts(server: RunningServer, reranker: Reranker) -> None:
    parts = [{"type": "text", "text": "the terms"}, {"type": "text", "text": "of the license"}]
    body = {"query": QUERY, "documents": [{"content": parts}, {"content": "notice"}], "use_activation": False}
    found = server.post("/v1/rerank", body).json["results"]
    texts = ["the terms\nof the license", "notice"]
    assert same(found, [(place.index, place.score) for place in reranker.rank(QUERY, texts)])
    image = {"query": QUERY, "documents": [{"content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}
    assert server.post("/v1/rerank", image).status == 422


def test_limits_of_vllm_and_cohere(server: RunningServer, reranker: Reranker) -> None:
    tokens = reranker.encoder.count((QUERY, "word word")) - reranker.encoder.count((QUERY, ""))
    body = {"query": QUERY, "documents": ["word " * 30], "max_tokens_per_doc": tokens}
    expected = reranker.rank(QUERY, ["word word"], activation="sigmoid")[0].score
    for path in ("/v1/rerank", "/v2/rerank"):
        answer = server.post(path, body)
        assert answer.json["results"][0]["relevance_score"] == pytest.approx(expected, abs=1e-6)
        assert len(answer.json["meta"]["warnings"]) == 1
        assert answer.headers["x-truncated"] == "1"
    cut = {"query": QUERY, "documents": ["word " * 30], "truncate_prompt_tokens": 20, "truncation_side": "left"}
    assert server.post("/rerank", cut).headers["x-compute-tokens"] == "20"


def test_priority_is_a_number_of_cohere(server: RunningServer) -> None:
    body = {"query": QUERY, "documents": ["a"]}
    assert server.post("/v2/rerank", {**body, "priority": 999}).status == 200
    assert server.post("/v2/rerank", {**body, "priority": 1000}).status == 422


def test_spans_of_a_long_document_say_what_matches(server: RunningServer) -> None:
    """In code points: an emoji counts once."""
    text = "🎈 " + "word " * 40 + "the terms of the license " + "notice " * 40
    spans: dict[str, Any] = {"mode": "enabled", "threshold": 0.0, "max_spans": 2}
    body = {"query": QUERY, "documents": ["notice", text], "relevant_spans": spans, "top_n": 2}
    results = {r["index"]: r["relevant_spans"] for r in server.post("/v2/rerank", body).json["results"]}
    assert results[0] == [{"start": 0, "end": 6, "score": results[0][0]["score"]}]
    assert len(results[1]) == 2
    assert results[1][0]["score"] >= results[1][1]["score"]
    assert all(text[s["start"] : s["end"]].strip() == text[s["start"] : s["end"]] for s in results[1])
    none = server.post("/v2/rerank", {**body, "relevant_spans": {**spans, "threshold": 1.0}}).json["results"]
    assert all(result["relevant_spans"] == [] for result in none)
    without = server.post("/v2/rerank", {**body, "relevant_spans": {"mode": "disabled"}}).json["results"]
    assert all("relevant_spans" not in result for result in without)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank", "/invocations"])
def test_tei(server: RunningServer, expected: list[tuple[int, float]], path: str) -> None:
    found = server.post(path, {"query": QUERY, "texts": DOCUMENTS}).json
    assert same(found, expected, "score")
    assert "text" not in found[0]
    body = {"query": QUERY, "texts": DOCUMENTS, "return_text": True, "truncate": True, "truncation_direction": "Right"}
    assert [item["text"] for item in server.post(path, body).json] == [DOCUMENTS[index] for index, _ in expected]


def test_tei_truncates_or_refuses(short: tuple[RunningServer, Reranker]) -> None:
    server, _ = short
    long = {"query": QUERY, "texts": ["word " * 90]}
    assert server.post("/rerank", {**long, "truncate": True}).status == 200
    refused = server.post("/rerank", {**long, "truncate": False})
    assert refused.status == 422
    assert refused.json["error_type"] == "Validation"
    assert "64" in refused.json["error"]
    left = server.post("/rerank", {**long, "truncation_direction": "Left", "raw_scores": True})
    assert left.headers["x-truncated"] == "1"
    assert server.post("/rerank", {"query": QUERY, "texts": []}).status == 422


def test_predict(server: RunningServer, reranker: Reranker) -> None:
    scores = reranker.score([(QUERY, "notice"), (QUERY, "license")], activation="sigmoid").tolist()
    one = server.post("/predict", {"inputs": [QUERY, "notice"]}).json
    assert one == [{"score": pytest.approx(scores[0], abs=1e-6), "label": reranker.labels[0]}]
    both = server.post("/predict", {"inputs": [[QUERY, "notice"], [QUERY, "license"]]}).json
    assert [answer[0]["score"] for answer in both] == pytest.approx(scores, abs=1e-6)
    assert server.post("/predict", {"inputs": "a single text"}).status == 422
    assert server.post("/predict", {"inputs": []}).status == 422


@pytest.mark.parametrize("names", [("text_1", "text_2"), ("queries", "documents"), ("data_1", "data_2")])
def test_score(server: RunningServer, reranker: Reranker, names: tuple[str, str]) -> None:
    expected = reranker.score([(QUERY, text) for text in DOCUMENTS], activation="sigmoid").tolist()
    first, second = names
    for queries in (QUERY, [QUERY], [QUERY] * len(DOCUMENTS)):
        answer = server.post("/v1/score", {first: queries, second: DOCUMENTS, "model": "m"}).json
        assert [item["score"] for item in answer["data"]] == pytest.approx(expected, abs=1e-6)
        assert [item["index"] for item in answer["data"]] == list(range(len(DOCUMENTS)))
    assert server.post("/score", {first: [QUERY] * 2, second: DOCUMENTS}).status == 422
    assert server.post("/score", {first: QUERY}).status == 422


@pytest.mark.parametrize("path", ["/v1/rerank", "/voyage/v1/rerank"])
def test_voyage(server: RunningServer, expected: list[tuple[int, float]], path: str) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS, "model": "rerank-2.5", "top_k": 3, "truncation": True}
    answer = server.post(path, body).json
    assert same(answer["data"], expected[:3])
    assert answer["usage"]["total_tokens"] > 0
    refused = server.post(path, {**body, "documents": ["word " * 9000], "truncation": False})
    assert refused.status == 422
    assert refused.json["detail"]


def test_nim(server: RunningServer, reranker: Reranker) -> None:
    body = {"model": "m", "query": {"text": QUERY}, "passages": [{"text": text} for text in DOCUMENTS]}
    found = server.post("/v1/ranking", body).json["rankings"]
    assert same(found, [(place.index, place.score) for place in reranker.rank(QUERY, DOCUMENTS)], "logit")


def test_weaviate_gets_scores_in_the_order_of_its_documents(
    server: RunningServer, expected: list[tuple[int, float]]
) -> None:
    answer = server.post("/rerank", {"query": QUERY, "documents": DOCUMENTS, "property": ""}).json
    assert [item["document"] for item in answer["scores"]] == DOCUMENTS
    by_index = dict(expected)
    assert [s["score"] for s in answer["scores"]] == pytest.approx([by_index[i] for i in range(5)], abs=1e-6)
    assert server.get("/.well-known/ready").status == 204
    assert isinstance(server.get("/meta").json, dict)


def test_a_document_beyond_the_limit_counts_by_its_best_part(short: tuple[RunningServer, Reranker]) -> None:
    server, reranker = short
    text = "word " * 90 + QUERY
    best = reranker.rank(QUERY, [text], long_documents="chunk", activation="sigmoid")[0].score
    for path in ("/rerank", "/v2/rerank"):
        found = server.post(path, {"query": QUERY, "documents": [text]}).json["results"]
        assert found[0]["relevance_score"] == pytest.approx(best, abs=1e-6)


def test_a_query_that_fills_the_limit_is_cut_and_not_an_error(short: tuple[RunningServer, Reranker]) -> None:
    server, reranker = short
    query, text = "license " * 90, "word " * 90
    answer = server.post("/rerank", {"query": query, "documents": [text]})
    expected = reranker.rank(query, [text], activation="sigmoid")[0].score
    assert answer.json["results"][0]["relevance_score"] == pytest.approx(expected, abs=1e-6)
    assert answer.headers["x-truncated"] == "1"


def test_no_documents_are_an_empty_answer(server: RunningServer) -> None:
    assert server.post("/rerank", {"query": QUERY, "documents": []}).json["results"] == []


def test_similarity_is_refused_with_the_reason(server: RunningServer) -> None:
    answer = server.post("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}})
    assert answer.status == 422
    assert "cross-encoder" in answer.json["message"]


def test_what_the_server_says_of_its_models(server: RunningServer, reranker: Reranker) -> None:
    info = server.get("/info").json
    assert next(iter(info["model_type"])) == "reranker"
    assert info["model_type"]["reranker"]["id2label"] == {"0": reranker.labels[0]}
    assert info["max_input_length"] == reranker.max_length
    assert info["max_client_batch_size"] == 1000
    assert [model["id"] for model in server.get("/v1/models").json["data"]] == ["tiny"]


def test_timing_headers_and_ids(server: RunningServer) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS}
    answer = server.post("/rerank", body, {"x-request-id": "abc-1"})
    assert answer.headers["x-request-id"] == answer.json["id"] == "abc-1"
    assert {"x-total-time", "x-queue-time", "x-tokenization-time", "x-inference-time"} <= set(answer.headers)
    assert int(answer.headers["x-compute-tokens"]) == answer.json["usage"]["total_tokens"]
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = server.post("/rerank", body, {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert answer.headers["x-request-id"] == trace
    answer = server.post("/rerank", body, {"x-request-id": "two words"})
    assert len(answer.headers["x-request-id"]) == 32


def test_several_labels(artifacts: Path) -> None:
    with serving(artifacts / "tiny-cls") as several:
        pair = [QUERY, "notice"]
        answer = several.post("/predict", {"inputs": pair}).json
        assert sum(item["score"] for item in answer) == pytest.approx(1, abs=1e-5)
        assert [item["score"] for item in answer] == sorted((item["score"] for item in answer), reverse=True)
        assert several.post("/rerank", {"query": QUERY, "documents": ["a"]}).status == 422
        assert several.post("/score", {"text_1": "a", "text_2": "b"}).status == 422
