"""Queries, documents, candidates and judgements from JSON lines, TREC files and BEIR folders, refused by file and line.

    queries      JSON lines {"_id", "text"}, or lines ID <tab> TEXT
    corpus       JSON lines {"_id", "text"} and perhaps "title", which goes before the text
    candidates   a TREC run (QUERY Q0 DOCUMENT RANK SCORE TAG), or JSON lines {"query_id", "document_id", "document"}
    qrels        TREC (QUERY 0 DOCUMENT GRADE), or BEIR (QUERY <tab> DOCUMENT <tab> GRADE under a line of names)

Ids hold no white space, which TREC's files could not keep apart. A BEIR folder has ``queries.jsonl``, ``corpus.jsonl``
and ``qrels/test.tsv``; candidates, which BEIR has none of, are in ``candidates.run`` beside them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modernrank.errors import InputError
from modernrank.text import jsonl
from modernrank.text.checks import check_text

QUERIES, CORPUS, QRELS, CANDIDATES = "queries.jsonl", "corpus.jsonl", "qrels/test.tsv", "candidates.run"

Qrels = dict[str, dict[str, int]]


@dataclass(frozen=True)
class EvaluationSet:
    """What rankings are made from and judged by.

    queries:    text by id.
    documents:  text by id.
    candidates: for each query the ids of the documents to order, in the order in which they were found.
    qrels:      for each query the grades of documents, 0 for irrelevant.
    notes:      what a reader of the figures must know: queries that have no judgements, or no candidates.
    sha256:     of the files together.
    """

    queries: dict[str, str]
    documents: dict[str, str]
    candidates: dict[str, list[str]]
    qrels: Qrels
    notes: list[str]
    sha256: str

    @property
    def judged(self) -> list[str]:
        """Ids of the queries that the figures are means over: those with judgements, also where nothing was found."""
        return list(self.qrels)


def read_folder(folder: Path, candidates: Path | None = None) -> EvaluationSet:
    """Read a BEIR folder, with the candidates in it or in another file."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} with {QUERIES}, {CORPUS} and {QRELS}")
    candidates = candidates or folder / CANDIDATES
    if not candidates.is_file():
        raise InputError(f"there is no {candidates}; give what a first stage has found for each query (--candidates)")
    return read_files(folder / QUERIES, candidates, folder / QRELS, folder / CORPUS)


def read_files(queries: Path, candidates: Path, qrels: Path, corpus: Path | None = None) -> EvaluationSet:
    """Read the files; ``corpus`` may be left out where the candidates hold their documents.

    Raises:
        InputError: a line that cannot be used, an id that stands twice or that is not known, or nothing to rank.
    """
    texts = _queries(queries)
    documents = _corpus(corpus) if corpus else {}
    found = _candidates(candidates, texts, documents, corpus)
    grades = _qrels(qrels, texts, documents if corpus else None)
    files = [path for path in (queries, candidates, qrels, corpus) if path]
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()
    notes = []
    if unjudged := [query for query in found if query not in grades]:
        notes.append(f"{len(unjudged)} queries with candidates have no judgements and are left out ({unjudged[0]}, ..)")
    if missed := [query for query in grades if query not in found]:
        notes.append(f"{len(missed)} judged queries have no candidates and count as 0 ({missed[0]}, ..)")
    if len(unjudged) == len(found):
        raise InputError(f"{qrels} judges none of the {len(found)} queries that {candidates} has candidates for")
    return EvaluationSet(texts, documents, found, grades, notes, digest)


def _queries(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, text, where in _identified(path):
        _add(texts, name, check_text(text, where), where, "query")
    if not texts:
        raise InputError(f"{path} holds no queries")
    return texts


def _identified(path: Path) -> Iterator[tuple[str, str, str]]:
    """Id, text and where they stand."""
    if path.suffix == ".jsonl":
        for record, where in _objects(path):
            yield _id(_field(record, "_id", where), where), _field(record, "text", where), where
    else:
        for line, where in _lines(path):
            name, text = _columns(line, where, 2, "ID <tab> TEXT (JSON lines have names in .jsonl)", "\t")
            yield _id(name, where), text, where


def _corpus(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for record, where in _objects(path):
        title = _field({"title": "", **record}, "title", where)
        text = _field(record, "text", where)
        text = check_text(f"{title} {text}" if title else text, where)
        _add(texts, _id(_field(record, "_id", where), where), text, where, "document")
    if not texts:
        raise InputError(f"{path} holds no documents")
    return texts


def _candidates(
    path: Path, queries: dict[str, str], documents: dict[str, str], corpus: Path | None
) -> dict[str, list[str]]:
    """By query, in order. Documents of JSON lines are put into ``documents``."""
    ranked: dict[str, dict[str, float]] = {}
    for query, document, rank, where in _pairs(path, documents, corpus):
        if query not in queries:
            raise InputError(f"{where} names query {query!r}, which the queries have not")
        if document not in documents:
            remedy = f"{corpus} has not" if corpus else "no corpus was given for; give --corpus"
            raise InputError(f"{where} names document {document!r}, which {remedy}")
        places = ranked.setdefault(query, {})
        if document in places:
            raise InputError(f"{where}: query {query!r} has document {document!r} already")
        if rank in places.values():
            raise InputError(
                f"{where}: query {query!r} has a document at rank {rank:g} already; number them, best first"
            )
        places[document] = rank
    if not ranked:
        raise InputError(f"{path} holds no candidates")
    return {query: sorted(ranks, key=lambda name: ranks[name]) for query, ranks in ranked.items()}


def _pairs(path: Path, documents: dict[str, str], corpus: Path | None) -> Iterator[tuple[str, str, float, str]]:
    """Query, document, place and where that stands."""
    if path.suffix != ".jsonl":
        for line, where in _lines(path):
            query, _, document, rank, _, _ = _columns(line, where, 6, "QUERY Q0 DOCUMENT RANK SCORE TAG")
            yield query, document, _number(rank, where, "rank"), where
        return
    for place, (record, where) in enumerate(_objects(path)):
        query, document = _field(record, "query_id", where), _field(record, "document_id", where)
        if corpus is None:
            text = check_text(_field(record, "document", where), where)
            if documents.setdefault(document, text) != text:
                raise InputError(f"{where}: document {document!r} has another text above")
        yield query, document, place, where


def _qrels(path: Path, queries: dict[str, str], documents: dict[str, str] | None) -> Qrels:
    grades: Qrels = {}
    for number, (line, where) in enumerate(_lines(path)):
        if path.suffix == ".tsv":
            form = "QUERY <tab> DOCUMENT <tab> GRADE (TREC's four columns have a name in .txt)"
            query, document, grade = _columns(line, where, 3, form, "\t")
            if number == 0 and query not in queries and not _is_number(grade):
                continue  # the names of the columns
        else:
            query, _, document, grade = _columns(line, where, 4, "QUERY 0 DOCUMENT GRADE (BEIR's have a name in .tsv)")
        if query not in queries:
            raise InputError(f"{where} judges query {query!r}, which the queries have not")
        if documents is not None and document not in documents:
            raise InputError(f"{where} judges document {document!r}, which the corpus has not")
        value = _number(grade, where, "grade")
        if value != int(value):
            raise InputError(f"{where}: grade {grade!r} is not a whole number")
        _add(grades.setdefault(query, {}), document, int(value), where, f"judgement of query {query!r} and document")
    if not grades:
        raise InputError(f"{path} holds no judgements")
    return grades


def _objects(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    with jsonl.reading(str(path)) as lines:
        yield from jsonl.objects(lines, str(path))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with jsonl.reading(str(path)) as lines:
        for text, where in jsonl.texts(lines, str(path)):
            if text.strip():
                yield text.rstrip("\r\n"), where


def _columns(line: str, where: str, count: int, form: str, separator: str | None = None) -> list[str]:
    columns = line.split(separator)
    if len(columns) != count:
        raise InputError(f"{where} has {len(columns)} columns; a line is {form}")
    return columns


def _field(record: dict[str, Any], name: str, where: str) -> str:
    if name not in record:
        raise InputError(f"{where} has no {name!r}")
    if not isinstance(record[name], str):
        raise InputError(f"{where}: {name!r} is not a string but {type(record[name]).__name__}")
    return str(record[name])


def _id(name: str, where: str) -> str:
    if name.split() != [name]:
        raise InputError(
            f"{where}: id {name!r} is empty or holds white space, which TREC's files cannot keep; rename it"
        )
    return name


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _number(text: str, where: str, what: str) -> float:
    if not _is_number(text):
        raise InputError(f"{where}: {what} {text!r} is not a number")
    return float(text)


def _add(into: dict[str, Any], name: str, value: Any, where: str, what: str) -> None:
    if name in into:
        raise InputError(f"{where}: {what} {name!r} stands twice")
    into[name] = value
