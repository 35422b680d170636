"""Queries, documents, candidates and judgements from JSON lines, TREC files and BEIR folders.

    queries      JSON lines {"_id", "text"}, or lines ID <tab> TEXT
    corpus       JSON lines {"_id", "text"}, optionally with "title", which is put before the text
    candidates   a TREC run (QUERY Q0 DOCUMENT RANK SCORE TAG), or JSON lines {"query_id", "document_id", "document"}
    qrels        TREC (QUERY 0 DOCUMENT GRADE), or BEIR (QUERY <tab> DOCUMENT <tab> GRADE, perhaps below column names)

The ending of a file's name decides: ``.jsonl`` is JSON lines, and judgements in ``.tsv`` are BEIR's. Ids must not
contain white space, because TREC files separate columns by it. A BEIR folder has ``queries.jsonl``, ``corpus.jsonl``
and ``qrels/test.tsv``. BEIR has no candidates, so ``read_folder`` expects them beside these in ``candidates.run``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modernrank.artifact.hashing import sha256_of
from modernrank.errors import InputError
from modernrank.text.jsonl import JSON_LINES, Place

from .lines import columns, identifier, is_number, json_lines, number, string_field, text_lines, valid_text

QUERIES, CORPUS, QRELS, CANDIDATES = "queries.jsonl", "corpus.jsonl", "qrels/test.tsv", "candidates.run"
SHOWN = 3  # ids in a note
MAX_GRADE = 1000  # a gain of 2 to the power of the grade would overflow far beyond

Qrels = dict[str, dict[str, int]]


@dataclass(frozen=True)
class EvaluationSet:
    """Queries with candidates to rank, and the judgements with which rankings are measured.

    queries:    text by id.
    documents:  text by id.
    candidates: for each query the ids of the documents to rank, in the order of the first stage.
    qrels:      for each query the grades of documents; 0 is irrelevant.
    sha256:     hash of the files together; run files record it.
    """

    queries: dict[str, str]
    documents: dict[str, str]
    candidates: dict[str, list[str]]
    qrels: Qrels
    sha256: str

    @property
    def judged(self) -> list[str]:
        """Ids of the queries with judgements. All figures are means over them, even if one has no candidates."""
        return list(self.qrels)

    @property
    def judged_candidates(self) -> dict[str, list[str]]:
        """The candidates of the queries with judgements: all that need be ranked."""
        return {query: names for query, names in self.candidates.items() if query in self.qrels}

    @property
    def unjudged(self) -> list[str]:
        """Ids of the queries that have candidates but no judgements."""
        return [query for query in self.candidates if query not in self.qrels]

    @property
    def without_candidates(self) -> list[str]:
        """Ids of the queries that have judgements but no candidates."""
        return [query for query in self.qrels if query not in self.candidates]

    @property
    def notes(self) -> list[str]:
        """Sentences about ``unjudged`` and ``without_candidates``, which a reader of the figures must know."""
        notes = []
        if self.unjudged:
            notes.append(_counted(self.unjudged, "without judgements", "is left out", "are left out"))
        if self.without_candidates:
            notes.append(_counted(self.without_candidates, "without candidates", "counts as 0", "count as 0"))
        return notes


def read_folder(folder: Path, candidates: Path | None = None) -> EvaluationSet:
    """Read a folder in BEIR's layout.

    Args:
        folder: holds queries, corpus, judgements, and by default the candidates.
        candidates: another file of candidates.

    Raises:
        InputError: the folder or the candidates do not exist; or as in ``read_files``.
    """
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder} with {QUERIES}, {CORPUS} and {QRELS}; create it in BEIR's layout",
            file=str(folder),
        )
    candidates = candidates or folder / CANDIDATES
    if not candidates.is_file():
        raise InputError(
            f"there is no file {candidates}; give the candidates of a first stage with --candidates FILE",
            file=str(candidates),
        )
    return read_files(folder / QUERIES, candidates, folder / QRELS, folder / CORPUS)


def read_files(queries: Path, candidates: Path, qrels: Path, corpus: Path | None = None) -> EvaluationSet:
    """Read single files.

    Args:
        queries: JSON lines, or lines of an id, a tab and a text.
        candidates: a TREC run, or JSON lines.
        qrels: judgements of TREC, or BEIR's in ``.tsv``.
        corpus: the documents; may be left out if the candidates are JSON lines, which hold them.

    Raises:
        InputError: a line cannot be used, an id is repeated or unknown, or there is nothing to rank. ``details`` has
            the ``file``, and the ``line`` where one line is at fault.
    """
    texts = _read_queries(queries)
    documents = {} if corpus is None else _read_corpus(corpus)
    ranked = _read_candidates(candidates, texts, documents, corpus)
    grades = _read_qrels(qrels, texts, None if corpus is None else documents)
    if not grades.keys() & ranked.keys():
        raise InputError(
            f"{qrels} judges none of the queries in {candidates}; give candidates and judgements of the same queries",
            file=str(qrels),
        )
    files = [path for path in (queries, candidates, qrels, corpus) if path]
    digest = hashlib.sha256(b"".join(bytes.fromhex(sha256_of(path)) for path in files)).hexdigest()
    return EvaluationSet(texts, documents, ranked, grades, digest)


def _read_queries(path: Path) -> dict[str, str]:
    queries: dict[str, str] = {}
    for name, text, place in _query_lines(path):
        _add(queries, identifier(name, place), valid_text(text, place), place, "query id")
    return _not_empty(queries, path, "queries")


def _query_lines(path: Path) -> Iterator[tuple[str, str, Place]]:
    """Id, text and place of each query."""
    if path.suffix.lower() in JSON_LINES:
        for record, place in json_lines(path):
            yield string_field(record, "_id", place), string_field(record, "text", place), place
    else:
        for line, place in text_lines(path):
            name, text = columns(line, place, "ID\tTEXT", "\t", "; JSON lines need a file name in .jsonl")
            yield name, text, place


def _read_corpus(path: Path) -> dict[str, str]:
    documents: dict[str, str] = {}
    for record, place in json_lines(path):
        title = string_field({"title": "", **record}, "title", place)
        text = string_field(record, "text", place)
        name = identifier(string_field(record, "_id", place), place)
        _add(documents, name, valid_text(f"{title} {text}" if title else text, place), place, "document id")
    return _not_empty(documents, path, "documents")


def _read_candidates(
    path: Path, queries: dict[str, str], documents: dict[str, str], corpus: Path | None
) -> dict[str, list[str]]:
    """Document ids by query, in order of rank. The documents of JSON lines are added to ``documents``."""
    document_at: dict[str, dict[float, str]] = {}
    known: dict[str, set[str]] = {}
    for query, document, rank, place in _candidate_lines(path, documents, corpus):
        _check_known(query, queries, place, "query id")
        _check_known(document, documents, place, "document id", "" if corpus else "; give the documents with --corpus")
        ranks, names = document_at.setdefault(query, {}), known.setdefault(query, set())
        if document in names:
            raise place.error(f"repeats document {document!r} of query {query!r}", value=document)
        if rank in ranks:
            raise place.error(
                f"gives query {query!r} a second document at rank {rank:g}; number its documents, best first",
                value=rank,
            )
        ranks[rank] = document
        names.add(document)
    _not_empty(document_at, path, "candidates")
    return {query: [ranks[rank] for rank in sorted(ranks)] for query, ranks in document_at.items()}


def _candidate_lines(
    path: Path, documents: dict[str, str], corpus: Path | None
) -> Iterator[tuple[str, str, float, Place]]:
    """Query id, document id, rank and place of each candidate."""
    if path.suffix.lower() not in JSON_LINES:
        for line, place in text_lines(path):
            query, _, document, rank, _, _ = columns(line, place, "QUERY Q0 DOCUMENT RANK SCORE TAG")
            yield query, document, number(rank, place, "rank"), place
        return
    for order, (record, place) in enumerate(json_lines(path)):
        query, document = string_field(record, "query_id", place), string_field(record, "document_id", place)
        if corpus is None:
            text = valid_text(string_field(record, "document", place), place)
            if documents.setdefault(document, text) != text:
                raise place.error(f"gives document {document!r} a different text from an earlier line", value=document)
        yield query, document, order, place


def _read_qrels(path: Path, queries: dict[str, str], documents: dict[str, str] | None) -> Qrels:
    """Grades by query and document; ``documents`` is None if not all judged documents are known."""
    qrels: Qrels = {}
    for query, document, grade, place in _judgement_lines(path, queries):
        _check_known(query, queries, place, "query id")
        if documents is not None:
            _check_known(document, documents, place, "document id")
        value = number(grade, place, "grade")
        if abs(value) > MAX_GRADE:
            raise place.error(f"has the grade {grade!r}; the maximum is {MAX_GRADE}", field="grade", value=grade)
        if value != int(value):
            raise place.error(f"has the grade {grade!r}, which is not a whole number", field="grade", value=grade)
        _add(qrels.setdefault(query, {}), document, int(value), place, f"a judgement of query {query!r}, of document")
    return _not_empty(qrels, path, "judgements")


def _judgement_lines(path: Path, queries: dict[str, str]) -> Iterator[tuple[str, str, str, Place]]:
    """Query id, document id, grade and place of each judgement."""
    for order, (line, place) in enumerate(text_lines(path)):
        if path.suffix.lower() == ".tsv":
            remedy = "; judgements of TREC need a file name in .txt"
            query, document, grade = columns(line, place, "QUERY\tDOCUMENT\tGRADE", "\t", remedy)
            if order == 0 and query not in queries and not is_number(grade):
                continue  # the names of the columns
        else:
            remedy = "; judgements of BEIR need a file name in .tsv"
            query, _, document, grade = columns(line, place, "QUERY 0 DOCUMENT GRADE", remedy=remedy)
        yield query, document, grade, place


def _check_known(name: str, known: dict[str, str], place: Place, kind: str, remedy: str = "") -> None:
    if name not in known:
        raise place.error(f"refers to unknown {kind} {name!r}{remedy}", value=name)


def _add(values: dict[str, Any], name: str, value: Any, place: Place, kind: str) -> None:
    if name in values:
        raise place.error(f"repeats {kind} {name!r}", value=name)
    values[name] = value


def _not_empty(values: dict[str, Any], path: Path, kind: str) -> dict[str, Any]:
    if not values:
        raise InputError(f"{path} contains no {kind}", file=str(path))
    return values


def _counted(queries: list[str], lack: str, one: str, several: str) -> str:
    """A sentence such as ``"2 queries without judgements are left out (q1, q2)"``."""
    listed = ", ".join([*queries[:SHOWN], *([".."] if len(queries) > SHOWN else [])])
    count = f"{len(queries)} {'query' if len(queries) == 1 else 'queries'}"
    return f"{count} {lack} {one if len(queries) == 1 else several} ({listed})"
