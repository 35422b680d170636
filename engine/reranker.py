"""``Reranker``: load an artifact, score pairs of texts, rank documents.

pairs of texts ──PairEncoder──▶ token ids ──Scorer──▶ logits ──activation──▶ scores
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from .arrays import FloatArray, IntArray
from .artifact.folder import Artifact
from .artifact.manifest import Manifest
from .backends.base import BackendInfo
from .batching.packing import Plan
from .calls.requests import RankedDocument, RankRequest, ScoreRequest
from .calls.single_texts import SingleTexts
from .calls.windows import WINDOW, DocumentLogit, OnTruncate, PairSteps, PartOptions, score_windows
from .errors import ArtifactError, InputError
from .options import (
    ActivationChoice,
    CpuOptions,
    GpuOptions,
    LoadOptions,
    LongDocuments,
    PrecisionChoice,
    ProviderChoice,
    TextLimits,
    TruncationChoice,
    checked_length,
    positive,
)
from .queue.metrics import Metrics
from .queue.urgency import Urgency
from .scorer import Scorer
from .text.checks import Pair, check_pairs
from .text.encoder import PairEncoder
from .timing import StageTimes

# Windows are smaller with a progress bar, because the bar moves when a window is done.
PROGRESS_WINDOW = 256

W = TypeVar("W", bound=Sized)


class Reranker(SingleTexts):
    """Scores (query, document) pairs with an exported reranker.

    Create one with ``Reranker.load`` or ``Reranker.from_checkpoint``. Threads may share it. Use it as a context
    manager, or call ``close``.

    >>> from modernrank import Reranker
    >>> with Reranker.load(TINY) as reranker:                                    # an artifact's folder
    ...     scores = reranker.score([("capital of France?", "Paris"), ("capital of France?", "A baguette")])
    ...     best = reranker.rank("capital of France?", ["A baguette", "Paris"], top_k=1)
    >>> scores.shape, scores.dtype, len(best)
    ((2,), dtype('float32'), 1)
    """

    def __init__(self, manifest: Manifest, encoder: PairEncoder, scorer: Scorer) -> None:
        self.manifest = manifest
        self.encoder = encoder
        self.scorer = scorer

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        provider: ProviderChoice = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        workers: int | None = None,
        max_length: int | None = None,
        truncation: TruncationChoice = "longest_first",
        devices: Sequence[int] | None = None,
        cuda_stream: int | None = None,
        cuda_graphs: bool | None = None,
        gpu_memory_limit: int | None = None,
        allow_tf32: bool | None = None,
        sleep_while_waiting: bool | None = None,
        verify_files: bool = True,
        cache: str | Path | None = None,
        max_waiting_tokens: int | None = None,
    ) -> Self:
        """Load the artifact at ``path``.

        Args:
            path: a folder that ``modernrank export`` wrote.
            provider: ``"cpu"``, ``"cuda"``, ``"tensorrt"``, ``"tensorrt-rtx"``, ``"ort-tensorrt"``, or ``"auto"`` for
                the best one that can run on this machine and for which the artifact has a graph or an engine. ``info``
                says which one runs.
            precision: ``"fp32"``, ``"fp16"``, ``"int8"``, or ``"auto"``: int8 or fp16 if the artifact has it and its
                measured quality passed, else fp32.
            threads: number of threads in all; by default the cores that affinity and cgroup quota grant.
            workers: number of batches that run side by side, each on its share of ``threads``; by default one for each
                thread, which is fastest for lists and for several callers. ``1`` holds the weights once, not twice. On
                GPUs it is the number of lanes.
            max_length: maximum number of tokens in a pair, special tokens included; by default the artifact's limit.
            truncation: what happens to a longer pair: ``"longest_first"`` (as in ``transformers``), ``"document"`` (the
                query is never cut) or ``"error"``.
            devices: numbers of the GPUs that share the work; by default the first.
            cuda_stream: address of the caller's own CUDA stream, for a TensorRT engine.
            cuda_graphs: replay small shapes that recur as CUDA graphs; by default engines do, and ``"cuda"`` does not.
            gpu_memory_limit: maximum number of bytes that provider ``"cuda"`` takes; by default no limit.
            allow_tf32: let ``"cuda"`` round the factors of float32 products to 10 bits (TF32); by default it does not.
            sleep_while_waiting: let the thread of an engine's lane sleep while it waits for the GPU. It then takes no
                core, and notices the end some microseconds later. By default it spins.
            verify_files: compare every file with its SHA-256. ``False`` checks sizes only, for pools of processes of
                which one has verified the artifact; engines are always verified.
            cache: folder for what a runtime compiles; by default ``MODERNRANK_CACHE`` or the user's cache folder. The
                artifact itself is never written to.
            max_waiting_tokens: maximum number of tokens that wait for a worker. A call beyond it is refused at once,
                with an ``OverloadedError``. By default no limit: each thread that calls waits with one window.

        Raises:
            ArtifactError: a file is missing, damaged or too new, or nothing in the artifact suits the options.
            ProviderError: the provider cannot run on this machine, or another one would run.
            InputError: an argument is out of its range, or the provider does not take it.
        """
        options = LoadOptions(
            provider,
            precision,
            CpuOptions(threads, workers),
            GpuOptions(devices, cuda_stream, cuda_graphs, gpu_memory_limit, allow_tf32, sleep_while_waiting),
            verify_files,
            None if cache is None else Path(cache),
            max_waiting_tokens,
        )
        return cls.open(path, options, max_length=max_length, truncation=truncation)

    @classmethod
    def open(
        cls,
        path: str | Path,
        options: LoadOptions,
        *,
        max_length: int | None = None,
        truncation: TruncationChoice = "longest_first",
    ) -> Self:
        """Like ``load``, for callers that have their options in one object, such as a server's settings.

        >>> from modernrank import CpuOptions, LoadOptions
        >>> with Reranker.open(TINY, LoadOptions(cpu=CpuOptions(threads=1))) as reranker:
        ...     reranker.info.threads
        1
        """
        artifact = Artifact.open(path)
        manifest = artifact.manifest
        limit = checked_length(max_length, manifest.max_length, manifest.name, manifest.limited_by)
        with ExitStack() as opened:  # the model is closed if the encoder cannot be made
            scorer = Scorer.load(artifact, options)
            opened.callback(scorer.close)
            encoder = artifact.encoder(limit, truncation)
            opened.pop_all()
        return cls(manifest, encoder, scorer)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | Path,
        *,
        precision: PrecisionChoice = "fp32",
        provider: ProviderChoice = "auto",
        revision: str | None = None,
        cache: str | Path | None = None,
        **load_options: Any,
    ) -> Self:
        """Export a checkpoint once into a cache folder, then load it. Requires ``modernrank[cpu,export]``.

        Several processes may call this at once: one exports, the others wait for it.

        Args:
            checkpoint: a hub id such as ``"Alibaba-NLP/gte-reranker-modernbert-base"``, or a folder.
            precision: what to export and load: ``"fp32"``, which is exact and exported in seconds; ``"int8"`` or
                ``"fp16"``; or ``"auto"``, which exports float32 and int8 and runs int8 if its measured quality passes
                (at full size this export takes about a minute).
            provider: what runs it: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"ort-tensorrt"``. For an engine, export and
                build it yourself.
            revision: commit, tag or branch of a hub id.
            cache: folder for exported artifacts and compiled engines; by default ``MODERNRANK_CACHE`` or the user's
                cache.
            load_options: further arguments of ``load``.

        Raises:
            InputError: the provider runs engines, which have to be built, or it has no such precision.
            ArtifactError: the checkpoint does not exist, is damaged or is of a kind that cannot be exported.
            ModuleNotFoundError: ``modernrank[export]`` is not installed.
        """
        from modernrank.export.cache import cached_artifact  # only this needs the exporter

        folder = cached_artifact(checkpoint, precision=precision, provider=provider, revision=revision, cache=cache)
        try:
            return cls.load(folder, provider=provider, precision=precision, cache=cache, **load_options)
        except ArtifactError as error:
            raise ArtifactError(
                f"{error}. It is in the cache: delete {folder} and call from_checkpoint again",
                **{**error.details, "path": folder},
            ) from error

    @property
    def info(self) -> BackendInfo:
        """What is running: provider, runtime, precision, graph, threads."""
        return self.scorer.info

    @property
    def times(self) -> StageTimes:
        """Seconds that all scoring since ``load`` spent in each stage."""
        return self.scorer.times

    @property
    def metrics(self) -> Metrics:
        """What waits at this moment, and what has been done since ``load``: for a service to export."""
        return self.scorer.metrics

    @property
    def labels(self) -> list[str]:
        """Names of the model's labels, in the order of the logits."""
        return self.manifest.model.labels

    @property
    def max_length(self) -> int:
        """The maximum number of tokens in a pair, special tokens included, unless a call lowers it."""
        return self.encoder.max_length

    def score(
        self,
        pairs: Iterable[Pair],
        *,
        activation: ActivationChoice = "logit",
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        on_truncate: OnTruncate | None = None,
        show_progress: bool = False,
        priority: int = 0,
        timeout: float | None = None,
    ) -> FloatArray:
        """Score each (query, document) pair.

        Args:
            pairs: any iterable of (query, document) tuples, lists or arrays of two strings; a generator, a 2-D array of
                strings, or ``zip(df["query"], df["document"])``.
            activation: ``"logit"``; ``"sigmoid"``, for one label or several independent ones; ``"softmax"`` over
                several labels; ``"model"`` for what the checkpoint asks for, as sentence-transformers applies it. All
                are computed in float32.
            max_length: a lower maximum for this call.
            truncation: another policy for this call.
            limits: further limits for this call, such as one for the tokens of each document.
            on_truncate: called with a ``Truncation`` for each pair that was cut. Without it, a ``TruncationWarning``
                counts them before the work; of more than 4,096 pairs, a second one at the end has the total.
            show_progress: draw a progress bar on standard error.
            priority: class of the call among those that wait, 0 to 999; the calls of a lower number are served first.
            timeout: seconds after which the call is given up; None for no limit.

        Returns:
            float32 ``[pairs]`` in input order for a model of one label, and ``[pairs, labels]`` for one of several; for
            no pairs, an empty array of ``[0]`` or ``[0, labels]``.

        Raises:
            InputError: ``pairs`` are not pairs of strings, or one is too long for ``truncation``.
            OverloadedError: more than ``max_waiting_tokens`` would wait.
            DeadlineError: ``timeout`` is over.
        """
        urgency = Urgency.of(priority, timeout)
        request = self.score_request(
            pairs,
            activation=activation,
            max_length=max_length,
            truncation=truncation,
            limits=limits,
            on_truncate=on_truncate,
        )
        size = PROGRESS_WINDOW if show_progress else WINDOW
        scored: Iterator[FloatArray] = score_windows(self.scorer, request.steps, size, urgency)
        return request.scores(*(_with_progress(scored, pairs) if show_progress else scored))

    def score_iter(
        self,
        pairs: Iterable[Pair],
        *,
        activation: ActivationChoice = "logit",
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        on_truncate: OnTruncate | None = None,
        window: int = WINDOW,
        priority: int = 0,
    ) -> Iterator[np.float32 | FloatArray]:
        """Score a stream of pairs in constant memory: yields one score for each pair, in order.

        Args:
            pairs: as in ``score``.
            activation: as in ``score``.
            max_length: as in ``score``.
            truncation: as in ``score``.
            limits: as in ``score``.
            on_truncate: as in ``score``.
            window: number of pairs that are read ahead, planned and scored together. Larger windows pad less, smaller
                ones answer sooner.
            priority: as in ``score``.

        Returns:
            An iterator of ``np.float32`` for a model of one label, and of float32 ``[labels]`` for one of several.
        """
        urgency = Urgency.of(priority)
        request = self.score_request(
            pairs,
            activation=activation,
            max_length=max_length,
            truncation=truncation,
            limits=limits,
            on_truncate=on_truncate,
        )
        scored = score_windows(self.scorer, request.steps, positive("window", window), urgency)
        return _one_by_one(request, scored)

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        *,
        activation: ActivationChoice = "logit",
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        long_documents: LongDocuments = "truncate",
        max_parts: int | None = None,
        part_tokens: int | None = None,
        with_parts: bool = False,
        show_progress: bool = False,
        priority: int = 0,
        timeout: float | None = None,
    ) -> list[RankedDocument]:
        """Sort ``documents`` by their score for ``query``, best first, ties by index.

        Args:
            query: the query, which is tokenised once, not once for each document.
            documents: any iterable of strings: a list, an array, a column of a data frame. Equal ones are scored once,
                and so tie to the last bit.
            top_k: number of documents to return; all by default.
            activation: as in ``score``. The order is that of the logits, also where an activation saturates.
            max_length: as in ``score``.
            truncation: as in ``score``.
            limits: as in ``score``.
            long_documents: what happens to a document whose pair exceeds ``max_length``: ``"truncate"`` cuts it as
                ``truncation`` says; ``"chunk"`` scores it in overlapping parts, each with the whole query, and takes
                the highest score, as hosted rerankers do. A small ``max_length``, such as 512, then makes the parts
                short. The time grows with the document: 1 million characters are about 700 parts of 512 tokens.
            max_parts: maximum number of parts of a document, from its beginning; by default all. Tokens beyond the last
                part count in ``tokens_cut``.
            part_tokens: maximum number of a document's tokens in a part; by default what ``max_length`` leaves. Shorter
                parts say more exactly which passage matched.
            with_parts: whether the result has the score of each part and its characters.
            show_progress: as in ``score``.
            priority: as in ``score``.
            timeout: as in ``score``.

        Raises:
            InputError: the model has several labels, so that no order is defined; or as in ``score``.
            OverloadedError, DeadlineError: as in ``score``.
        """
        urgency = Urgency.of(priority, timeout)
        request = self.rank_request(
            query,
            documents,
            top_k,
            activation=activation,
            max_length=max_length,
            truncation=truncation,
            limits=limits,
            long_documents=long_documents,
            max_parts=max_parts,
            part_tokens=part_tokens,
            with_parts=with_parts,
        )
        size = PROGRESS_WINDOW if show_progress or request.in_parts else WINDOW
        scored: Iterator[list[DocumentLogit]] = score_windows(self.scorer, request.steps, size, urgency)
        return request.ranking(_with_progress(scored, request.steps.items) if show_progress else scored)

    def score_request(
        self,
        pairs: Iterable[Pair],
        *,
        activation: ActivationChoice = "logit",
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        on_truncate: OnTruncate | None = None,
    ) -> ScoreRequest:
        """Check the arguments of ``score``, and return what is left to be done. Nothing is read from ``pairs``."""
        encoder = self._encoder_for(max_length, truncation, limits)
        return ScoreRequest(self.manifest, PairSteps(encoder, check_pairs(pairs), on_truncate), activation)

    def rank_request(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        *,
        activation: ActivationChoice = "logit",
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
        long_documents: LongDocuments = "truncate",
        max_parts: int | None = None,
        part_tokens: int | None = None,
        with_parts: bool = False,
    ) -> RankRequest:
        """Check the arguments of ``rank``, documents included, and return what is left to be done."""
        encoder = self._encoder_for(max_length, truncation, limits)
        parts = PartOptions(max_parts, part_tokens, with_parts)
        return RankRequest(self.manifest, encoder, query, documents, top_k, activation, long_documents, parts)

    def plan(
        self, pairs: Iterable[Pair], *, max_length: int | None = None, truncation: TruncationChoice | None = None
    ) -> Plan:
        """How ``pairs`` would be placed in rows and batches as one window. Nothing runs; print the plan to see it."""
        return self.scorer.plan(self.count_tokens(pairs, max_length=max_length, truncation=truncation).tolist())

    def count_tokens(
        self,
        pairs: Iterable[Pair],
        *,
        max_length: int | None = None,
        truncation: TruncationChoice | None = None,
        limits: TextLimits | None = None,
    ) -> IntArray:
        """The number of tokens of each pair, special tokens included, cut as ``score`` cuts it: int64 ``[pairs]``.

        >>> with Reranker.load(TINY) as reranker:
        ...     int(reranker.count_tokens([("a", "b"), ("a", "c")]).sum())
        10
        """
        encoded = self._encoder_for(max_length, truncation, limits).encode(list(check_pairs(pairs)))
        return np.array([len(pair.ids) for pair in encoded], np.int64)

    def warmup(self, lengths: Sequence[int] = (16, 128, 512)) -> None:
        """Score made-up pairs of these ``lengths`` (tokens, cut to ``max_length``); see ``Scorer.warmup``."""
        self.scorer.warmup([min(positive("a length", length), self.max_length) for length in lengths])

    def close(self) -> None:
        """Free the model. Scoring afterwards is an error; closing twice is not."""
        self.scorer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Reranker({self.manifest.name!r}, {self.scorer.description})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled; load the artifact in each process")

    def _encoder_for(
        self, max_length: int | None, truncation: TruncationChoice | None, limits: TextLimits | None = None
    ) -> PairEncoder:
        """The encoder with the limits of one call."""
        chosen = (limits or TextLimits()) | TextLimits(max_length, truncation)
        is_lowered = self.max_length < self.manifest.max_length
        source = "max_length of load" if is_lowered else self.manifest.limited_by
        checked_length(chosen.max_length, self.max_length, f"this {type(self).__name__}", source)
        return self.encoder.with_limits(chosen)


def _one_by_one(request: ScoreRequest, scored: Generator[FloatArray, None, None]) -> Iterator[np.float32 | FloatArray]:
    with closing(scored):  # also if the caller stops early
        for logits in scored:
            yield from request.scores(logits)


def _with_progress(scored: Iterator[W], items: Iterable[object]) -> Iterator[W]:
    """Pass windows on, and count their items in a bar on standard error."""
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise InputError("show_progress requires tqdm: pip install tqdm, or turn show_progress off") from error
    with tqdm(total=len(items) if isinstance(items, Sized) else None, unit="pair") as bar:
        for window in scored:
            yield window
            bar.update(len(window))
