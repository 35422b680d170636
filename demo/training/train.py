"""Train the demo's reranker: ``python demo/training/train.py WORK`` (``make train-demo``), 1.5 hours on 2 cores.

1. On pairs of random tokens, each token learns to say whether it occurs in the other text. That is what a reranker
   needs first, and what texts teach slowly.
2. On texts, a query's document is to score above others that BM25 found for it: the cross entropy of a softmax over
   each list. After the first steps, words of the query are hidden from the documents of every other list. Two more
   questions go with it: which words are matched, which fades, and what BM25's scores are, within a list. A linear head
   beside the classifier answers the latter; both see the same vector, so that a share of that head can be added to the
   classifier.

The weights, and the share, with the best nDCG@10 on the validation queries are kept.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import corpus
import numpy as np
import torch
from batches import Encoder, Lists, Mixture, Pair, Part, Pool, parts, random_pairs, ranking_lists
from candidates import Topic, is_more_than_words, ndcg, topics
from model import SPECIAL, new_model, start_from_text, train_tokenizer
from tokenizers import Tokenizer
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import PreTrainedTokenizerFast

SEED = 0
MATCH_STEPS, MATCH_RATE = 400, 1.5e-3
RANK_STEPS, RANK_RATE = 10_000, 1e-3
PAIRS = 128  # of random tokens in a step
LISTS, NEGATIVES = 12, 9
LONGEST = 128  # tokens of a pair: the limit that the tokenizer's config states
PARTS = 4
WARM_STEPS = 100
EASY_STEPS = 0.15  # share of the ranking steps: synopses only, no words hidden
PLAIN, HIDDEN = Mixture(easy=0.5, hiding=0), Mixture(easy=0.5, hiding=0.5)
MOST_MATCHING, LEAST_MATCHING = 4.0, 0.2  # weights of that question: at first, and from 0.38 of the steps on
LEXICAL = 0.5  # weight of BM25's scores
LEXICAL_UNIT = 3.0  # so many units of BM25's scores are one of the head's
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
VALIDATE_EVERY, VALIDATION_QUERIES = 1000, 400


@dataclass(frozen=True)
class Answers:
    """The model's: scores and what it takes BM25's to be, float32 ``[pairs]``; the loss of which words are matched."""

    logits: torch.Tensor
    lexical: torch.Tensor
    matching: torch.Tensor


class Trainer:
    """A model, what optimises it, and the best that it has been."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], folder: Path) -> None:
        self.tokenizer, self.folder = tokenizer, folder
        self.encode = Encoder(tokenizer)
        self.model = new_model(SEED)
        start_from_text(self.model, [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)], SEED)
        hidden = self.model.config.hidden_size
        self.matcher = torch.nn.Linear(hidden, 1)  # says whether a token's word is matched
        self.lexical = torch.nn.Linear(hidden, 1)  # says BM25's score
        self.rng = np.random.default_rng(SEED)
        self.best = 0.0
        self.began = time.time()

    def learn_to_match(self, steps: int) -> None:
        """The first stage. The embeddings stay: random tokens would only blur what they know."""
        embeddings = self.model.model.embeddings.tok_embeddings
        embeddings.requires_grad_(False)
        optimiser, losses = self._optimiser(), []
        for step in range(1, steps + 1):
            _set_rate(optimiser, MATCH_RATE * min(1.0, step / WARM_STEPS))
            matching = self._forward(random_pairs(PAIRS, self.rng)).matching
            _descend(optimiser, matching)
            losses.append(float(matching.detach()))
            if step % 100 == 0:
                self._say(f"matching, step {step}: loss {np.mean(losses):.4f}")
                losses.clear()
        embeddings.requires_grad_(True)

    def learn_to_rank(self, pools: Sequence[Pool], checks: Checks, steps: int) -> None:
        """The second stage, easy lists first."""
        easy = islice(self._lists(pools[:1], PLAIN), int(EASY_STEPS * steps))
        batches = chain(easy, self._lists(pools, HIDDEN))
        optimiser, losses = self._optimiser(), []
        for step, batch in zip(range(1, steps + 1), batches, strict=False):
            done = step / steps
            cosine = 0.01 + 0.99 * (1 + np.cos(np.pi * done)) / 2
            _set_rate(optimiser, RANK_RATE * min(1.0, step / WARM_STEPS) * cosine)
            ranking, matching, lexical = self._losses(batch)
            weight = max(LEAST_MATCHING, MOST_MATCHING - 10 * done)
            _descend(optimiser, ranking + weight * matching + LEXICAL * lexical)
            losses.append([float(loss.detach()) for loss in (ranking, matching, lexical)])
            if step % VALIDATE_EVERY == 0 or step == steps:
                means = ", ".join(f"{mean:.4f}" for mean in np.mean(losses, axis=0))
                losses.clear()
                self._keep_best(f"ranking, step {step}: losses {means}", self.validate(checks))

    @torch.no_grad()
    def validate(self, checks: Checks) -> dict[float, float]:
        """nDCG@10 of the validation queries' candidates, by the share of the lexical head."""
        gains: dict[float, list[float]] = {share: [] for share in SHARES}
        for topic in checks.topics:
            found = self._forward([(checks.queries[topic.own], checks.documents[place]) for place in topic.found])
            for share in SHARES:
                order = torch.argsort(-(found.logits + share * found.lexical), stable=True)
                gains[share].append(ndcg(topic, order.tolist()))
        return {share: float(np.mean(each)) for share, each in gains.items()}

    def save(self, share: float) -> None:
        """Write the checkpoint in float16, with a share of the lexical head in its classifier."""
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            model.classifier.weight += share * self.lexical.weight
        model.half().save_pretrained(self.folder)
        names = dict(zip(("pad_token", "cls_token", "sep_token"), SPECIAL, strict=True))
        PreTrainedTokenizerFast(tokenizer_object=self.tokenizer, model_max_length=LONGEST, **names).save_pretrained(
            self.folder
        )

    def _keep_best(self, what: str, gains: dict[float, float]) -> None:
        share = max(gains, key=gains.__getitem__)
        self._say(f"{what}; nDCG@10 {gains[0.0]:.4f}, {gains[share]:.4f} with {share} of the lexical head")
        if gains[share] > self.best:
            self.best = gains[share]
            self.save(share)

    def _losses(self, batch: Lists) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of the ranking, the matching and the lexical question."""
        found = self._forward(batch.pairs)
        ranking = cross_entropy(found.logits.view(LISTS, -1), torch.zeros(LISTS, dtype=torch.long))
        known = ~batch.bm25.isnan()
        counts = known.sum(1, keepdim=True).clamp(min=1)
        wanted = batch.bm25.nan_to_num() / LEXICAL_UNIT
        said = found.lexical.view(LISTS, -1) * known
        wanted, said = (scores - scores.sum(1, keepdim=True) / counts for scores in (wanted, said))
        wrong = ((said - wanted).square() * known).sum() / known.sum().clamp(min=1)
        return ranking, found.matching, wrong

    def _forward(self, pairs: Sequence[Pair]) -> Answers:
        logits, lexical, losses = torch.empty(len(pairs)), torch.empty(len(pairs)), []
        for part in parts(pairs, LONGEST, PARTS):
            found = self._forward_part(part)
            places = torch.from_numpy(part.places)
            logits[places], lexical[places] = found.logits, found.lexical
            losses.append(found.matching)
        return Answers(logits, lexical, torch.stack(losses).mean())

    def _forward_part(self, part: Part) -> Answers:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.model.model(input_ids=part.ids, attention_mask=part.mask).last_hidden_state
            mask = part.mask[..., None]
            pooled = (hidden * mask).sum(1) / mask.sum(1)  # as ModernBertForSequenceClassification does
            vector = self.model.drop(self.model.head(pooled))
            logits, lexical = self.model.classifier(vector)[:, 0].float(), self.lexical(vector)[:, 0].float()
            matched = self.matcher(hidden)[..., 0].float()
        losses = binary_cross_entropy_with_logits(matched, part.matched, reduction="none")
        return Answers(logits, lexical, (losses * part.weights).sum() / part.weights.sum())

    def _lists(self, pools: Sequence[Pool], mixture: Mixture) -> Iterator[Lists]:
        return ranking_lists(pools, mixture, LISTS, NEGATIVES, self.rng)

    def _optimiser(self) -> torch.optim.Optimizer:
        modules = (self.model, self.matcher, self.lexical)
        parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        return torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)

    def _say(self, text: str) -> None:
        print(f"{time.time() - self.began:6.0f} s  {text}", flush=True)


class Checks:
    """The validation split and the queries of it that are reranked."""

    def __init__(self, entries: Sequence[corpus.Entry], encode: Encoder) -> None:
        self.queries, self.documents = encode([e.query for e in entries]), encode([e.document for e in entries])
        harder: list[Topic] = [t for t, e in zip(topics(entries), entries, strict=True) if is_more_than_words(e)]
        chosen = np.random.default_rng(SEED).permutation(len(harder))[:VALIDATION_QUERIES]
        self.topics = [harder[i] for i in chosen]

    def of_bm25(self) -> float:
        """nDCG@10 of the order in which BM25 found the candidates."""
        return float(np.mean([ndcg(topic, range(len(topic.found))) for topic in self.topics]))


def pool(entries: Sequence[corpus.Entry], encode: Encoder) -> Pool:
    """The entries to learn from."""
    harder = [is_more_than_words(entry) for entry in entries]
    return Pool(topics(entries), harder, encode([e.query for e in entries]), encode([e.document for e in entries]))


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    optimiser.step()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for Debian's package lists and the checkpoint")
    parser.add_argument("--match-steps", type=int, default=MATCH_STEPS)
    parser.add_argument("--rank-steps", type=int, default=RANK_STEPS)
    args = parser.parse_args()
    lists = args.work / "lists"
    if not lists.is_dir():
        corpus.fetch(lists)
    entries = corpus.read(lists)
    train, validation = ([e for e in entries if e.split == name] for name in ("train", "validation"))
    texts = [text for entry in train for text in (entry.query, entry.document)]
    trainer = Trainer(train_tokenizer(texts), texts, args.work / "checkpoint")
    checks = Checks(validation, trainer.encode)
    pools = [pool(each, trainer.encode) for each in (train, corpus.openings(train))]
    told = f"{len(train)} packages to learn from, {len(checks.topics)} queries to validate on"
    print(f"{told}, BM25's nDCG@10 {checks.of_bm25():.4f}", flush=True)
    trainer.learn_to_match(args.match_steps)
    trainer.learn_to_rank(pools, checks, args.rank_steps)


if __name__ == "__main__":
    main()
