"""A retrieval task of MTEB, with the candidates of a first stage, as a folder for ``modernrank eval``.

task, {task}_predictions.json ──▶ queries.jsonl, corpus.jsonl, qrels/test.tsv, candidates.run
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modernrank import InputError

if TYPE_CHECKING:
    from mteb.abstasks.retrieval import AbsTaskRetrieval

TOP = 100


def write_folder(
    task: AbsTaskRetrieval,
    predictions: str | Path,
    folder: str | Path,
    *,
    top_k: int = TOP,
    split: str = "test",
    subset: str = "default",
) -> Path:
    """Write a task's queries, judgements and candidates, and the documents that are candidates or judged.

    Where the task ignores documents with the id of their query, as ArguAna does, these are no candidates. A document
    that is judged and not in the corpus is written with an empty text, because the best possible ranking has it.

    Args:
        task: a retrieval task, such as ``mteb.get_task("SciFact")``.
        predictions: the ``prediction_folder`` of ``mteb.evaluate`` for the first stage, or the task's file in it.
        folder: is created. Files of the same names are replaced.
        top_k: maximum number of candidates of a query.
        split: of the task.
        subset: of the task.

    Returns:
        ``folder``.

    Raises:
        InputError: the task has no such split, or evaluates in a way that the folder cannot express.
        FileNotFoundError: there are no predictions for this task.
    """
    if task.skip_first_result:
        raise InputError(f"{task.metadata.name} leaves out the first result, which a folder cannot express")
    reranking = task.convert_to_reranking(predictions, top_k + 1)  # one of them may have the query's own id
    try:
        data = reranking.dataset[subset][split]
    except KeyError as error:
        known = {name: sorted(splits) for name, splits in reranking.dataset.items()}
        raise InputError(
            f"{task.metadata.name} has no split {split!r} of subset {subset!r}; it has {known}", value=split
        ) from error
    qrels = {query: grades for query, grades in data["relevant_docs"].items() if grades}
    candidates = {query: _candidates(task, query, data["top_ranked"].get(query, ()), top_k) for query in qrels}
    needed = {name for names in (*candidates.values(), *qrels.values()) for name in names}
    out = Path(folder)
    (out / "qrels").mkdir(parents=True, exist_ok=True)
    queries = ({"_id": row["id"], "text": row["text"]} for row in data["queries"] if row["id"] in qrels)
    _write_json_lines(out / "queries.jsonl", queries)
    _write_json_lines(out / "corpus.jsonl", _corpus(data["corpus"], needed))
    _write_lines(out / "qrels" / "test.tsv", ("query-id\tcorpus-id\tscore", *_judgements(qrels)))
    _write_lines(out / "candidates.run", _run(candidates))
    return out


def _candidates(task: AbsTaskRetrieval, query: str, ranked: Sequence[str], top_k: int) -> list[str]:
    return [name for name in ranked if not (task.ignore_identical_ids and name == query)][:top_k]


def _corpus(rows: Iterable[Mapping[str, Any]], needed: set[str]) -> Iterator[dict[str, str]]:
    """The needed documents, as BEIR writes them."""
    missing = set(needed)
    for row in rows:
        if row["id"] in needed:
            missing.discard(row["id"])
            yield {"_id": row["id"], "title": row.get("title") or "", "text": row["text"] or ""}
    for name in sorted(missing):
        yield {"_id": name, "title": "", "text": ""}


def _judgements(qrels: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    for query, grades in qrels.items():
        for document, grade in grades.items():
            yield f"{query}\t{document}\t{grade}"


def _run(candidates: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for query, names in candidates.items():
        for place, name in enumerate(names, 1):
            yield f"{query} Q0 {name} {place} {-place} first-stage"


def _write_json_lines(path: Path, records: Iterable[Mapping[str, str]]) -> None:
    _write_lines(path, (json.dumps(record, ensure_ascii=False) for record in records))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
