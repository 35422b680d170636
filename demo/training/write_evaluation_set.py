"""Write the test queries as an evaluation set in BEIR's layout, with BM25's candidates as a TREC run.

The queries are those of the test split for which a search for their words does not suffice. BM25 retrieves the
candidates among the documents of the test split alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .data.bm25_candidates import Topic, needs_more_than_words, retrieve, shared_words
from .data.debian_packages import Package, read_packages
from .recipe import SEED


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.training.write_evaluation_set",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("work", type=Path, help="the folder that python -m demo.training.train filled")
    parser.add_argument("folder", type=Path, help="the folder to write")
    parser.add_argument(
        "--queries",
        type=int,
        help="the maximum number of queries, drawn at random (all); other documents than their candidates and relevant "
        "ones are left out",
    )
    parser.add_argument(
        "--every-kind", action="store_true", help="include the queries for which a search for their words suffices"
    )
    parser.add_argument(
        "--shared",
        type=float,
        nargs=2,
        metavar=("ABOVE", "MAXIMUM"),
        help="only queries of whose words the document has a share above the first number, and at most the second",
    )
    args = parser.parse_args()
    packages = [package for package in read_packages(args.work / "lists") if package.split == "test"]
    topics = choose_topics(packages, args.every_kind, args.shared, args.queries)
    write_evaluation_set(packages, topics, args.folder)


def choose_topics(
    packages: Sequence[Package], every_kind: bool, shared: tuple[float, float] | None, max_queries: int | None
) -> list[Topic]:
    """Choose queries that have candidates. Packages with the same synopsis are one query of several relevant documents.

    Args:
        packages: The packages of the test split.
        every_kind: Whether to include queries for which a search for their words suffices.
        shared: The limits of the share of a query's words that its document has: above the first, at most the second.
        max_queries: The maximum number of queries, drawn at random; None for all.
    """
    topics = [
        topic
        for topic in retrieve(packages)
        if topic.candidates and (every_kind or needs_more_than_words(packages[topic.own]))
    ]
    topics = list({topic.query: topic for topic in topics}.values())
    if shared:
        above, maximum = shared
        topics = [topic for topic in topics if above < shared_words(packages[topic.own]) <= maximum]
    chosen = np.random.default_rng(SEED).permutation(len(topics))[:max_queries]
    return [topics[i] for i in sorted(chosen.tolist())]


def write_evaluation_set(packages: Sequence[Package], topics: Sequence[Topic], folder: Path) -> None:
    """Write ``queries.jsonl``, ``corpus.jsonl``, ``qrels/test.tsv`` and ``candidates.run``.

    Args:
        packages: The packages; the topics' documents are positions among them.
        topics: The queries, each of other text.
        folder: The folder, made if missing.
    """
    documents = sorted({i for topic in topics for i in (*topic.candidates, *topic.relevant)})
    name = {topic.query: packages[topic.own].id for topic in topics}
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    queries = (json.dumps({"_id": name[topic.query], "text": topic.query}) for topic in topics)
    _write(folder / "queries.jsonl", queries)
    texts = ({"_id": packages[i].id, "text": packages[i].document} for i in documents)
    _write(folder / "corpus.jsonl", (json.dumps(text, ensure_ascii=False) for text in texts))
    judgements = (f"{name[topic.query]}\t{packages[i].id}\t1" for topic in topics for i in sorted(topic.relevant))
    _write(folder / "qrels" / "test.tsv", ("query-id\tcorpus-id\tscore", *judgements))
    run = (
        f"{name[topic.query]} Q0 {packages[i].id} {rank} {len(topic.candidates) - rank} bm25"
        for topic in topics
        for rank, i in enumerate(topic.candidates, start=1)
    )
    _write(folder / "candidates.run", run)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
