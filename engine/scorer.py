"""``Scorer``: token ids go in, logits come out.

token ids ──plan──▶ batches of rows ──queue──▶ a run ──assemble──▶ arrays ──backend──▶ logits of slots ──▶ of pairs
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from .batching.batch import PlannedBatch, assemble
from .batching.packing import Plan
from .batching.policy import BatchPolicy
from .errors import BackendError, InputError
from .host import renew_after_fork, sharing_interpreter
from .options import LoadOptions, positive
from .queue.call import Call, Run
from .queue.metrics import Metrics
from .queue.run_queue import RunQueue, closed_error
from .queue.urgency import Urgency
from .queue.workers import WorkerPool
from .timing import StageTimer, StageTimes

_open_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


@atexit.register
def _close_pools() -> None:
    """At the end of the process: no worker is interrupted in a run."""
    for pool in list(_open_pools):
        pool.close()


def _close_in_another_thread(pool: WorkerPool) -> None:
    """For the garbage collector, which may interrupt a thread that holds the lock of the queue."""
    threading.Thread(target=pool.close, name="modernrank-close", daemon=True).start()


class Scorer:
    """Scores token ids with a loaded model: plans batches, runs them, checks the logits, and counts the time.

    It is the public interface for token ids; ``Reranker`` adds texts. Threads may share it. Use it as a context
    manager, or call ``close``.

    Args:
        backend: the loaded model; the scorer closes it.
        model: its labels, vocabulary and maximum length, from the manifest.
        pad_token_id: the token id that fills rows which are not full.
        max_waiting_tokens: maximum number of tokens in the queue, at least the model's maximum length; None for no
            limit.

    >>> import numpy as np
    >>> from modernrank import Scorer
    >>> with Scorer.load(TINY) as scorer:                                        # an artifact's folder
    ...     scorer.score([np.array([508, 3, 509, 4, 509]), np.array([508, 509, 509])]).shape
    (2, 1)
    """

    def __init__(
        self, backend: Backend, model: Model, pad_token_id: int, max_waiting_tokens: int | None = None
    ) -> None:
        self._backend: Backend | None = backend
        self._model = model
        self._pad_token_id = pad_token_id
        self._queue = RunQueue(backend.policy, _checked_limit(max_waiting_tokens, model.max_length))
        self.timer = StageTimer()
        execute = _Execute(backend, pad_token_id, self.timer)
        self._workers = WorkerPool(self._queue, execute, backend.policy.schedule.workers)
        self._finalizer = weakref.finalize(self, _close_in_another_thread, self._workers)
        self._finalizer.atexit = False
        _open_pools.add(self._workers)
        self._is_lost = False
        self._closing = threading.Lock()
        renew_after_fork(self)

    def renew(self) -> None:
        """In a forked process: refuse to run what does not survive a fork."""
        self._closing = threading.Lock()
        self._is_lost = self._backend is not None and not self._backend.survives_fork

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
        options = options or LoadOptions()
        model, tokenizer = opened.manifest.model, opened.manifest.tokenizer
        _checked_limit(options.max_waiting_tokens, model.max_length)  # before the weights are read
        return cls(open_backend(opened, options), model, tokenizer.pad_token_id, options.max_waiting_tokens)

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

    @property
    def metrics(self) -> Metrics:
        """What waits at this moment, and what has been done since ``load``."""
        return self._queue.metrics(self.times)

    @property
    def estimated_wait(self) -> float | None:
        """Seconds until what waits at this moment is done, as in ``metrics``, which costs more."""
        return self._queue.estimated_wait()

    def score(self, token_ids: Sequence[IntArray], *, priority: int = 0, timeout: float | None = None) -> FloatArray:
        """Score pairs that are encoded already. Equal ones are scored once.

        Args:
            token_ids: integers ``[tokens]`` for each pair, special tokens included.
            priority: class of the call, 0 to 999. The calls of a lower number are served first.
            timeout: seconds after which the call is given up; None for no limit.

        Returns:
            Logits, float32 ``[pairs, labels]``, in input order.

        Raises:
            InputError: a pair is not an array of token ids, or exceeds the model's vocabulary or maximum length;
                ``priority`` or ``timeout`` is out of its range.
            OverloadedError: more than ``max_waiting_tokens`` would wait.
            DeadlineError: ``timeout`` is over.
            BackendError: the runtime failed, or logits are not finite numbers.
            ClosedError: ``close`` was called, by this thread or another.
        """
        return self.score_urgently(token_ids, Urgency.of(priority, timeout))

    def score_urgently(self, token_ids: Sequence[IntArray], urgency: Urgency, continues: bool = False) -> FloatArray:
        """Like ``score``, with a deadline that began earlier.

        Args:
            token_ids: as in ``score``.
            urgency: of the call.
            continues: whether this is a later window of a call in progress: it waits for room where a new call would be
                refused.
        """
        scoring = self.begin(token_ids, urgency)
        self._workers.carry_out(scoring.call, continues)
        return scoring.logits()

    def check_room(self) -> None:
        """Refuse a new call before it is tokenised, if the queue is full.

        Raises:
            OverloadedError: it is.
            ClosedError: ``close`` was called.
        """
        self._open_backend()
        self._queue.check_room()

    def begin(self, token_ids: Sequence[IntArray], urgency: Urgency) -> Scoring:
        """Check and plan a call, which does not run yet."""
        backend = self._open_backend()
        checked = _check_token_ids(token_ids, self._model)
        position_of: dict[bytes, int] = {}
        positions = [position_of.setdefault(ids.tobytes(), len(position_of)) for ids in sharing_interpreter(checked)]
        distinct = [np.frombuffer(data, np.int64) for data in position_of]
        with self.timer.stage("plan"):
            plan = packing.plan([len(ids) for ids in distinct], backend.policy)
        return Scoring(Call(distinct, plan, len(self._model.labels), urgency), positions, backend.info)

    def submit(
        self, scoring: Scoring, on_end: Callable[[], None], is_gone: Callable[[], bool], continues: bool = False
    ) -> None:
        """Let a call wait for the workers, and return at once.

        Args:
            scoring: what ``begin`` made.
            on_end: called once, by another thread, when it has ended.
            is_gone: called by other threads: whether nobody can receive the result any more. It must return at once.
            continues: as in ``score_urgently``.

        Raises:
            OverloadedError, DeadlineError, ClosedError: as in ``score``.
        """
        scoring.call.on_end, scoring.call.is_gone = on_end, is_gone
        self._workers.submit(scoring.call, continues)

    def withdraw(self, scoring: Scoring, error: BaseException) -> None:
        """End a call that was submitted, with ``error``; if it has ended already, nothing happens."""
        self._queue.withdraw(scoring.call, error)

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
        with self._closing:  # another thread may close it, too
            backend, self._backend = self._backend, None
        if backend is not None:
            self._finalizer.detach()
            try:
                self._workers.close()  # calls that wait end at once, and runs are finished
            finally:
                if not self._is_lost:
                    backend.close()

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
            raise closed_error()
        if self._is_lost:
            raise BackendError(
                f"this model was loaded with provider {backend.info.provider!r} before the process forked, and CUDA "
                "does not work in a forked process; load it in each process after the fork, such as in gunicorn's "
                "post_fork hook, or start processes by spawn",
                provider=backend.info.provider,
            )
        return backend


class _Execute:
    """Computes a run: packs it, runs it, and puts the logits into its calls. It does not keep the scorer alive."""

    def __init__(self, backend: Backend, pad_token_id: int, timer: StageTimer) -> None:
        self._backend = backend
        self._pad_token_id = pad_token_id
        self._timer = timer

    def __call__(self, run: Run) -> None:
        with self._timer.stage("pack"):
            batch = assemble(run.planned, run.token_ids, self._pad_token_id)
        with self._timer.stage("run"):
            outputs = self._backend.run(batch, run.shares_threads)
        with self._timer.stage("unpack"):
            run.unpack(outputs)


@dataclass(frozen=True)
class Scoring:
    """A call in the queue, with what its result needs."""

    call: Call
    positions: list[int]
    info: BackendInfo

    def logits(self) -> FloatArray:
        """Float32 ``[pairs, labels]`` in input order, after the call has ended.

        Raises:
            ModernRankError: what it ended with.
        """
        if self.call.error is not None:
            raise self.call.error
        _check_finite(self.call.logits, self.info)
        in_order: FloatArray = self.call.logits[self.positions]
        return in_order


def _describe(info: BackendInfo) -> str:
    where = ", ".join(info.devices) or f"{info.threads} thread{'s' if info.threads != 1 else ''}"
    return f"{info.precision} on {info.provider}, {where}"


def _check_token_ids(token_ids: Sequence[IntArray], model: Model) -> list[IntArray]:
    checked: list[IntArray] = []
    for index, given in sharing_interpreter(enumerate(token_ids)):
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


def _checked_limit(max_waiting_tokens: int | None, max_length: int) -> int | None:
    if max_waiting_tokens is not None and max_waiting_tokens < max_length:
        raise InputError(
            f"max_waiting_tokens is {max_waiting_tokens}, but a single pair may have {max_length} tokens; raise it to "
            "at least that",
            argument="max_waiting_tokens",
            value=max_waiting_tokens,
            minimum=max_length,
        )
    return max_waiting_tokens
