"""What products do with the answers of a reranker, and how their languages write JSON.

A reader gives the documents as the product then has them: their numbers and scores, best first.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

QUERY = "who plays music in a terminal?"
# What encoders of JSON treat differently: quotes, line ends, markup, accents, characters beyond 16 bits.
DOCUMENTS = [
    "A compiler of Rust.",
    'Plays "music" in a terminal.\nWith <b>tags</b> & covers.',
    "Éditeur de partitions 🎼, für Noten.",
    "一个电子表格。\u2028Tabellen.",
]

Places = list[tuple[int, float]]
Reader = Callable[[Any], Places]


def python_json(body: Any) -> bytes:
    """As ``requests``: everything but ASCII is escaped."""
    return json.dumps(body).encode()


def plain_json(body: Any) -> bytes:
    """As httpx, Java and JavaScript."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def go_json(body: Any) -> bytes:
    """As Go: markup and line separators are escaped."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def best_first(places: Places) -> Places:
    return sorted(places, key=lambda place: -place[1])


def in_order(answer: Any, name: str = "results", score: str = "relevance_score") -> Places:
    """Take the results as they come."""
    return [(place["index"], place[score]) for place in answer[name]]


def by_index(answer: Any) -> Places:
    """Put each score into its place, and sort then."""
    return best_first(in_order(answer))


def sorted_back(answer: Any) -> Places:
    """Sort by index, and take the scores alone: every document must be there."""
    places = sorted(answer["results"], key=lambda place: place["index"])
    return best_first(list(enumerate(place["relevance_score"] for place in places)))


def with_document(answer: Any) -> Places:
    """Show the text of the answer, a string or an object."""
    for place in answer["results"]:
        document = place["document"]
        assert (document if isinstance(document, str) else document["text"]) == DOCUMENTS[place["index"]]
    return in_order(answer)


def document_or_own(answer: Any) -> Places:
    """Show the text of the answer if there is one, and the product's own otherwise."""
    for place in answer["results"]:
        text = place["document"]["text"] if "document" in place else DOCUMENTS[place["index"]]
        assert text == DOCUMENTS[place["index"]]
    return in_order(answer)


def ragflow(answer: Any) -> Places:
    """Count tokens, and rescale scores that are no probabilities."""
    assert answer["usage"]["total_tokens"] > 0
    assert all(0 <= place["relevance_score"] <= 1 for place in answer["results"])
    return by_index(answer)


def infinity(answer: Any) -> Places:
    """Refuse an answer of another kind; Agno then leaves the documents in their old order, without an error."""
    assert answer["object"] == "rerank"
    return in_order(answer)


def together(answer: Any) -> Places:
    """Refuse an answer without all three numbers of tokens."""
    assert {"prompt_tokens", "completion_tokens", "total_tokens"} <= answer["usage"].keys()
    return in_order(answer)


def rankings(answer: Any) -> Places:
    return in_order(answer, "rankings", "logit")


def tei(answer: Any) -> Places:
    return [(place["index"], place["score"]) for place in answer]


def tei_with_text(answer: Any) -> Places:
    assert [place["text"] for place in answer] == [DOCUMENTS[place["index"]] for place in answer]
    return tei(answer)


def first_two(answer: Any) -> Places:
    """Stop at the number of documents that are wanted."""
    return tei_with_text(answer)[:2]


def tei_sorted_back(answer: Any) -> Places:
    """Sort by index, and take the scores alone."""
    places = sorted(answer, key=lambda place: place["index"])
    return best_first(list(enumerate(place["score"] for place in places)))


def weaviate(answer: Any) -> Places:
    """Match by position."""
    assert [place["document"] for place in answer["scores"]] == DOCUMENTS
    return best_first(list(enumerate(place["score"] for place in answer["scores"])))


def opensearch(answer: Any) -> Places:
    """Fill an array by index; a score must be a fraction, since an integer cannot be cast."""
    assert all(type(place["relevance_score"]) is float for place in answer["results"])
    return sorted_back(answer)


def tensor(answer: Any) -> Places:
    output = next(output for output in answer["outputs"] if output["name"] == "scores")
    assert output["datatype"] == "FP32" and output["shape"] == [len(DOCUMENTS)]
    return best_first(list(enumerate(output["data"])))
