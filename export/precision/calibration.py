"""Calibration pairs: the texts on which the activations of a model are measured."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

from modernrank.errors import InputError, counted
from modernrank.text import jsonl
from modernrank.text.checks import Pair

# Written for this project: 32 queries in five languages, each with a relevant and an irrelevant passage; then texts
# that are not sentences but occur in search indexes: dot leaders, tables, code, addresses, repeated words, empty texts.
# Without these, ranges are too narrow for such documents (one of 128 MS MARCO pairs was off by 9 % of the deviation).
SHIPPED = Path(__file__).with_name("calibration.jsonl")
MIN_PAIRS = 8


@dataclass(frozen=True)
class Calibration:
    """Pairs, and for the manifest their source, ``"shipped"`` or the user's file, and the SHA-256 of that file."""

    pairs: list[Pair]
    source: str
    sha256: str

    def as_json(self) -> dict[str, str | int]:
        """For the manifest."""
        return {"source": self.source, "sha256": self.sha256, "pairs": len(self.pairs)}


def read_calibration(file: Path | None) -> Calibration:
    """The pairs of a JSON lines file, or for None those that the package ships.

    Raises:
        InputError: there are fewer than MIN_PAIRS different pairs, or a line cannot be used.
    """
    path = SHIPPED if file is None else file
    with jsonl.reading(str(path)) as lines:
        pairs = list(jsonl.PairReader(lines, str(path)))
    different = len(set(pairs))
    if different < MIN_PAIRS:
        raise InputError(
            f"{path} holds {counted(different, 'different pair')}, and the minimum for calibration is {MIN_PAIRS}; add "
            "pairs like those that will be scored",
            file=path,
            pairs=different,
            minimum=MIN_PAIRS,
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Calibration(pairs, "shipped" if file is None else path.name, digest)


def held_out_pairs(step: int = 4, document_step: int = 1) -> list[Pair]:
    """Every ``step``-th query of the shipped set with every ``document_step``-th passage.

    Calibration saw only a few of these pairs.
    """
    texts = read_calibration(None).pairs
    queries = list(dict.fromkeys(query for query, _ in texts))[::step]
    passages = list(dict.fromkeys(document for _, document in texts))
    return list(itertools.product(queries, passages[::document_step]))
