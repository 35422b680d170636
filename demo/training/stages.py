"""Stages 2 to 6 of the recipe, each a method of ``Trainer``. ``starting_weights.py`` has stage 1."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy, kl_div
from transformers import ModernBertForSequenceClassification

from .data.bm25_candidates import ndcg_at_10
from .data.bm25_score import Bm25
from .data.validation_queries import ValidationQueries
from .network.classifier_refit import CandidateVectors, mean_ndcg, refit
from .network.multitask_network import MultitaskNetwork
from .network.small_modernbert import load_model, save_checkpoint
from .recipe import (
    LEXICAL_SHARES,
    LEXICAL_UNIT,
    MAX_TOKENS,
    MAX_TOKENS_SHIPPED,
    NEGATIVES,
    SEED,
    VALIDATION_STEPS,
    WARM_UP_STEPS,
    MatchingStage,
    RankingStage,
    SumStage,
)
from .training_examples import Lists, Pool, made_up_lists, random_pairs, ranking_lists

# A step's weighted losses, by the share of the steps that are done. A step minimises their sum.
Losses = Callable[[float], list[torch.Tensor]]


@dataclass(frozen=True)
class TrainingData:
    """What the stages train on.

    Attributes:
        synopses: Packages' synopses as queries.
        openings: First sentences of descriptions as queries.
        bm25: Scores the pairs of both.
        validation: The queries that choose weights and refit the classifier.
    """

    synopses: Pool
    openings: Pool
    bm25: Bm25
    validation: ValidationQueries

    @property
    def pools(self) -> tuple[Pool, Pool]:
        """Both pools."""
        return self.synopses, self.openings


class Trainer:
    """A network in training. The best weights are in the checkpoint's folder."""

    def __init__(
        self, model: ModernBertForSequenceClassification, tokenizer: Tokenizer, data: TrainingData, folder: Path
    ) -> None:
        """Add the heads of the other questions to the model, from PyTorch's own generator.

        Args:
            model: The model with its starting weights.
            tokenizer: The tokenizer, which each checkpoint includes.
            data: What the stages train on.
            folder: The checkpoint's folder.
        """
        self._network = MultitaskNetwork(model)
        self._tokenizer = tokenizer
        self._data = data
        self._folder = folder
        self._rng = np.random.default_rng(SEED)
        self._best = 0.0
        self._start = time.time()

    def learn_to_match(self, stage: MatchingStage) -> None:
        """Run stage 2: on pairs of random tokens, learn to predict whether each token occurs in the other text.

        The embeddings stay as they are: random tokens would only blur them.
        """
        embeddings = self._network.model.model.embeddings.tok_embeddings
        embeddings.requires_grad_(False)
        optimiser, losses = self._optimiser(), []
        for step in range(1, stage.steps + 1):
            _set_rate(optimiser, _warm_up(stage.rate, step))
            loss = self._network(random_pairs(stage.pairs, self._rng), MAX_TOKENS).matching_loss
            _descend(optimiser, [loss])
            losses.append(float(loss.detach()))
            if step % 100 == 0:
                self._log(f"matching, step {step}: loss {np.mean(losses):.4f}")
                losses.clear()
        embeddings.requires_grad_(True)

    def learn_to_rank(self, stage: RankingStage) -> None:
        """Run stage 3: a query's own document is to score above others that BM25 retrieves for the query."""
        data, rng = self._data, self._rng
        easy = ranking_lists([data.synopses], data.bm25, stage.easy_mixture, stage.lists, NEGATIVES, rng)
        mixed = ranking_lists(data.pools, data.bm25, stage.mixture, stage.lists, NEGATIVES, rng)
        steps = chain(islice(easy, int(stage.easy_steps * stage.steps)), mixed)
        own = torch.zeros(stage.lists, dtype=torch.long)  # the query's own document is the first of its list

        def losses(done: float) -> list[torch.Tensor]:
            lists = next(steps)
            outputs = self._network(lists.pairs, MAX_TOKENS)
            ranking = cross_entropy(outputs.logits.view(stage.lists, -1), own)
            matching = max(stage.matching_min, stage.matching_start - stage.matching_fall * done)
            errors = _lexical_errors(outputs.lexical, lists) * lists.whole
            lexical = stage.lexical * errors.sum() / lists.whole.sum().clamp(min=1)
            return [ranking, matching * outputs.matching_loss, lexical]

        self._descend_all("ranking", losses, stage.rate, stage.steps)

    def learn_the_sum(self, stage: SumStage) -> None:
        """Run stage 5: the model learns to predict the sum of its own score, as it is now, and BM25's."""
        data, rng = self._data, self._rng
        teacher = copy.deepcopy(self._network).requires_grad_(False)
        texts = ranking_lists(data.pools, data.bm25, stage.mixture, stage.lists, NEGATIVES, rng)
        made_up = made_up_lists(data.pools, data.bm25, stage.made_up_lists, 1 + NEGATIVES, rng)

        def losses(_: float) -> list[torch.Tensor]:
            lists, more = next(texts), next(made_up)
            target = teacher(lists.pairs, MAX_TOKENS).logits.view(stage.lists, -1) + lists.bm25
            outputs = self._network([*lists.pairs, *more.pairs], MAX_TOKENS)
            scores = outputs.logits.view(-1, 1 + NEGATIVES)[: stage.lists]
            divergence = kl_div(scores.log_softmax(1), target.log_softmax(1), reduction="batchmean", log_target=True)
            error = ((_centred(scores) - _centred(target)) / LEXICAL_UNIT).square().mean()
            lexical = _lexical_errors(outputs.lexical, lists, more).mean()
            return [divergence, error, stage.matching * outputs.matching_loss, lexical]

        self._best = 0.0
        self._descend_all("the sum", losses, stage.rate, stage.steps)

    def refit_classifier(self) -> None:
        """Run stage 4 or 6: fit the classifier of the best weights to the validation queries, and save the result."""
        self._network.model = load_model(self._folder)
        weights = self._network.model.classifier.weight.data  # [1, hidden]
        queries, before = self._classifier_inputs(), weights[0].clone()
        weights[0], ndcg = refit(queries, before, SEED)
        self._log(f"refitted: nDCG@10 {ndcg:.4f} on queries left out, {mean_ndcg(queries, before):.4f} before")
        self._save(share=0)

    def _descend_all(self, name: str, losses: Losses, rate: float, steps: int) -> None:
        """Take all steps of a stage, and save the weights that are best on the validation queries.

        After the warm-up, the learning rate falls with half a cosine to a hundredth.
        """
        optimiser, values = self._optimiser(), []
        for step in range(1, steps + 1):
            cosine = 0.01 + 0.99 * (1 + np.cos(np.pi * step / steps)) / 2
            _set_rate(optimiser, _warm_up(rate, step) * cosine)
            step_losses = losses(step / steps)
            _descend(optimiser, step_losses)
            values.append([float(loss.detach()) for loss in step_losses])
            if step % VALIDATION_STEPS == 0 or step == steps:
                means = ", ".join(f"{mean:.4f}" for mean in np.mean(values, axis=0))
                values.clear()
                self._save_best(f"{name}, step {step}: losses {means}")

    def _save_best(self, progress: str) -> None:
        """Save the weights, with the best share of the lexical head, if no earlier ones of the stage were as good."""
        ndcg = self._validate()
        share = max(ndcg, key=ndcg.__getitem__)
        self._log(f"{progress}; nDCG@10 {ndcg[0.0]:.4f}, {ndcg[share]:.4f} with {share} of the lexical head")
        if ndcg[share] > self._best:
            self._best = ndcg[share]
            self._save(share)

    def _validate(self) -> dict[float, float]:
        """Return the mean nDCG@10 of the sample of validation queries, by share of the lexical head."""
        values: dict[float, list[float]] = {share: [] for share in LEXICAL_SHARES}
        for topic in self._data.validation.sample:
            with torch.no_grad():
                outputs = self._network(self._data.validation.pairs(topic), MAX_TOKENS)
            for share in LEXICAL_SHARES:
                order = torch.argsort(-(outputs.logits + share * outputs.lexical), stable=True)
                values[share].append(ndcg_at_10(topic, order.tolist()))
        return {share: float(np.mean(each)) for share, each in values.items()}

    def _save(self, share: float) -> None:
        """Write the checkpoint in float16, with a share of the lexical head's weights added to the classifier's."""
        model = copy.deepcopy(self._network.model)
        with torch.no_grad():
            model.classifier.weight += share * self._network.lexical.weight
        save_checkpoint(model, self._tokenizer, MAX_TOKENS_SHIPPED, self._folder)

    def _classifier_inputs(self) -> list[CandidateVectors]:
        """Return the classifier's inputs for all validation queries; a query of several packages counts once."""
        validation = self._data.validation
        topics = {topic.query: topic for topic in validation.topics if topic.candidates}.values()
        with torch.no_grad():
            return [
                CandidateVectors(topic, self._network(validation.pairs(topic), MAX_TOKENS_SHIPPED).vectors)
                for topic in topics
            ]

    def _optimiser(self) -> torch.optim.Optimizer:
        parameters = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)

    def _log(self, text: str) -> None:
        print(f"{time.time() - self._start:6.0f} s  {text}", flush=True)


def _centred(scores: torch.Tensor) -> torch.Tensor:
    """Subtract each list's mean from its scores ``[lists, documents]``."""
    return scores - scores.mean(dim=1, keepdim=True)


def _lexical_errors(lexical: torch.Tensor, *lists: Lists) -> torch.Tensor:
    """Return the mean squared error ``[lists]`` of BM25's scores within each list, by the lexical head ``[pairs]``."""
    target = torch.cat([each.bm25 for each in lists]) / LEXICAL_UNIT
    return (_centred(lexical.view(target.shape)) - _centred(target)).square().mean(dim=1)


def _warm_up(rate: float, step: int) -> float:
    """Return the learning rate of a step, counted from 1: it rises in equal steps to ``rate``."""
    return rate * min(1.0, step / WARM_UP_STEPS)


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _descend(optimiser: torch.optim.Optimizer, losses: Sequence[torch.Tensor]) -> None:
    """Take one step down the sum of the losses; the gradient's norm is at most 1."""
    optimiser.zero_grad()
    torch.stack(list(losses)).sum().backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    optimiser.step()
