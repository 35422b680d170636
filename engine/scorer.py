"""``Scorer``: token ids go in, logits come out.

token ids ──plan──▶ batches of rows ──assemble──▶ arrays ──backend──▶ logits of slots ──unpack──▶ logits of pairs
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from .arrays import FloatArray, IntArray
from .artifact.folder import Artifact
from .artifact.manifest import Model
from .backends.base import Backend, BackendInfo
from .backends.open import open_backend
from .batching import packing
from .batching.batch import PlannedBatch, assemble, unpack
from .batching.packing import Plan
from .batching.policy import BatchPolicy
from .batching.workers import WorkerPool
from .errors import BackendError, ClosedError, InputError
from .options import LoadOptions, positive
from .timing import StageTimer, StageTimes


class Scorer:
    """Scores token ids with a loaded model: plans batches, runs them, checks the logits, and counts the time.

    It is the public interface for token ids; ``Reranker`` adds texts. Threads may share it. Use it as a context
    manager, or call ``close``.

    Args:
        backend: the loaded model; the scorer closes it.
        model: its labels, vocabulary and maximum length, from the manifest.
        pad_token_id: the token id that fills rows which are not full.

    >>> import numpy as np
    >>> from modernrank import Scorer
    >>> with Scorer.load(TINY) as scorer:                                        # an artifact's folder
    ...     scorer.score([np.array([508, 3, 509, 4, 509]), np.array([508, 509, 509])]).shape
    (2, 1)
    """

    def __init__(self, backend: Backend, model: Model, pad_token_id: int) -> None:
        self._backend: Backend | None = backend
        self._model = model
        self._pad_token_id = pad_token_id
        self._workers = WorkerPool(backend.policy.schedule.workers)
        self.timer = StageTimer()

    @classmethod
    def load(cls, artifact: str | Path | Artifact, options: LoadOptions | None = None) -> Self:
        """Load an artifact.

        Args:
            artifact: its folder, or the opened ``Artifact``.
            options: provider, precision, threads, GPUs; by default what suits this machine.

        Raises:
            ArtifactError: a file is missing or damaged, or nothing in the artifact suits the options.
            ProviderError: the provider cannot run on this machine.
            InputError: the provider does not take an option.
        """
        opened = artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)
        backend = open_backend(opened, options or LoadOptions())
        return cls(backend, opened.manifest.model, opened.manifest.tokenizer.pad_token_id)

    @property
    def info(self) -> BackendInfo:
        """What is running: provider, runtime, precision, graph, threads."""
        return self._open_backend().info

    @property
    def policy(self) -> BatchPolicy:
        """Which batches the backend accepts, and which it prefers."""
        return self._open_backend().policy

    @property
    def times(self) -> StageTimes:
        """Seconds that all scoring since ``load`` spent in each stage."""
        return self.timer.read()

    def plan(self, lengths: Sequence[int]) -> Plan:
        """How pairs of these ``lengths`` (tokens) would be placed in rows and batches. Nothing runs."""
        return packing.plan(lengths, self.policy)

    def score(self, token_ids: Sequence[IntArray]) -> FloatArray:
        """Score pairs that are encoded already. Equal ones are scored once.

        Args:
            token_ids: integers ``[tokens]`` for each pair, special tokens included.

        Returns:
            Logits, float32 ``[pairs, labels]``, in input order.

        Raises:
            InputError: a pair is not an array of token ids, or exceeds the model's vocabulary or maximum length.
            BackendError: the runtime failed, or logits are not finite numbers.
            ClosedError: ``close`` was called, by this thread or another.
        """
        backend = self._open_backend()
        checked = _check_token_ids(token_ids, self._model)
        position_of: dict[bytes, int] = {}
        positions = [position_of.setdefault(ids.tobytes(), len(position_of)) for ids in checked]
        distinct = [np.frombuffer(data, np.int64) for data in position_of]
        logits = np.empty((len(distinct), len(self._model.labels)), np.float32)

        def run_batch(planned: PlannedBatch, side_by_side: bool) -> None:
            with self.timer.stage("pack"):
                batch = assemble(planned, distinct, self._pad_token_id)
            with self.timer.stage("run"):
                outputs = backend.run(batch, side_by_side)
            with self.timer.stage("unpack"):
                unpack(planned, outputs, out=logits)

        with self.timer.stage("plan"):
            plan = packing.plan([len(ids) for ids in distinct], backend.policy)
        self._workers.carry_out(plan, run_batch)
        _check_finite(logits, backend.info)
        in_order: FloatArray = logits[positions]
        return in_order

    def warmup(self, lengths: Sequence[int] = (16, 128, 512)) -> None:
        """Score a made-up pair of each of ``lengths`` (tokens, cut to the model's), with all threads and side by side.

        The first runs of each kind take longer: they read the weights and allocate memory, and on GPUs they make the
        CUDA graphs. A service therefore calls this before it takes traffic.
        """
        backend = self._open_backend()
        for length in {min(positive("a length", length), self._model.max_length) for length in lengths}:
            ids = np.full(length, self._pad_token_id, np.int64)
            batch = assemble(PlannedBatch(((0,),), length), [ids], self._pad_token_id)
            for side_by_side in (False, True):
                for _ in range(backend.policy.warm_up_runs):
                    backend.run(batch, side_by_side)

    def close(self) -> None:
        """Free the model. Scoring afterwards is an error; closing twice is not."""
        backend, self._backend = self._backend, None
        if backend is not None:
            try:
                backend.close()  # first: batches that still wait then fail at once
            finally:
                self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def description(self) -> str:
        """What runs, in a few words: ``"int8 on cpu, 2 threads"``, or ``"closed"``."""
        backend = self._backend
        return "closed" if backend is None else _describe(backend.info)

    def __repr__(self) -> str:
        return f"Scorer({self.description})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled; load the artifact in each process")

    def _open_backend(self) -> Backend:
        backend = self._backend
        if backend is None:
            raise ClosedError("this model is closed; load it again, or score inside its `with` block")
        return backend


def _describe(info: BackendInfo) -> str:
    where = ", ".join(info.devices) or f"{info.threads} thread{'s' if info.threads != 1 else ''}"
    return f"{info.precision} on {info.provider}, {where}"


def _check_token_ids(token_ids: Sequence[IntArray], model: Model) -> list[IntArray]:
    checked: list[IntArray] = []
    for index, given in enumerate(token_ids):
        ids = np.asarray(given)
        if ids.ndim != 1 or not 1 <= ids.size <= model.max_length or ids.dtype.kind not in "iu":
            raise InputError(
                f"pair {index} is an array of {ids.dtype} with the shape {list(ids.shape)}; a pair is 1 to "
                f"{model.max_length} whole numbers",
                index=index,
                limit=model.max_length,
            )
        checked.append(ids.astype(np.int64, copy=False))
    if checked:
        joined = np.concatenate(checked)
        lowest, highest = int(joined.min()), int(joined.max())
        if lowest < 0 or highest >= model.vocabulary:
            raise InputError(
                f"token ids range from {lowest} to {highest}, but the model's range from 0 to {model.vocabulary - 1}",
                limit=model.vocabulary - 1,
            )
    return checked


def _check_finite(logits: FloatArray, info: BackendInfo) -> None:
    broken = int(np.count_nonzero(~np.isfinite(logits).all(axis=1)))
    if broken:
        raise BackendError(
            f"{broken} of {len(logits)} pairs have scores that are not finite numbers, in {info.precision} on "
            f"{info.provider}; check this artifact with `modernrank verify`, or load it with precision='fp32'",
            pairs=broken,
        )
