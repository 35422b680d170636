"""Train the demo's reranker: ``python -m demo.training.train WORK`` (``make train-demo``), 2.5 hours on 2 cores.

1. On pairs of random tokens, each token learns to say whether it occurs in the other text. That is what a reranker
   needs first, and what texts teach slowly.
2. On texts, a query's document is to score above others that BM25 found for it: the cross entropy of a softmax over
   each list. After the first steps, words of the query are hidden from the documents of every other list. Two more
   questions go with it: which words are matched, which fades, and what BM25's scores are, within a list. A linear head
   beside the classifier answers the latter; both see the same vector, so that a share of that head can be added to the
   classifier.
3. The classifier's weights are fitted once more, to the validation queries: see ``readout.py``.
4. That model finds what other words say, but weighs repeated words less exactly than BM25. So it learns to say what it
   said itself plus BM25's score, which together are better than either. Made-up queries help with the latter.
5. As 3.

After 2 and 4 the weights, and the share, with the best nDCG@10 on the validation queries are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from . import stages
from .bm25_candidates import needs_more_than_words, retrieve
from .bm25_score import Bm25
from .debian_packages import Package, download_lists, opening_queries, read_packages
from .small_modernbert import train_tokenizer
from .stages import Trainer
from .token_texts import Encoder
from .training_examples import Pool
from .validation_queries import ValidationQueries


def pool(entries: Sequence[Package], encode: Encoder) -> Pool:
    """The entries to learn from."""
    harder = [needs_more_than_words(entry) for entry in entries]
    return Pool(retrieve(entries), harder, encode([e.query for e in entries]), encode([e.document for e in entries]))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for Debian's package lists and the checkpoint")
    parser.add_argument("--match-steps", type=int, default=stages.MATCH_STEPS)
    parser.add_argument("--rank-steps", type=int, default=stages.RANK_STEPS)
    parser.add_argument("--sum-steps", type=int, default=stages.SUM_STEPS)
    parser.add_argument("--validation-queries", type=int, help="so many of them (all)")
    args = parser.parse_args()
    lists = args.work / "lists"
    if not lists.is_dir():
        download_lists(lists)
    entries = read_packages(lists)
    train, validation = ([e for e in entries if e.split == name] for name in ("train", "validation"))
    texts = [text for entry in train for text in (entry.query, entry.document)]
    tokenizer = train_tokenizer(texts)
    trainer, encode = Trainer(tokenizer, texts, args.work / "checkpoint"), Encoder(tokenizer)
    checks = ValidationQueries(validation, encode, args.validation_queries, stages.SEED)
    pools = [pool(each, encode) for each in (train, opening_queries(train))]
    bm25 = Bm25(pools[0].documents, stages.LONGEST)
    told = f"{len(train)} packages to learn from, {len(checks.sample)} of {len(checks.topics)} queries to validate on"
    print(f"{told}, BM25's nDCG@10 {checks.bm25_ndcg():.4f}", flush=True)
    trainer.learn_to_match(args.match_steps)
    trainer.learn_to_rank(pools, bm25, checks, args.rank_steps)
    trainer.refit_classifier(checks)
    trainer.learn_the_sum(pools, bm25, checks, args.sum_steps)
    trainer.refit_classifier(checks)


if __name__ == "__main__":
    main()
