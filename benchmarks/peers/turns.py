"""Contenders take turns on the same pairs, so that noise of the machine affects all of them alike."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.benchmarks.measure.workload import CountTokens, Workload
from modernrank.benchmarks.reporting.result import Measurement
from modernrank.evaluation.agreement import measure
from modernrank.export.report import Report

from .contenders import OWN_PLAN, Answer, Contender, ContenderProcess
from .environments import PeerError

DEFAULT_BATCH = 32  # the default of sentence-transformers
REFERENCES = ("transformers fp32", "sentence-transformers fp32")


@dataclass
class _Trial:
    """One contender at one batch size, and its results so far."""

    process: ContenderProcess
    batch: int
    scores: FloatArray
    seconds: list[float] = field(default_factory=list)
    peak_memory: int | None = None
    error: str | None = None

    @property
    def contender(self) -> Contender:
        """Who runs."""
        return self.process.contender


class Turns:
    """Contenders in processes that stay up for several workloads, as a context manager.

    Args:
        contenders: who is measured, in the order of the turns.
        count_tokens: number of tokens of a pair, special tokens included.
        report: called with each step.
    """

    def __init__(self, contenders: Sequence[Contender], count_tokens: CountTokens, report: Report) -> None:
        self._contenders, self._count_tokens, self._report = contenders, count_tokens, report
        self._errors: dict[str, str] = {}  # of contenders whose process has ended
        self._running: list[ContenderProcess] = []
        self._processes = ExitStack()

    def __enter__(self) -> Self:
        for contender in self._contenders:
            self._report(f"{contender.name}: loading")
            try:
                self._running.append(self._processes.enter_context(ContenderProcess(contender)))
            except PeerError as error:
                self._fail(contender, error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._processes.close()

    def measure(self, workload: Workload, rounds: int, seconds: float = math.inf) -> list[Measurement]:
        """Measure all contenders on ``workload`` as queries, in turns.

        Each contender warms up at every batch size that it tries, and these runs decide which size is its best. Its
        best size and DEFAULT_BATCH are measured. A contender that fails stays in the result, with its error.

        Args:
            workload: the pairs; a sample is the time for all of them.
            rounds: maximum number of samples of each.
            seconds: no round begins later than this after the first one.
        """
        trials: list[_Trial] = []
        for process in self._running:
            if process.contender.name not in self._errors:
                try:
                    trials += _warm_up(process, workload, self._report)
                except PeerError as error:
                    self._fail(process.contender, error)
        failed = [_of(c, workload, error=self._errors[c.name]) for c in self._contenders if c.name in self._errors]
        start = time.monotonic()
        for number in range(1, rounds + 1):
            if number > 1 and time.monotonic() - start > seconds:
                break
            for trial in trials:
                _run(trial, workload, self._report, f"round {number} of {rounds}")
        self._errors |= {trial.contender.name: trial.error for trial in trials if trial.error}
        reference = _reference(trials)
        tokens = sum(map(self._count_tokens, workload.pairs))
        return [_measurement(trial, workload, tokens, reference) for trial in trials] + failed

    def _fail(self, contender: Contender, error: PeerError) -> None:
        self._report(f"{contender.name} failed: {error}")
        self._errors[contender.name] = str(error)


def take_turns(
    contenders: Sequence[Contender], workload: Workload, count_tokens: CountTokens, rounds: int, report: Report
) -> list[Measurement]:
    """Measure contenders on one workload, as ``Turns`` does."""
    with Turns(contenders, count_tokens, report) as turns:
        return turns.measure(workload, rounds)


def _warm_up(process: ContenderProcess, workload: Workload, report: Report) -> list[_Trial]:
    """The trials to measure: the default batch size, if it is tried, and the fastest."""
    contender, answers = process.contender, dict[int, Answer]()
    for batch in contender.batches:
        if batch > len(workload.pairs) and answers:
            continue
        answers[batch] = process.score(workload.pairs, batch)
        report(f"{contender.name}{_batch(batch)}: {answers[batch].seconds:.2f} s to warm up")
    if len(answers) > 1:  # the first run includes costs that all sizes share, so the first size runs again
        first = next(iter(answers))
        answers[first] = process.score(workload.pairs, first)
    fastest = min(answers, key=lambda batch: answers[batch].seconds)
    batches = sorted({fastest, DEFAULT_BATCH} & answers.keys())
    return [_Trial(process, batch, np.array(answers[batch].scores, np.float32)) for batch in batches]


def _run(trial: _Trial, workload: Workload, report: Report, turn: str) -> None:
    if trial.error:
        return
    try:
        answer = trial.process.score(workload.pairs, trial.batch)
    except PeerError as error:
        trial.error = str(error)
        return
    trial.seconds.append(answer.seconds)
    trial.scores = np.array(answer.scores, np.float32)
    trial.peak_memory = answer.peak_memory
    report(f"{turn}: {trial.contender.name}{_batch(trial.batch)}: {answer.seconds:.2f} s")


def _batch(batch: int) -> str:
    return "" if batch == OWN_PLAN else f" (batch {batch})"


def _reference(trials: list[_Trial]) -> _Trial | None:
    for name in REFERENCES:
        for trial in trials:
            if trial.contender.name == name:
                return trial
    return None


def _measurement(trial: _Trial, workload: Workload, tokens: int, reference: _Trial | None) -> Measurement:
    pairs, info = workload.pairs, trial.process.info
    fidelity: dict[str, float] = {}
    if reference is not None:
        fidelity["largest_difference"] = float(np.abs(trial.scores - reference.scores).max())
        if len(pairs) > 2:
            fidelity |= measure(pairs, reference.scores, trial.scores).as_json()
    return _of(
        trial.contender,
        workload,
        parameters={"documents": len(pairs), **({} if trial.batch == OWN_PLAN else {"batch": trial.batch})},
        provider=info.get("provider", trial.contender.provider),
        flops_per_token=trial.contender.flops_per_token(info),
        pairs=len(pairs) * len(trial.seconds),
        tokens=tokens * len(trial.seconds),
        seconds=trial.seconds,
        elapsed=sum(trial.seconds),
        peak_memory=trial.peak_memory,
        fidelity=fidelity,
        runtime={**info, "versions": trial.process.versions},
        error=trial.error,
    )


def _of(contender: Contender, workload: Workload, **fields: Any) -> Measurement:
    """A measurement of a contender in the ``query`` scenario."""
    common: dict[str, Any] = {
        "ours": contender.ours,
        "precision": contender.precision,
        "provider": contender.provider,
        "tokens_per_pair": workload.tokens_per_pair,
    }
    return Measurement(contender.name, "query", workload.name, **(common | fields))
