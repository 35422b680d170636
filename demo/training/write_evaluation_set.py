"""Write the held-out queries in BEIR's layout: ``python -m demo.training.write_evaluation_set WORK FOLDER``.

The queries are those of the test split that need more than their words found, the candidates BM25's, from the documents
of the test split alone. ``--queries`` draws some of them, and keeps only the documents that are candidates or relevant.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from . import debian_packages as corpus
from .bm25_candidates import is_more_than_words, shared_words, topics

SEED = 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="with Debian's package lists")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--queries", type=int, help="so many of them, drawn by chance (all)")
    parser.add_argument(
        "--every-kind", action="store_true", help="also queries whose words all stand in their document"
    )
    parser.add_argument(
        "--shared",
        type=float,
        nargs=2,
        metavar=("ABOVE", "MOST"),
        help="only queries that share such a part of their words",
    )
    args = parser.parse_args()
    entries = [entry for entry in corpus.read(args.work / "lists") if entry.split == "test"]
    found = [t for t in topics(entries) if t.found and (args.every_kind or is_more_than_words(entries[t.own]))]
    # One for each text: packages with the same synopsis are one query with several relevant documents.
    found = list({topic.query: topic for topic in found}.values())
    if args.shared:
        above, most = args.shared
        found = [t for t in found if above < shared_words(entries[t.own]) <= most]
    chosen = np.random.default_rng(SEED).permutation(len(found))[: args.queries]
    picked = [found[i] for i in sorted(chosen.tolist())]
    kept = sorted({place for topic in picked for place in (*topic.found, *topic.relevant)})
    name = {topic.query: entries[topic.own].id for topic in picked}
    (args.folder / "qrels").mkdir(parents=True, exist_ok=True)
    _write(args.folder / "queries.jsonl", (json.dumps({"_id": name[t.query], "text": t.query}) for t in picked))
    _write(
        args.folder / "corpus.jsonl",
        (json.dumps({"_id": entries[p].id, "text": entries[p].document}, ensure_ascii=False) for p in kept),
    )
    judged = (f"{name[t.query]}\t{entries[p].id}\t1" for t in picked for p in sorted(t.relevant))
    _write(args.folder / "qrels" / "test.tsv", ("query-id\tcorpus-id\tscore", *judged))
    run = (
        f"{name[t.query]} Q0 {entries[place].id} {rank} {len(t.found) - rank} bm25"
        for t in picked
        for rank, place in enumerate(t.found, start=1)
    )
    _write(args.folder / "candidates.run", run)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
