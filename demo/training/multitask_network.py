"""The model in training, with two more heads; what it answers about pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import ModernBertForSequenceClassification

from .micro_batches import Part, parts
from .token_texts import Pair

PARTS = 4


@dataclass(frozen=True)
class Answers:
    """The model's, float32.

    vectors: what the classifier sees, ``[pairs, hidden]``.
    logits, lexical: the scores, and what it takes BM25's to be, ``[pairs]``.
    matching: the loss of which words are matched.
    """

    vectors: torch.Tensor
    logits: torch.Tensor
    lexical: torch.Tensor
    matching: torch.Tensor


class Network(torch.nn.Module):  # type: ignore[misc]  # types are checked without torch
    """A reranker, a head that says whether a token's word is matched, and one that says BM25's score."""

    def __init__(self, model: ModernBertForSequenceClassification) -> None:
        super().__init__()
        self.model = model
        self.matcher = torch.nn.Linear(model.config.hidden_size, 1)
        self.lexical = torch.nn.Linear(model.config.hidden_size, 1)

    def forward(self, pairs: Sequence[Pair], longest: int) -> Answers:
        """The answers, in the order of the pairs, of each of which ``longest`` tokens are seen."""
        vectors = torch.empty(len(pairs), self.model.config.hidden_size)
        logits, lexical, losses = torch.empty(len(pairs)), torch.empty(len(pairs)), []
        for part in parts(pairs, longest, PARTS):
            found = self._part(part)
            places = torch.from_numpy(part.places)
            vectors[places], logits[places], lexical[places] = found.vectors, found.logits, found.lexical
            losses.append(found.matching)
        return Answers(vectors, logits, lexical, torch.stack(losses).mean())

    def _part(self, part: Part) -> Answers:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.model.model(input_ids=part.ids, attention_mask=part.mask).last_hidden_state
            mask = part.mask[..., None]
            pooled = (hidden * mask).sum(1) / mask.sum(1)  # as ModernBertForSequenceClassification does
            vector = self.model.drop(self.model.head(pooled))
            logits, lexical = self.model.classifier(vector)[:, 0].float(), self.lexical(vector)[:, 0].float()
            matched = self.matcher(hidden)[..., 0].float()
        losses = binary_cross_entropy_with_logits(matched, part.matched, reduction="none")
        return Answers(vector.float(), logits, lexical, (losses * part.weights).sum() / part.weights.sum())
