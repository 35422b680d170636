"""Rankings in a TREC run file, written query by query, so that a comparison that was stopped can be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modernrank.artifact.json_records import read_json_object
from modernrank.errors import InputError

from .formats import EvaluationSet

COLUMNS = 6  # QUERY Q0 DOCUMENT RANK SCORE TAG

Ranking = list[tuple[str, float]]  # the ids of a query's documents and their scores, best first


@dataclass(frozen=True)
class RunFile:
    """``NAME.run`` in TREC's format; ``NAME.run.json`` beside it records everything that affects its scores.

    path:       of the run.
    provenance: a JSON object of everything that affects the scores. A run is resumed only if it is the same.
    """

    path: Path
    provenance: dict[str, Any]

    def resume(self, data: EvaluationSet) -> dict[str, Ranking]:
        """Start the run, or continue one that was stopped.

        Returns:
            The rankings that the file holds, by query. A query that was written in part is removed from the file.

        Raises:
            InputError: the file holds rankings of another provenance.
        """
        record = self.path.with_name(self.path.name + ".json")
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps(self.provenance, indent=1) + "\n", encoding="utf-8")
            return {}
        self._check_provenance(read_json_object(record) if record.is_file() else {})
        rankings = dict(self._complete(data))
        rewritten = self.path.with_name(self.path.name + ".kept")
        rewritten.write_text("".join(self._lines(*item) for item in rankings.items()), encoding="utf-8")
        rewritten.replace(self.path)
        return rankings

    def add(self, query: str, ranking: Ranking) -> None:
        """Append the ranking of one query."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self._lines(query, ranking))

    def _check_provenance(self, recorded: dict[str, Any]) -> None:
        names = sorted({*recorded, *self.provenance})
        differing = [name for name in names if recorded.get(name) != self.provenance.get(name)]
        if differing:
            raise InputError(
                f"{self.path} holds rankings of another evaluation, which differs in {', '.join(differing)}; "
                "remove the file, or choose another folder for the runs",
                file=str(self.path),
                differing=differing,
            )

    def _lines(self, query: str, ranking: Ranking) -> str:
        tag = "-".join(self.path.stem.split())
        ranks = enumerate(ranking, start=1)
        return "".join(f"{query} Q0 {name} {rank} {score!r} {tag}\n" for rank, (name, score) in ranks)

    def _complete(self, data: EvaluationSet) -> Iterator[tuple[str, Ranking]]:
        """The queries whose ranking holds exactly their candidates."""
        rankings: dict[str, Ranking] = {}
        # A damaged line belongs to a query that is ranked again; after the last break is a partial line.
        for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            values = line.split()
            score = _score(values[4]) if len(values) == COLUMNS else None
            if score is not None:
                rankings.setdefault(values[0], []).append((values[2], score))
        for query, ranking in rankings.items():
            if sorted(name for name, _ in ranking) == sorted(data.candidates.get(query, [])):
                yield query, ranking


def _score(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
