"""``Reranker``: load an artifact, score pairs, rank documents.

pairs ──encode──▶ token ids ──plan──▶ runs of rows ──assemble──▶ batch ──session──▶ logits ──unpack──▶ scores
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .activations import ACTIVATIONS, activate
from .artifact.folder import Artifact
from .artifact.manifest import Manifest
from .backends.base import Session, SessionInfo
from .backends.open import open_session, positive
from .batching import packing
from .batching.packing import FloatArray, Plan, Run
from .batching.prefetch import Chunk, chunked, in_advance
from .batching.workers import Streams
from .errors import InputError, ModernRankError
from .options import GpuSettings
from .text.encoder import EncodedPair, Pair, PairEncoder, check_text, check_texts
from .text.truncation import Truncation, TruncationSummary
from .timing import StageClock, Stages

# Pairs that are encoded, planned and scored together: enough to find rows of like length, little enough to hold.
WINDOW = 4096
# With a progress bar, smaller ones: the bar moves when a window is done.
PROGRESS_WINDOW = 256
LONG_DOCUMENTS = ("truncate", "chunk")


@dataclass(frozen=True)
class RankedDocument:
    """A document in ``Reranker.rank``'s answer: where it stood, its score and its text.

    ``tokens_cut`` counts what its pair lost to ``max_length``, of the query and of the document.
    """

    index: int
    score: float
    document: str
    tokens_cut: int


class Reranker:
    """Scores (query, document) pairs with an exported ModernBERT sequence classifier.

    Build one with ``Reranker.load``. It may be shared by threads. Use it as a context manager, or call ``close``.

    >>> from modernrank import Reranker
    >>> with Reranker.load(TINY) as reranker:                                    # an artifact's folder
    ...     scores = reranker.score([("capital of France?", "Paris"), ("capital of France?", "A baguette")])
    ...     best = reranker.rank("capital of France?", ["A baguette", "Paris"], top_k=1)
    >>> scores.shape, scores.dtype, len(best)
    ((2,), dtype('float32'), 1)
    """

    def __init__(self, manifest: Manifest, encoder: PairEncoder, session: Session) -> None:
        self.manifest = manifest
        self._encoder = encoder
        self._session: Session | None = session
        self._streams = Streams(session.limits.streams)
        self._clock = StageClock()

    @staticmethod
    def load(
        path: str | Path,
        provider: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        streams: int | None = None,
        max_length: int | None = None,
        truncation: str = "longest_first",
        devices: Sequence[int] | None = None,
        cuda_stream: int | None = None,
        cuda_graphs: bool | None = None,
        gpu_memory_limit: int | None = None,
    ) -> Reranker:
        """Load the artifact at ``path``, its files checked against their hashes.

        Args:
            path: a folder that ``modernrank export`` wrote.
            provider: ``"cpu"``, ``"cuda"``, ``"tensorrt"``, ``"tensorrt-rtx"``, ``"ort-tensorrt"``, or ``"auto"`` for
                the best that can run here and that the artifact has a graph or an engine for; ``info`` tells which
                one runs.
            precision: ``"fp32"``, ``"fp16"``, ``"int8"``, or ``"auto"``: int8 or fp16 if the artifact has it and its
                measured quality passed, else fp32.
            threads: threads in all; by default the cores that affinity and cgroup quota grant.
            streams: runs that go side by side, each on its share of ``threads``; by default one for each thread, which
                is quickest for lists and for several callers. ``1`` holds the weights once, not twice.
            max_length: most tokens in a pair, special tokens included; by default all that the model allows.
            truncation: what happens to a longer pair: ``"longest_first"`` (as ``transformers``), ``"document"``
                (the query is never cut) or ``"error"``.
            devices: numbers of the GPUs that share the work; by default the first.
            cuda_stream: address of the caller's own CUDA stream, for a TensorRT engine to run in.
            cuda_graphs: replay small shapes that come again as CUDA graphs; by default an engine does, ``"cuda"`` not.
            gpu_memory_limit: most bytes that provider ``"cuda"`` takes; by default no limit.

        Raises:
            ArtifactError: a file is missing, damaged or too new, there is no such precision, none that ``"auto"`` may
                take, or no engine for this GPU.
            ProviderError: the provider is not installed, or another one would run.
            InputError: an argument is out of its range.
        """
        artifact = Artifact.open(path)
        manifest = artifact.manifest
        limit = min(manifest.model.max_length, manifest.tokenizer.max_length)
        max_length = limit if max_length is None else positive("max_length", max_length)
        if max_length > limit:
            raise InputError(
                f"max_length {max_length} is above the {limit} tokens that {manifest.name} allows; lower it"
            )
        gpu = GpuSettings(devices, cuda_stream, cuda_graphs, gpu_memory_limit)
        with ExitStack() as opened:  # the session is closed if the encoder cannot be made
            session = open_session(artifact, provider, precision, threads, streams, gpu)
            opened.callback(session.close)
            encoder = artifact.encoder(max_length, truncation)
            opened.pop_all()
        return Reranker(manifest, encoder, session)

    @property
    def info(self) -> SessionInfo:
        """What is running: provider, runtime, precision, graph, threads."""
        return self._open_session().info

    @property
    def stages(self) -> Stages:
        """Seconds that all scoring since ``load`` has spent in each stage."""
        return self._clock.read()

    @property
    def labels(self) -> list[str]:
        """Names of the model's labels, in the order of the logits."""
        return self.manifest.model.labels

    @property
    def max_length(self) -> int:
        """Most tokens in a pair, special tokens included."""
        return self._encoder.max_length

    def score(
        self,
        pairs: Iterable[Pair],
        *,
        activation: str = "none",
        on_truncate: Callable[[Truncation], None] | None = None,
        show_progress: bool = False,
    ) -> FloatArray:
        """Score each (query, document) pair.

        Args:
            pairs: any iterable of (query, document) tuples of strings, a generator too.
            activation: ``"none"`` for the logits, as the model's card prints them; ``"sigmoid"``, for one label or
                several independent ones; ``"softmax"`` over several labels. Computed in float32.
            on_truncate: called with a ``Truncation`` for each pair that was cut. Without it, cut pairs are told of
                in one ``TruncationWarning``.
            show_progress: draw a progress bar on standard error.

        Returns:
            float32 ``[pairs]`` in input order, or ``[pairs, labels]`` for a model of several labels; for no pairs,
            an empty array.

        Raises:
            InputError: a pair is not two strings, or is too long for ``truncation``.
        """
        self._check_activation(activation)
        _check_iterable(pairs)
        notify = on_truncate or TruncationSummary(self.max_length)
        windows = self._score_windows(pairs, PROGRESS_WINDOW if show_progress else WINDOW, notify)
        if show_progress:
            windows = _with_progress(windows, pairs)
        scores = [activate(activation, window) for window in windows]
        if isinstance(notify, TruncationSummary):
            notify.warn()
        every = np.concatenate(scores) if scores else np.empty((0, len(self.labels)), np.float32)
        return every[:, 0] if len(self.labels) == 1 else every

    def score_iter(
        self,
        pairs: Iterable[Pair],
        *,
        activation: str = "none",
        on_truncate: Callable[[Truncation], None] | None = None,
        window: int = WINDOW,
    ) -> Iterator[Any]:
        """Score a stream of pairs in constant memory: yields one score for each pair, in order.

        Args:
            pairs, activation, on_truncate: as in ``score``.
            window: pairs that are read ahead, planned and scored together. Larger windows pad less, smaller ones
                answer sooner.

        Returns:
            An iterator of ``np.float32``, or float32 ``[labels]`` for a model of several labels.
        """
        self._check_activation(activation)
        positive("window", window)
        _check_iterable(pairs)
        return self._score_stream(pairs, activation, on_truncate or TruncationSummary(self.max_length), window)

    def _score_stream(
        self, pairs: Iterable[Pair], activation: str, notify: Callable[[Truncation], None], window: int
    ) -> Iterator[Any]:
        try:
            for scores in self._score_windows(pairs, window, notify):
                activated = activate(activation, scores)
                yield from activated[:, 0] if len(self.labels) == 1 else activated
        finally:  # also where the caller stops early
            if isinstance(notify, TruncationSummary):
                notify.warn()

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        *,
        activation: str = "none",
        long_documents: str = "truncate",
        show_progress: bool = False,
    ) -> list[RankedDocument]:
        """Sort ``documents`` by their score for ``query``, best first, ties by index.

        Args:
            query: tokenised once, not once for each document.
            documents: strings. Equal ones are scored once, and so tie to the last bit.
            top_k: how many to return; all by default.
            long_documents: what happens to a document whose pair exceeds ``max_length``: ``"truncate"`` cuts it as
                ``truncation`` says; ``"chunk"`` scores it in overlapping parts, each with the whole query, and takes
                the highest score, as hosted rerankers do: the document counts as its best passage. A small
                ``max_length``, such as 512, then makes the passages short.
            activation, show_progress: as in ``score``.

        Raises:
            InputError: the model has several labels, so that no order is defined; or as ``score``.
        """
        if len(self.labels) != 1:
            raise InputError(
                f"rank needs a model of one label, {self.manifest.name} has {len(self.labels)} "
                f"({', '.join(self.labels)}); use score and choose a label"
            )
        if top_k is not None:
            positive("top_k", top_k)
        if long_documents not in LONG_DOCUMENTS:
            raise InputError(f"long_documents {long_documents!r} is unknown; choose one of {', '.join(LONG_DOCUMENTS)}")
        check_text(query, "the query")
        checked = check_texts(documents, "document")
        distinct = list(dict.fromkeys(checked))
        cuts: dict[str, int] = {}

        def remember(truncation: Truncation) -> None:
            cuts[distinct[truncation.index]] = truncation.query_tokens_cut + truncation.document_tokens_cut

        if long_documents == "chunk":
            self._check_activation(activation)
            found = self._score_parts(query, distinct, activation, show_progress)
        else:
            pairs = [(query, document) for document in distinct]
            found = self.score(pairs, activation=activation, on_truncate=remember, show_progress=show_progress)
        score_of = dict(zip(distinct, found.tolist(), strict=True))
        order = sorted(range(len(checked)), key=lambda i: (-score_of[checked[i]], i))[:top_k]
        return [RankedDocument(i, score_of[checked[i]], checked[i], cuts.get(checked[i], 0)) for i in order]

    def _score_parts(self, query: str, documents: list[str], activation: str, show_progress: bool) -> FloatArray:
        """The score of each document's best part; activations of one label keep the order."""

        def score(chunk: Chunk[str]) -> FloatArray:
            with self._clock.stage("tokenise"):
                parts = self._encoder.encode_parts(query, chunk.items, chunk.first)
            logits = self._run([part for each in parts for part in each])
            best: FloatArray = np.maximum.reduceat(logits, np.cumsum([0, *map(len, parts[:-1])]))
            return activate(activation, best)

        windows: Iterator[FloatArray] = map(score, chunked(documents, PROGRESS_WINDOW))
        if show_progress:
            windows = _with_progress(windows, documents)
        return np.concatenate([np.empty((0, 1), np.float32), *windows])[:, 0]

    def plan(self, pairs: Iterable[Pair]) -> Plan:
        """How ``pairs`` would be placed in rows and runs as one window, without running them; ``print`` explains it."""
        encoded = self._encoder.encode(list(pairs))
        return packing.plan([len(pair.ids) for pair in encoded], self._open_session().limits)

    def warmup(self, lengths: Sequence[int] = (16, 128, 512)) -> None:
        """Score a made-up pair of each of ``lengths`` (tokens, cut to ``max_length``), on all threads and side by side.

        The first run of a kind pays for touching the weights and for memory; a service calls this before it takes
        traffic. ``load`` and the first score are enough for a single call.
        """
        session = self._open_session()
        pad = self.manifest.tokenizer.pad_token_id
        for length in {min(positive("a length", length), self.max_length) for length in lengths}:
            run = Run(((0,),), length)
            batch = packing.assemble(run, [np.full(length, pad, np.int64)], pad)
            for side_by_side in (False, True):
                session.run(batch, side_by_side)

    def close(self) -> None:
        """Free the model. Scoring after it is an error; closing twice is not."""
        session, self._session = self._session, None
        if session is not None:
            session.close()  # first: what is still queued then fails at once
            self._streams.close()

    def __enter__(self) -> Reranker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _score_windows(
        self, pairs: Iterable[Pair], window: int, on_truncate: Callable[[Truncation], None]
    ) -> Iterator[FloatArray]:
        """Logits ``[pairs, labels]`` of one window of pairs after the other."""
        most = self._open_session().limits.pairs_tokenised_ahead
        chunks = chunked(pairs, min(window, most or window))
        windows = in_advance(self._encode, chunks) if most else map(self._encode, chunks)
        first_index = 0
        for encoded in windows:
            for index, pair in enumerate(encoded, start=first_index):
                if pair.query_tokens_cut or pair.document_tokens_cut:
                    on_truncate(Truncation(index, pair.query_tokens_cut, pair.document_tokens_cut))
            yield self._run(encoded)
            first_index += len(encoded)

    def _encode(self, chunk: Chunk[Pair]) -> list[EncodedPair]:
        with self._clock.stage("tokenise"):
            return self._encoder.encode(chunk.items, chunk.first)

    def _run(self, encoded: list[EncodedPair]) -> FloatArray:
        """Logits ``[pairs, labels]`` of one window. Pairs of equal tokens are scored once."""
        session = self._open_session()
        distinct: dict[bytes, int] = {}
        which = [distinct.setdefault(pair.ids.tobytes(), len(distinct)) for pair in encoded]
        ids = [np.frombuffer(tokens, np.int64) for tokens in distinct]
        logits = np.empty((len(ids), len(self.labels)), np.float32)

        def run_one(run: Run, side_by_side: bool) -> None:
            with self._clock.stage("pack"):
                batch = packing.assemble(run, ids, self.manifest.tokenizer.pad_token_id)
            with self._clock.stage("run"):
                found = session.run(batch, side_by_side)
            with self._clock.stage("unpack"):
                packing.unpack(run, found, out=logits)

        with self._clock.stage("plan"):
            plan = packing.plan([len(i) for i in ids], session.limits)
        self._streams.carry_out(plan, run_one)
        wrong = np.count_nonzero(~np.isfinite(logits).all(axis=1))
        if wrong:
            raise ModernRankError(
                f"{wrong} of {len(logits)} pairs have scores that are not numbers, in {session.info.precision} on "
                f"{session.info.provider}; see what `modernrank verify` says of this artifact, and load it with "
                "precision='fp32'"
            )
        every: FloatArray = logits[which]
        return every

    def _open_session(self) -> Session:
        session = self._session
        if session is None:
            raise ModernRankError("this Reranker is closed; load it again, or score inside its `with` block")
        return session

    def _check_activation(self, activation: str) -> None:
        if activation not in ACTIVATIONS:
            raise InputError(f"activation {activation!r} is unknown; choose one of {', '.join(ACTIVATIONS)}")
        if activation == "softmax" and len(self.labels) == 1:
            raise InputError("softmax over one label is always 1; choose activation='sigmoid' or 'none'")


def _check_iterable(pairs: object) -> None:
    if not isinstance(pairs, Iterable) or isinstance(pairs, str | bytes | Mapping):
        raise InputError(f"pairs is {type(pairs).__name__}; a list or another iterable of (query, document) is needed")


def _with_progress(windows: Iterator[FloatArray], pairs: Iterable[object]) -> Iterator[FloatArray]:
    """Pass ``windows`` on, counting their pairs in a bar on standard error."""
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise InputError("show_progress needs tqdm: pip install tqdm, or leave show_progress off") from error
    with tqdm(total=len(pairs) if isinstance(pairs, Sized) else None, unit="pair") as bar:
        for window in windows:
            yield window
            bar.update(len(window))
