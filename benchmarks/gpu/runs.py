"""Single batches on the device, without tokenising: how long a run takes, where its time goes, and callers in threads.

A run copies the ids to the device, computes, and copies the logits back, as it does for every caller. Rows are full, so
that padding costs nobody anything: it is the kernels that are compared.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modernrank import LoadOptions, ModernRankError
from modernrank.artifact.folder import Artifact
from modernrank.backends.open import open_backend
from modernrank.batching.batch import Batch
from modernrank.benchmarks.op_counts import flops_per_token
from modernrank.benchmarks.peers.peer_process import CPU, module_beside
from modernrank.benchmarks.reporting.result import Measurement
from modernrank.export.report import Report
from modernrank.options import CpuOptions, GpuOptions, PrecisionName, ProviderName

SHAPES = ((1, 128), (8, 128), (32, 128), (1, 512), (16, 512), (64, 512), (1, 2048), (1, 8192), (4, 8192))
SECONDS = 2.0  # for all contenders on one shape
WARM_UP = 6
PROFILED = ((1, 128), (64, 512), (4, 8192))
PROFILED_RUNS = 3
CALLERS, CALLS = 8, 200

Run = Callable[[Batch], Any]


@dataclass(frozen=True)
class Backed:
    """An artifact on a backend, and the way in which it runs, as tables show it."""

    way: str
    folder: Path
    precision: PrecisionName
    provider: ProviderName
    gpu: GpuOptions

    @property
    def artifact(self) -> Artifact:
        """The artifact."""
        return Artifact.open(self.folder)

    @property
    def dialect(self) -> str:
        """Of its graph in this precision."""
        return next(graph.dialect for graph in self.artifact.manifest.graphs if graph.precision == self.precision)

    @property
    def name(self) -> str:
        """Shown in tables."""
        return f"modernrank {self.precision}{f', {self.way}' if self.way else ''}"

    def options(self, threads: int) -> LoadOptions:
        """How it is loaded."""
        return LoadOptions(self.provider, self.precision, CpuOptions(threads), self.gpu, verify_files=False)


@dataclass(frozen=True)
class Options:
    """How runs are measured.

    checkpoint: for transformers.
    device:     torch's name of the device.
    max_tokens: longer rows are left out.
    rounds:     maximum number of samples of each contender and shape.
    threads:    number of threads.
    save:       takes the measurements so far.
    report:     takes a line for each shape.
    """

    checkpoint: Path
    device: str
    max_tokens: int
    rounds: int
    threads: int
    save: Callable[[list[Measurement]], None]
    report: Report


def full_batch(rows: int, tokens: int, vocabulary: int, seed: int = 0) -> Batch:
    """A batch with one pair in each row, all of it tokens, and random ids."""
    shape = (rows, tokens)
    ids = np.random.default_rng(seed).integers(vocabulary // 10, vocabulary // 2, shape)
    positions = np.broadcast_to(np.arange(tokens), shape).copy()
    return Batch(ids, positions, np.ones(shape, np.int64), slots=1)


def measure(backed: Sequence[Backed], options: Options) -> list[Measurement]:
    """Time runs of SHAPES, in turns with torch. A contender that fails stays in the result, with its error."""
    vocabulary = backed[0].artifact.manifest.model.vocabulary
    measurements: list[Measurement] = []
    with ExitStack() as opened:
        contenders: list[tuple[Measurement, Run]] = []
        for ours in backed:
            backend = opened.enter_context(closing(open_backend(ours.artifact, ours.options(options.threads))))
            flops = flops_per_token(ours.artifact, ours.precision, ours.dialect)
            about = _about(ours.name, ours.precision, True, ours.provider, flops, {"runtime": backend.info.runtime})
            contenders.append((about, backend.run))
        for name, run in torch_runs(options).items():
            contenders.append((_about(name, "bf16", False, options.device, None, {}), run))
        for rows, tokens in SHAPES:
            if tokens > options.max_tokens:
                continue
            batch = full_batch(rows, tokens, vocabulary)
            measurements += _in_turns(contenders, batch, options)
            options.save(measurements)
    return measurements


def _about(
    name: str, precision: str, ours: bool, provider: str, flops: int | None, runtime: dict[str, Any]
) -> Measurement:
    return Measurement(
        name, "run", "", ours=ours, precision=precision, provider=provider, flops_per_token=flops, runtime=runtime
    )


def _in_turns(contenders: list[tuple[Measurement, Run]], batch: Batch, options: Options) -> list[Measurement]:
    rows, tokens = batch.input_ids.shape
    seconds: dict[str, list[float]] = {about.contender: [] for about, _ in contenders}
    errors: dict[str, str] = {}
    started = time.monotonic()
    for number in range(-WARM_UP, options.rounds):
        if number > 3 and time.monotonic() - started > SECONDS:
            break
        for about, run in contenders:
            if about.contender in errors:
                continue
            start = time.perf_counter()
            try:
                run(batch)
            except (ModernRankError, RuntimeError, TypeError) as error:  # torch raises the last two
                errors[about.contender] = f"{type(error).__name__}: {error}"[:300]
                options.report(f"{about.contender} failed: {errors[about.contender]}")
                continue
            if number >= 0:
                seconds[about.contender].append(time.perf_counter() - start)
        if number == 0:
            started = time.monotonic()
    measured = []
    for about, _ in contenders:
        samples = seconds[about.contender]
        done = replace(
            about,
            workload=f"{rows} x {tokens} tokens",
            tokens_per_pair=tokens,
            pairs=rows * len(samples),
            tokens=rows * tokens * len(samples),
            seconds=samples,
            elapsed=sum(samples),
            error=errors.get(about.contender),
        )
        measured.append(done)
        if samples:
            rate = f"{done.tokens_per_second:,.0f} tokens/s"
            options.report(f"{done.workload}: {done.contender}: {done.median * 1e3:.2f} ms, {rate}")
    return measured


def torch_runs(options: Options) -> dict[str, Run]:
    """Runs of the checkpoint in torch: padded batches in scaled dot-product attention, and packed ones."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.backends.cuda.matmul.allow_tf32 = False
    packed_torch = module_beside("packed_torch")
    runs: dict[str, Run] = {}

    def add(name: str, dtype: Any, packed: bool) -> None:
        model = AutoModelForSequenceClassification.from_pretrained(options.checkpoint, dtype=dtype).eval()
        model = model.to(options.device)
        attend = packed_torch.looped_attention if options.device == CPU else packed_torch.varlen_attention()

        def run(batch: Batch) -> Any:
            with torch.inference_mode():
                inputs = {"input_ids": torch.from_numpy(batch.input_ids)}
                inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
                if packed:
                    logits = packed_torch.packed_logits(model, packed_torch.pack(inputs, options.device), attend)
                else:
                    logits = model(**{name: tensor.to(options.device) for name, tensor in inputs.items()}).logits
                return logits.float().cpu().numpy()

        runs[name] = run

    add("transformers bf16", torch.bfloat16, packed=False)
    add("torch bf16, packed", torch.bfloat16, packed=True)
    return runs


def profile(ours: Backed, options: Options) -> dict[str, Any]:
    """Milliseconds of each kernel in a run of PROFILED shapes, as CUDA's profiling interface reports them to torch.

    Returns:
        Under ``kernels`` for each shape the milliseconds of a run by family of kernels, the largest first, and under
        ``launches`` their number.
    """
    import torch

    vocabulary = ours.artifact.manifest.model.vocabulary
    result: dict[str, Any] = {"contender": ours.name, "kernels": {}, "launches": {}}
    with closing(open_backend(ours.artifact, ours.options(options.threads))) as backend:
        for rows, tokens in PROFILED:
            if tokens > options.max_tokens:
                continue
            batch = full_batch(rows, tokens, vocabulary)
            for _ in range(WARM_UP):
                backend.run(batch)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
                for _ in range(PROFILED_RUNS):
                    backend.run(batch)
                torch.cuda.synchronize()
            spent: dict[str, float] = defaultdict(float)
            launches: dict[str, int] = defaultdict(int)
            for event in profiler.events():
                if event.device_type == torch.autograd.DeviceType.CUDA:
                    family = kernel_family(event.name)
                    spent[family] += event.device_time / 1e3 / PROFILED_RUNS
                    launches[family] += 1
            shape = f"{rows} x {tokens} tokens"
            result["kernels"][shape] = {
                name: round(value, 4) for name, value in sorted(spent.items(), key=lambda item: -item[1])
            }
            result["launches"][shape] = {name: round(n / PROFILED_RUNS, 1) for name, n in launches.items()}
            options.report(f"{shape}: {result['kernels'][shape]}")
    return result


def kernel_family(name: str) -> str:
    """The name of a kernel without its template arguments, namespaces and parameters.

    >>> kernel_family("void onnxruntime::cuda::cuApplyLayerNorm<__half, float, __half, false>(__half*, float*)")
    'cuApplyLayerNorm'
    """
    bare = re.sub(r"<.*", "", name.removeprefix("void "))
    return re.sub(r"\(.*", "", bare).rsplit("::", 1)[-1][:60]


def call_from_threads(backed: Sequence[Backed], options: Options) -> dict[str, Any]:
    """Small batches from CALLERS threads on the first of ``backed``, compared with the last; and the memory in use.

    Returns:
        ``largest_difference`` of the logits from those of the last, computed one after the other; ``calls_per_second``;
        ``memory``: bytes that are in use on the GPU before, loaded, and afterwards.
    """
    first, last = backed[0], backed[-1]
    vocabulary = first.artifact.manifest.model.vocabulary
    batches = [
        full_batch(1 + i % 4, 64 * (1 + i % 5), vocabulary, seed=i)
        for i in range(20)
        if 64 * (1 + i % 5) <= options.max_tokens
    ]
    memory = {"before": _memory_in_use(options.device)}
    with closing(open_backend(last.artifact, last.options(options.threads))) as backend:
        expected = [backend.run(batch) for batch in batches]
    with closing(open_backend(first.artifact, first.options(options.threads))) as backend:
        memory["loaded"] = _memory_in_use(options.device)

        def call(caller: int) -> float:
            largest = 0.0
            for i in np.random.default_rng(caller).integers(0, len(batches), CALLS):
                largest = max(largest, float(np.abs(backend.run(batches[i]) - expected[i]).max()))
            return largest

        start = time.perf_counter()
        with ThreadPoolExecutor(CALLERS) as pool:
            largest = max(pool.map(call, range(CALLERS)))
        elapsed = time.perf_counter() - start
        memory["after"] = _memory_in_use(options.device)
    calls = CALLERS * CALLS
    options.report(f"{calls / elapsed:,.0f} calls/s from {CALLERS} threads; largest difference {largest:.1e}")
    return {
        "contender": first.name,
        "compared_with": last.name,
        "callers": CALLERS,
        "calls_per_second": calls / elapsed,
        "largest_difference": largest,
        "memory": memory,
    }


def _memory_in_use(device: str) -> int:
    """Bytes in use on the GPU, by whomever; 0 on a processor."""
    if device == CPU:
        return 0
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return int(total - free)
