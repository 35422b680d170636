"""Train the demo's reranker: ``python demo/training/train.py WORK`` (``make train-demo``), about an hour on 2 cores.

1. On pairs of random tokens, each token learns to say whether it occurs in the other text. That is what a reranker
   needs first, and what texts teach slowly.
2. On texts, a query's document is to score above others that BM25 found for it: the cross entropy of a softmax over
   each list, with the first question as a second loss that fades.

The weights with the best nDCG@10 on the validation queries are kept.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path

import corpus
import numpy as np
import torch
from batches import Pair, Part, parts, random_pairs, ranking_lists
from candidates import Topic, is_more_than_words, ndcg, topics
from model import SPECIAL, new_model, start_from_text, train_tokenizer
from tokenizers import Tokenizer
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import PreTrainedTokenizerFast

SEED = 0
MATCH_STEPS, RANK_STEPS = 400, 4200
PAIRS = 128  # of random tokens in a step
LISTS, NEGATIVES = 20, 5
LONGEST = 128  # tokens of a pair: the limit that the tokenizer's config states
PARTS = 4
PEAK_RATE, WARM_STEPS = 1.5e-3, 100
VALIDATE_EVERY, VALIDATION_QUERIES = 500, 200


class Trainer:
    """A model, what optimises it, and the best that it has been."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], folder: Path) -> None:
        self.tokenizer, self.folder = tokenizer, folder
        self.model = new_model(SEED)
        start_from_text(self.model, self.encode(texts), SEED)
        self.probe = torch.nn.Linear(self.model.config.hidden_size, 1)  # whether a token is matched
        self.rng = np.random.default_rng(SEED)
        self.best = 0.0
        self.began = time.time()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return [e.ids for e in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def learn_to_match(self, steps: int) -> None:
        """The first stage. The embeddings stay: random tokens would only blur what they know."""
        embeddings = self.model.model.embeddings.tok_embeddings
        embeddings.requires_grad_(False)
        optimiser, losses = self._optimiser(), []
        for step in range(1, steps + 1):
            _set_rate(optimiser, PEAK_RATE * min(1.0, step / WARM_STEPS))
            _, matching = self._forward(random_pairs(PAIRS, self.rng))
            _descend(optimiser, matching)
            losses.append(float(matching.detach()))
            if step % 100 == 0:
                self._say(f"matching, step {step}: loss {np.mean(losses):.4f}")
                losses.clear()
        embeddings.requires_grad_(True)

    def learn_to_rank(self, train: Sequence[corpus.Entry], checks: Checks, steps: int) -> None:
        """The second stage."""
        queries, documents = self.encode([e.query for e in train]), self.encode([e.document for e in train])
        lists = ranking_lists(topics(train), queries, documents, LISTS, NEGATIVES, self.rng)
        optimiser, losses = self._optimiser(), []
        for step, pairs in zip(range(1, steps + 1), lists, strict=False):
            done = step / steps
            _set_rate(
                optimiser, PEAK_RATE * min(1.0, step / WARM_STEPS) * (0.01 + 0.99 * (1 + np.cos(np.pi * done)) / 2)
            )
            logits, matching = self._forward(pairs)
            ranking = cross_entropy(logits.view(LISTS, -1), torch.zeros(LISTS, dtype=torch.long))
            _descend(optimiser, ranking + max(0.0, 1 - 2 * done) * matching)
            losses.append((float(ranking.detach()), float(matching.detach())))
            if step % VALIDATE_EVERY == 0 or step == steps:
                ranking_loss, matching_loss = np.mean(losses, axis=0)
                found = self.validate(checks)
                losses.clear()
                self._say(f"ranking, step {step}: loss {ranking_loss:.4f}, {matching_loss:.4f}; nDCG@10 {found:.4f}")
                if found > self.best:
                    self.best = found
                    self.save()

    @torch.no_grad()
    def validate(self, checks: Checks) -> float:
        """nDCG@10 of the validation queries' candidates."""
        documents = self.encode([entry.document for entry in checks.entries])
        gains = []
        for topic in checks.topics:
            (query,) = self.encode([topic.query])
            logits, _ = self._forward([(query, documents[place]) for place in topic.found])
            gains.append(ndcg(topic, torch.argsort(-logits, stable=True).tolist()))
        return float(np.mean(gains))

    def save(self) -> None:
        """Write the checkpoint in float16."""
        copy.deepcopy(self.model).half().save_pretrained(self.folder)
        names = dict(zip(("pad_token", "cls_token", "sep_token"), SPECIAL, strict=True))
        PreTrainedTokenizerFast(tokenizer_object=self.tokenizer, model_max_length=LONGEST, **names).save_pretrained(
            self.folder
        )

    def _forward(self, pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits ``[pairs]``, and the loss of the question which tokens are matched."""
        logits, losses = torch.empty(len(pairs)), []
        for part in parts(pairs, LONGEST, PARTS):
            scores, loss = self._forward_part(part)
            logits[torch.from_numpy(part.places)] = scores
            losses.append(loss)
        return logits, torch.stack(losses).mean()

    def _forward_part(self, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.model.model(input_ids=part.ids, attention_mask=part.mask).last_hidden_state
            mask = part.mask[..., None]
            pooled = (hidden * mask).sum(1) / mask.sum(1)  # as ModernBertForSequenceClassification does
            scores = self.model.classifier(self.model.drop(self.model.head(pooled)))[:, 0]
            matched = self.probe(hidden)[..., 0]
        losses = binary_cross_entropy_with_logits(matched.float(), part.matched, reduction="none")
        return scores.float(), (losses * part.weights).sum() / part.weights.sum()

    def _optimiser(self) -> torch.optim.Optimizer:
        parameters = [p for p in (*self.model.parameters(), *self.probe.parameters()) if p.requires_grad]
        return torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)

    def _say(self, text: str) -> None:
        print(f"{time.time() - self.began:6.0f} s  {text}", flush=True)


class Checks:
    """The validation split and the queries of it that are reranked."""

    def __init__(self, entries: Sequence[corpus.Entry]) -> None:
        self.entries = entries
        harder: list[Topic] = [t for t, e in zip(topics(entries), entries, strict=True) if is_more_than_words(e)]
        chosen = np.random.default_rng(SEED).permutation(len(harder))[:VALIDATION_QUERIES]
        self.topics = [harder[i] for i in chosen]

    def of_bm25(self) -> float:
        """nDCG@10 of the order in which BM25 found the candidates."""
        return float(np.mean([ndcg(topic, range(len(topic.found))) for topic in self.topics]))


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
    checks = Checks(validation)
    print(f"{len(train)} queries to train on, {len(checks.topics)} to validate on; BM25 {checks.of_bm25():.4f}")
    trainer.learn_to_match(args.match_steps)
    trainer.learn_to_rank(train, checks, args.rank_steps)


if __name__ == "__main__":
    main()
