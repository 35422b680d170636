"""What trains the model: the stages that ``train.py`` tells of, each a method of :class:`Trainer`."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy, kl_div

from .bm25_candidates import ndcg_at_10
from .bm25_score import Bm25
from .classifier_refit import CandidateVectors, mean_ndcg, refit
from .multitask_network import MultitaskNetwork
from .small_modernbert import load_model, new_model, save_checkpoint
from .starting_weights import start_from_texts
from .training_examples import Lists, Mixture, Pool, made_up_lists, random_pairs, ranking_lists
from .validation_queries import ValidationQueries

SEED = 0
LONGEST = 128  # tokens of a pair in training
LIMIT = 192  # at the end, as the tokenizer's config states: ranks better than 128, or 256
NEGATIVES = 9
WARM_STEPS = 100
LEXICAL_UNIT = 3.0  # so many units of BM25's scores are one of the head's
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
VALIDATE_EVERY = 1000

MATCH_STEPS, MATCH_RATE = 400, 1.5e-3
RANDOM_PAIRS = 128

RANK_STEPS, RANK_RATE = 10_000, 1e-3
RANK_LISTS = 12
EASY_STEPS = 0.15  # share of the steps: synopses only, no words hidden
PLAIN, HIDDEN = Mixture(easy=0.5, hiding=0), Mixture(easy=0.5, hiding=0.5)
MOST_MATCHING, LEAST_MATCHING = 4.0, 0.2  # weights of that question: at first, and from 0.38 of the steps on
RANK_LEXICAL = 0.5  # weight of BM25's scores

SUM_STEPS, SUM_RATE = 6500, 8e-4
SUM_LISTS, MADE_UP_LISTS = 8, 4
LESS_HIDDEN = Mixture(easy=0.5, hiding=0.25)
SUM_MATCHING = 2.0

Losses = Callable[[float], list[torch.Tensor]]  # weighted, of a step, by the share of the steps that is done


class Trainer:
    """A network, what it learns from, and the best that it has been."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str], folder: Path) -> None:
        self.tokenizer, self.folder = tokenizer, folder
        model = new_model(SEED)
        start_from_texts(model, [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)], SEED)
        self.network = MultitaskNetwork(model)
        self.rng = np.random.default_rng(SEED)
        self.best = 0.0
        self.began = time.time()

    def learn_to_match(self, steps: int) -> None:
        """The first stage. The embeddings stay: random tokens would only blur what they know."""
        embeddings = self.network.model.model.embeddings.tok_embeddings
        embeddings.requires_grad_(False)
        optimiser, losses = self._optimiser(), []
        for step in range(1, steps + 1):
            _set_rate(optimiser, MATCH_RATE * min(1.0, step / WARM_STEPS))
            matching = self.network(random_pairs(RANDOM_PAIRS, self.rng), LONGEST).matching_loss
            _descend(optimiser, [matching])
            losses.append(float(matching.detach()))
            if step % 100 == 0:
                self._say(f"matching, step {step}: loss {np.mean(losses):.4f}")
                losses.clear()
        embeddings.requires_grad_(True)

    def learn_to_rank(self, pools: Sequence[Pool], bm25: Bm25, checks: ValidationQueries, steps: int) -> None:
        """The second stage, easy lists first."""
        easy = ranking_lists(pools[:1], bm25, PLAIN, RANK_LISTS, NEGATIVES, self.rng)
        harder = ranking_lists(pools, bm25, HIDDEN, RANK_LISTS, NEGATIVES, self.rng)
        batches = chain(islice(easy, int(EASY_STEPS * steps)), harder)

        def losses(done: float) -> list[torch.Tensor]:
            batch = next(batches)
            found = self.network(batch.pairs, LONGEST)
            ranking = cross_entropy(found.logits.view(RANK_LISTS, -1), torch.zeros(RANK_LISTS, dtype=torch.long))
            wrong = _lexical_errors(found.lexical, batch) * batch.whole
            weight = max(LEAST_MATCHING, MOST_MATCHING - 10 * done)
            return [ranking, weight * found.matching_loss, RANK_LEXICAL * wrong.sum() / batch.whole.sum().clamp(min=1)]

        self._learn("ranking", losses, RANK_RATE, checks, steps)

    def learn_the_sum(self, pools: Sequence[Pool], bm25: Bm25, checks: ValidationQueries, steps: int) -> None:
        """The fourth stage, with the model as it is for a teacher."""
        teacher = copy.deepcopy(self.network).requires_grad_(False)
        texts = ranking_lists(pools, bm25, LESS_HIDDEN, SUM_LISTS, NEGATIVES, self.rng)
        made_up = made_up_lists(pools, bm25, MADE_UP_LISTS, 1 + NEGATIVES, self.rng)

        def losses(_: float) -> list[torch.Tensor]:
            batch, more = next(texts), next(made_up)
            wanted = teacher(batch.pairs, LONGEST).logits.view(SUM_LISTS, -1) + batch.bm25
            found = self.network([*batch.pairs, *more.pairs], LONGEST)
            said = found.logits.view(-1, 1 + NEGATIVES)[:SUM_LISTS]
            chances = kl_div(said.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True)
            wrong = ((_centred(said) - _centred(wanted)) / LEXICAL_UNIT).square().mean()
            return [
                chances,
                wrong,
                SUM_MATCHING * found.matching_loss,
                _lexical_errors(found.lexical, batch, more).mean(),
            ]

        self.best = 0.0
        self._learn("the sum", losses, SUM_RATE, checks, steps)

    def refit_classifier(self, checks: ValidationQueries) -> None:
        """The third stage, and the last, from the weights that were best."""
        self.network.model = load_model(self.folder)
        classifier = self.network.model.classifier.weight.data
        readings, before = self._read(checks), classifier[0].clone()
        classifier[0], gain = refit(readings, before, SEED)
        self._say(f"refitted: nDCG@10 {gain:.4f} on queries left out, {mean_ndcg(readings, before):.4f} before")
        self.save(share=0)

    def validate(self, checks: ValidationQueries) -> dict[float, float]:
        """nDCG@10 of the validation queries' candidates, by the share of the lexical head."""
        gains: dict[float, list[float]] = {share: [] for share in SHARES}
        for topic in checks.sample:
            with torch.no_grad():
                found = self.network(checks.pairs(topic), LONGEST)
            for share in SHARES:
                order = torch.argsort(-(found.logits + share * found.lexical), stable=True)
                gains[share].append(ndcg_at_10(topic, order.tolist()))
        return {share: float(np.mean(each)) for share, each in gains.items()}

    def save(self, share: float) -> None:
        """Write the checkpoint in float16, with a share of the lexical head in its classifier."""
        model = copy.deepcopy(self.network.model)
        with torch.no_grad():
            model.classifier.weight += share * self.network.lexical.weight
        save_checkpoint(model, self.tokenizer, LIMIT, self.folder)

    def _learn(self, what: str, losses: Losses, rate: float, checks: ValidationQueries, steps: int) -> None:
        """Descend the sum of the losses, the rate falling as a cosine does."""
        optimiser, said = self._optimiser(), []
        for step in range(1, steps + 1):
            cosine = 0.01 + 0.99 * (1 + np.cos(np.pi * step / steps)) / 2
            _set_rate(optimiser, rate * min(1.0, step / WARM_STEPS) * cosine)
            found = losses(step / steps)
            _descend(optimiser, found)
            said.append([float(loss.detach()) for loss in found])
            if step % VALIDATE_EVERY == 0 or step == steps:
                means = ", ".join(f"{mean:.4f}" for mean in np.mean(said, axis=0))
                said.clear()
                self._keep_best(f"{what}, step {step}: losses {means}", self.validate(checks))

    def _keep_best(self, what: str, gains: dict[float, float]) -> None:
        share = max(gains, key=gains.__getitem__)
        self._say(f"{what}; nDCG@10 {gains[0.0]:.4f}, {gains[share]:.4f} with {share} of the lexical head")
        if gains[share] > self.best:
            self.best = gains[share]
            self.save(share)

    def _read(self, checks: ValidationQueries) -> list[CandidateVectors]:
        """What the classifier sees of the candidates of all validation queries, each query once."""
        distinct = {topic.query: topic for topic in checks.topics if topic.candidates}.values()
        with torch.no_grad():
            return [CandidateVectors(topic, self.network(checks.pairs(topic), LIMIT).vectors) for topic in distinct]

    def _optimiser(self) -> torch.optim.Optimizer:
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)

    def _say(self, text: str) -> None:
        print(f"{time.time() - self.began:6.0f} s  {text}", flush=True)


def _centred(scores: torch.Tensor) -> torch.Tensor:
    return scores - scores.mean(dim=1, keepdim=True)


def _lexical_errors(said: torch.Tensor, *batches: Lists) -> torch.Tensor:
    """The mean squared error of BM25's scores within each list."""
    wanted = torch.cat([batch.bm25 for batch in batches]) / LEXICAL_UNIT
    return (_centred(said.view(wanted.shape)) - _centred(wanted)).square().mean(dim=1)


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _descend(optimiser: torch.optim.Optimizer, losses: Sequence[torch.Tensor]) -> None:
    optimiser.zero_grad()
    torch.stack(list(losses)).sum().backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    optimiser.step()
