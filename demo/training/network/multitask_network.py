"""The model during training: the reranker and two more heads, each for a question that goes with the ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import ModernBertForSequenceClassification

from ..data.token_texts import Pair
from .micro_batches import MicroBatch, micro_batches

MICRO_BATCHES = 4  # number in a step: pairs of similar length need less padding


@dataclass(frozen=True)
class Outputs:
    """The outputs of the network for some pairs, float32.

    Attributes:
        vectors: The classifier's input, ``[pairs, hidden]``.
        logits: The classifier's scores, ``[pairs]``.
        lexical: The lexical head's estimates of BM25's scores, ``[pairs]``, in units of ``LEXICAL_UNIT``.
        matching_loss: The loss of the matching question, a scalar.
    """

    vectors: torch.Tensor
    logits: torch.Tensor
    lexical: torch.Tensor
    matching_loss: torch.Tensor


class MultitaskNetwork(torch.nn.Module):  # type: ignore[misc]  # types are checked without torch
    """A reranker with two linear heads beside the classifier.

    Attributes:
        model: The reranker.
        matcher: Predicts for each token whether the other text has its word.
        lexical: Predicts BM25's score. It has the same input as the classifier, so a share of its weights can be added
            to the classifier's.
    """

    def __init__(self, model: ModernBertForSequenceClassification) -> None:
        super().__init__()
        self.model = model
        self.matcher = torch.nn.Linear(model.config.hidden_size, 1)
        self.lexical = torch.nn.Linear(model.config.hidden_size, 1)

    def forward(self, pairs: Sequence[Pair], max_tokens: int) -> Outputs:
        """Return the outputs in the order of the pairs. The network sees ``max_tokens`` tokens of each pair."""
        vectors = torch.empty(len(pairs), self.model.config.hidden_size)
        logits, lexical, losses = torch.empty(len(pairs)), torch.empty(len(pairs)), []
        for batch in micro_batches(pairs, max_tokens, MICRO_BATCHES):
            outputs = self._forward(batch)
            positions = torch.from_numpy(batch.positions)
            vectors[positions], logits[positions], lexical[positions] = outputs.vectors, outputs.logits, outputs.lexical
            losses.append(outputs.matching_loss)
        return Outputs(vectors, logits, lexical, torch.stack(losses).mean())

    def _forward(self, batch: MicroBatch) -> Outputs:
        """Return the outputs of a micro-batch, computed in bfloat16."""
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.model.model(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
            mask = batch.mask[..., None]
            pooled = (hidden * mask).sum(1) / mask.sum(1)  # as ModernBertForSequenceClassification does
            vectors = self.model.drop(self.model.head(pooled))
            logits, lexical = self.model.classifier(vectors)[:, 0].float(), self.lexical(vectors)[:, 0].float()
            matched = self.matcher(hidden)[..., 0].float()
        losses = binary_cross_entropy_with_logits(matched, batch.matched, reduction="none")
        return Outputs(vectors.float(), logits, lexical, (losses * batch.weights).sum() / batch.weights.sum())
