"""Train the demo reranker, from Debian's package lists to a checkpoint: ``make train-demo``, 2.4 hours on 2 cores.

1. The embeddings start with statistics of the texts, and attention starts as a search for equal tokens.
2. On pairs of random tokens, the model learns to predict whether each token occurs in the other text. A reranker needs
   this first, and texts teach it slowly.
3. On texts, the model learns to score a query's own document above others that BM25 retrieves for the query: the cross
   entropy of a softmax over each list. After the first steps, every other list has words of the query hidden from its
   documents. Two more questions go with the ranking: which words occur in the other text (its weight falls), and what
   BM25's scores are within the list. A linear head beside the classifier answers the latter. Both have the same input,
   so a share of this head can be added to the classifier.
4. The classifier's weights are fitted once more, to the validation queries.
5. The model now recognises other words for the same thing, but it weighs repeated words less exactly than BM25. Its
   score plus BM25's is better than either, so it learns to predict this sum. Made-up queries help it to predict BM25's
   part.
6. The classifier's weights are fitted once more, as in stage 4.

Stages 3 and 5 keep the weights, and the share, that have the best nDCG@10 on the validation queries.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .data.bm25_candidates import needs_more_than_words, retrieve
from .data.bm25_score import Bm25
from .data.debian_packages import Package, download_lists, opening_queries, read_packages
from .data.token_texts import Encoder
from .data.validation_queries import ValidationQueries
from .network.small_modernbert import new_model, train_tokenizer
from .network.starting_weights import start_from_texts
from .recipe import MAX_TOKENS, SEED, MatchingStage, RankingStage, Recipe, SumStage
from .stages import Trainer, TrainingData
from .training_examples import Pool


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.training.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="the folder for Debian's package lists and the checkpoint")
    for name, number, stage in (("match", 2, MatchingStage()), ("rank", 3, RankingStage()), ("sum", 5, SumStage())):
        help_text = f"the number of steps of stage {number} ({stage.steps})"
        parser.add_argument(f"--{name}-steps", type=int, default=stage.steps, metavar="STEPS", help=help_text)
    parser.add_argument(
        "--validation-queries", type=int, metavar="QUERIES", help="the maximum number of validation queries (all)"
    )
    args = parser.parse_args()
    stages = MatchingStage(args.match_steps), RankingStage(args.rank_steps), SumStage(args.sum_steps)
    try:
        recipe = Recipe(*stages, args.validation_queries)
    except ValueError as error:
        parser.error(str(error))
    lists = args.work / "lists"
    if not lists.is_dir():
        download_lists(lists)
    train(read_packages(lists), recipe, args.work / "checkpoint")


def train(packages: Sequence[Package], recipe: Recipe, folder: Path) -> None:
    """Run the six stages.

    Args:
        packages: The packages of all splits. The model never sees those of the test split.
        recipe: The settings.
        folder: The checkpoint's folder.
    """
    learned = [package for package in packages if package.split == "train"]
    texts = [text for package in learned for text in (package.query, package.document)]
    tokenizer = train_tokenizer(texts)
    model = new_model(SEED)
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    start_from_texts(model, ids, SEED)
    held_out = [package for package in packages if package.split == "validation"]
    data = _training_data(learned, held_out, Encoder(tokenizer), recipe.validation_queries)
    trainer = Trainer(model, tokenizer, data, folder)
    trainer.learn_to_match(recipe.matching)
    trainer.learn_to_rank(recipe.ranking)
    trainer.refit_classifier()
    trainer.learn_the_sum(recipe.sum)
    trainer.refit_classifier()


def _training_data(
    learned: Sequence[Package], held_out: Sequence[Package], encode: Encoder, validation_queries: int | None
) -> TrainingData:
    # The validation queries come first: the encoder numbers stems as it meets them, and draws depend on their order.
    validation = ValidationQueries(held_out, encode, validation_queries, SEED)
    synopses = _pool(learned, encode)
    openings = _pool(opening_queries(learned), encode)
    size = f"{len(learned)} packages to learn from, {len(validation.sample)} of {len(validation.topics)} queries"
    print(f"{size} to validate on, BM25's nDCG@10 {validation.bm25_ndcg():.4f}", flush=True)
    return TrainingData(synopses, openings, Bm25(synopses.documents, MAX_TOKENS), validation)


def _pool(packages: Sequence[Package], encode: Encoder) -> Pool:
    harder = [needs_more_than_words(package) for package in packages]
    queries = encode([package.query for package in packages])
    return Pool(retrieve(packages), harder, queries, encode([package.document for package in packages]))


if __name__ == "__main__":
    main()
