"""An artifact orders the candidates of each query; kept query by query as a TREC run, and resumed from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modernrank.artifact.json_records import read_json_object
from modernrank.errors import InputError
from modernrank.options import LongDocuments
from modernrank.reranker import Reranker

from .formats import EvaluationSet

Scored = list[tuple[str, float]]  # document ids and scores, best first


@dataclass(frozen=True)
class RunFile:
    """``NAME.run`` in TREC's format, and beside it ``NAME.run.json``, which says what the scores are of.

    A run that was stopped goes on after its last whole query, if what it is of has not changed.
    """

    path: Path
    made_of: dict[str, Any]

    def begin(self, data: EvaluationSet) -> dict[str, Scored]:
        """What is there already; a query that is not whole is cut off."""
        beside = self.path.with_name(self.path.name + ".json")
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(self.made_of, indent=1) + "\n", encoding="utf-8")
            return {}
        there = read_json_object(beside) if beside.is_file() else {}
        if there != self.made_of:
            different = sorted(name for name in {*there, *self.made_of} if there.get(name) != self.made_of.get(name))
            raise InputError(
                f"{self.path} is of another evaluation ({', '.join(different)} differ); remove it, or choose another "
                "folder for the runs"
            )
        done = dict(self._whole(data))
        kept = self.path.with_name(self.path.name + ".kept")
        kept.write_text("".join(self._lines(query, scored) for query, scored in done.items()), encoding="utf-8")
        kept.replace(self.path)
        return done

    def add(self, query: str, scored: Scored) -> None:
        """Keep the ranking of one query."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self._lines(query, scored))

    def _lines(self, query: str, scored: Scored) -> str:
        tag = self.path.stem.replace(" ", "-")
        places = enumerate(scored, start=1)
        return "".join(f"{query} Q0 {name} {place} {score!r} {tag}\n" for place, (name, score) in places)

    def _whole(self, data: EvaluationSet) -> Iterator[tuple[str, Scored]]:
        found: dict[str, Scored] = {}
        for line in self.path.read_text(encoding="utf-8").split("\n")[:-1]:  # the last is a piece, or nothing
            columns = line.split()
            if len(columns) == 6 and _is_score(columns[4]):
                found.setdefault(columns[0], []).append((columns[2], float(columns[4])))
        for query, scored in found.items():
            if sorted(name for name, _ in scored) == sorted(data.candidates.get(query, [])):
                yield query, scored


def _is_score(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def rerank(
    data: EvaluationSet,
    reranker: Reranker,
    keep: RunFile | None,
    long_documents: LongDocuments,
    advance: Callable[[int], None],
) -> dict[str, Scored]:
    """The candidates of each judged query, ordered by their scores, ties in the order in which they were found.

    Args:
        data: queries, documents and candidates.
        reranker: what scores.
        keep: where the rankings are kept as they are made, and what was made before is read.
        long_documents: as ``Reranker.rank`` takes it.
        advance: called with the number of candidates of each query that is done.
    """
    done = keep.begin(data) if keep else {}
    rankings: dict[str, Scored] = {}
    for query, names in data.candidates.items():
        if query not in data.qrels:
            continue
        if query not in done:
            texts = [data.documents[name] for name in names]
            places = reranker.rank(data.queries[query], texts, long_documents=long_documents)
            done[query] = [(names[place.index], place.score) for place in places]
            if keep:
                keep.add(query, done[query])
        rankings[query] = done[query]
        advance(len(names))
    return rankings
