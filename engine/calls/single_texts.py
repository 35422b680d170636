"""Single texts: what ``Reranker`` and ``AsyncReranker`` do with classifiers of one text, such as guards and filters.

A text takes the way of a pair: the same windows, queue, limits and warnings. Only its special tokens differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from modernrank.activations import activate, pipeline_activation, resolve_activation
from modernrank.arrays import FloatArray
from modernrank.artifact.manifest import Manifest
from modernrank.errors import InputError
from modernrank.options import ActivationChoice, TextLimits, TruncationChoice, positive
from modernrank.queue.urgency import Urgency
from modernrank.scorer import Scorer
from modernrank.text.checks import check_single_texts
from modernrank.text.encoder import PairEncoder

from .requests import ScoreRequest
from .windows import WINDOW, OnTruncate, TextSteps, score_windows


@dataclass(frozen=True)
class LabelScore:
    """A label of a text in the result of ``Reranker.classify``, and its score."""

    label: str
    score: float


class ClassifyRequest:
    """Single texts to be labelled.

    Args:
        manifest: of the model.
        steps: of the texts.
        top_k: as in ``Reranker.classify``.
        activation: as in ``Reranker.classify``.

    Raises:
        InputError: ``top_k`` is not at least 1, or the model has no such activation.
    """

    def __init__(
        self, manifest: Manifest, steps: TextSteps, top_k: int | None, activation: ActivationChoice | None
    ) -> None:
        model = manifest.model
        self._top_k = None if top_k is None else positive("top_k", top_k)
        self._activation = pipeline_activation(model) if activation is None else resolve_activation(activation, model)
        self._labels = model.labels
        self.steps = steps

    def labelled(self, windows: Iterable[FloatArray]) -> Iterator[list[LabelScore]]:
        """The labels of each text of all windows."""
        for logits in windows:
            yield from self._best(activate(self._activation, logits))

    def _best(self, scores: FloatArray) -> Iterator[list[LabelScore]]:
        """The labels of each text, the highest score first, ties in the order of the labels."""
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self._top_k]
        for labels, values in zip(order.tolist(), np.take_along_axis(scores, order, axis=1).tolist(), strict=True):
            yield [LabelScore(self._labels[label], value) for label, value in zip(labels, values, strict=True)]


class SingleTexts(ABC):
    """What a ``Reranker`` does with single texts."""

    manifest: Manifest
    scorer: Scorer

    @abstractmethod
    def _encoder_for(
        self, max_length: int | None, truncation: TruncationChoice | None, limits: TextLimits | None = None
    ) -> PairEncoder:
        """The encoder with the limits of one call."""

    def score_texts(
        self,
        texts: Iterable[str],
        *,
        activation: ActivationChoice = "logit",
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        on_truncate: OnTruncate | None = None,
        priority: int = 0,
        timeout: float | None = None,
    ) -> FloatArray:
        """Score single texts, for a classifier of one text, as ``score`` scores pairs.

        Args:
            texts: any iterable of strings: a list, a generator, an array, a column of a data frame.
            activation: as in ``score``.
            max_length: as in ``score``.
            truncation: as in ``score``; a longer text is cut, or refused by ``"error"``.
            limits: as in ``score``; ``max_document_tokens`` is the limit of a text.
            on_truncate: as in ``score``; a text counts as a document.
            priority: as in ``score``.
            timeout: as in ``score``.

        Returns:
            float32 ``[texts]`` in input order for a model of one label, and ``[texts, labels]`` for one of several; for
            no texts, an empty array of ``[0]`` or ``[0, labels]``.

        Raises:
            InputError: ``texts`` are not strings, or one is too long for ``truncation``.
            ArtifactError: the tokenizer encodes no single texts.
            OverloadedError, DeadlineError: as in ``score``.
        """
        urgency = Urgency.of(priority, timeout)
        steps = self.text_steps(
            texts, max_length=max_length, truncation=truncation, limits=limits, on_truncate=on_truncate
        )
        request = ScoreRequest(self.manifest, steps, activation)
        scored: Iterator[FloatArray] = score_windows(self.scorer, steps, WINDOW, urgency)
        return request.scores(*scored)

    def classify(
        self,
        texts: Iterable[str],
        *,
        top_k: int | None = 1,
        activation: ActivationChoice | None = None,
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        on_truncate: OnTruncate | None = None,
        priority: int = 0,
        timeout: float | None = None,
    ) -> list[list[LabelScore]]:
        """Label single texts as ``pipeline("text-classification", truncation=True)`` of transformers does.

        Args:
            texts: as in ``score_texts``.
            top_k: number of labels for each text, the highest score first; None for all.
            activation: as in ``score``. By default what the pipeline applies: sigmoid for one label or several
                independent ones (``problem_type`` of the checkpoint), softmax for several, nothing for regression.
            max_length: as in ``score_texts``.
            truncation: as in ``score_texts``.
            limits: as in ``score_texts``.
            on_truncate: as in ``score_texts``.
            priority: as in ``score``.
            timeout: as in ``score``.

        Returns:
            For each text a list of ``LabelScore``, as the pipeline returns it where ``top_k`` is given.

        Raises:
            InputError, ArtifactError, OverloadedError, DeadlineError: as in ``score_texts``.

        >>> from modernrank import Reranker
        >>> with Reranker.load(TINY) as reranker:                                # an artifact's folder
        ...     ((best,),) = reranker.classify(["Beijing is the capital of China."])
        >>> best.label, 0 < best.score < 1
        ('LABEL_0', True)
        """
        urgency = Urgency.of(priority, timeout)
        steps = self.text_steps(
            texts, max_length=max_length, truncation=truncation, limits=limits, on_truncate=on_truncate
        )
        request = ClassifyRequest(self.manifest, steps, top_k, activation)
        return list(request.labelled(score_windows(self.scorer, steps, WINDOW, urgency)))

    def classify_iter(
        self,
        texts: Iterable[str],
        *,
        top_k: int | None = 1,
        activation: ActivationChoice | None = None,
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        on_truncate: OnTruncate | None = None,
        window: int = WINDOW,
        priority: int = 0,
    ) -> Iterator[list[LabelScore]]:
        """Label a stream of single texts in constant memory: yields the labels of each text, in order.

        Args:
            texts: as in ``score_texts``.
            top_k: as in ``classify``.
            activation: as in ``classify``.
            max_length: as in ``score_texts``.
            truncation: as in ``score_texts``.
            limits: as in ``score_texts``.
            on_truncate: as in ``score_texts``.
            window: as in ``score_iter``.
            priority: as in ``score``.

        Returns:
            An iterator of what ``classify`` returns for each text.
        """
        urgency = Urgency.of(priority)
        steps = self.text_steps(
            texts, max_length=max_length, truncation=truncation, limits=limits, on_truncate=on_truncate
        )
        request = ClassifyRequest(self.manifest, steps, top_k, activation)
        return _one_by_one(request, score_windows(self.scorer, steps, positive("window", window), urgency))

    def text_steps(
        self,
        texts: Iterable[str],
        *,
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        on_truncate: OnTruncate | None = None,
    ) -> TextSteps:
        """Check the arguments of a call on texts, and return its steps. Nothing is read from ``texts``."""
        for name, remedy in (("max_query_tokens", "use max_document_tokens"), ("prompt", "put it before the texts")):
            value = None if limits is None else getattr(limits, name)
            if value is not None:
                raise InputError(
                    f"{name} applies to pairs, and these are single texts; {remedy}", argument=name, value=value
                )
        encoder = self._encoder_for(max_length, truncation, limits)
        return TextSteps(encoder, check_single_texts(texts), on_truncate)


def _one_by_one(
    request: ClassifyRequest, scored: Generator[FloatArray, None, None]
) -> Generator[list[LabelScore], None, None]:
    with closing(scored):  # also if the caller stops early
        yield from request.labelled(scored)
