"""The steps of a check on a GPU: what each learns, how long it takes, and for which providers it runs.

A step takes the check, a function that keeps its result so far, and a report; it returns its result, a JSON object.
``measurements`` in it are those of a ``Result``, ``parity`` holds a comparison with transformers by name, and ``wrong``
says what was found to be wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from modernrank.artifact.folder import Artifact
from modernrank.backends.registry import PROVIDERS
from modernrank.benchmarks.make_checkpoint import STYLES, Style, make_checkpoint
from modernrank.benchmarks.peers.peer_process import CPU
from modernrank.export import export_checkpoint
from modernrank.export.report import Report
from modernrank.export.verification.verify import verify_artifact
from modernrank.options import EXACT, GpuOptions, PrecisionName, ProviderName, check_choice, positive

from . import machine, runs, speed

Save = Callable[[dict[str, Any]], None]
MEMORY_LIMIT = 2**36  # bytes: more than any step takes
# Other spellings of a dialect. Which of them is faster, and whether it is as accurate, is for the GPU to say.
SPELLINGS = {"tensorrt": ("tensorrt-half-sums", "tensorrt-decomposed")}


@dataclass(frozen=True)
class GpuCheck:
    """What is checked.

    work:       the folder for checkpoints, artifacts and results of steps.
    like:       a folder with the target's config and tokenizer.
    provider:   what runs the artifacts.
    device:     torch's name of the device on which transformers and peers run.
    max_tokens: longer pairs are left out.
    rounds:     maximum number of samples of each contender.
    seconds:    maximum time for a workload.
    threads:    number of threads.
    peers:      names of the peers; empty for all that run on the device.

    Raises:
        InputError: the provider is unknown, or a number is not a whole number of at least 1.
    """

    work: Path
    like: Path
    provider: ProviderName = "tensorrt"
    device: str = "cuda"
    max_tokens: int = 8192
    rounds: int = 200
    seconds: float = 20.0
    threads: int = 4
    peers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("provider", self.provider, ProviderName)
        for name in ("max_tokens", "rounds", "threads"):
            positive(name, getattr(self, name))

    def arguments(self) -> list[str]:
        """The arguments of the command line that make this check."""
        values = {
            "--like": self.like,
            "--provider": self.provider,
            "--device": self.device,
            "--longest": self.max_tokens,
            "--rounds": self.rounds,
            "--seconds": self.seconds,
            "--threads": self.threads,
        }
        named = [word for name, value in values.items() for word in (name, str(value))]
        return [str(self.work), *named, *(word for peer in self.peers for word in ("--peer", peer))]

    @property
    def steps(self) -> Path:
        """The folder of the steps' results and logs."""
        return self.work / "steps"

    @property
    def dialect(self) -> str:
        """The dialect that the provider runs."""
        return PROVIDERS[self.provider].dialects[0]

    @property
    def precision(self) -> PrecisionName:
        """What is measured: float16 on GPUs."""
        return "fp16" if PROVIDERS[self.provider].needs_gpu else "fp32"

    @property
    def on_gpu(self) -> bool:
        """Whether torch runs on a GPU."""
        return self.device != CPU

    def checkpoint(self, style: Style) -> Path:
        """The folder of the checkpoint in a style."""
        return self.work / f"checkpoint-{style}"

    def artifact(self, style: Style, dialect: str = "") -> Path:
        """The folder of the artifact in a style, or of that in another dialect than the provider's first."""
        return self.work / f"artifact-{style}{dialect and f'-{dialect}'}"

    @property
    def spellings(self) -> tuple[str, ...]:
        """The other spellings of the dialect."""
        return SPELLINGS.get(self.dialect, ())


@dataclass(frozen=True)
class Step:
    """One step.

    name:    its name.
    minutes: about how long it takes on a data-centre GPU with 16 cores.
    learns:  what it shows.
    run:     does it.
    applies: whether a check has this step.
    """

    name: str
    minutes: float
    learns: str
    run: Callable[[GpuCheck, Save, Report], dict[str, Any]]
    applies: Callable[[GpuCheck], bool] = lambda check: True


def see_machine(check: GpuCheck, save: Save, report: Report) -> dict[str, Any]:
    """The GPU, its driver and libraries, and the rates of products and copies."""
    return machine.describe_gpu(check.device) if check.on_gpu else {}


def check_cuda(check: GpuCheck, save: Save, report: Report) -> dict[str, Any]:
    """The layer below TensorRT, with kernels of our own."""
    from .cuda_step import run_cuda_step

    result = run_cuda_step(0, report, save)
    failed = [record["name"] for record in result["checks"] if not record["passed"]]
    return result | ({"wrong": f"failed: {', '.join(failed)}"} if failed else {})


def prepare(style: Style, check: GpuCheck, save: Save, report: Report) -> dict[str, Any]:
    """Make the checkpoint, the artifact and the engine of a style."""
    checkpoint = check.checkpoint(style)
    if not checkpoint.is_dir():
        report(f"making the checkpoint {checkpoint}")
        make_checkpoint(checkpoint, check.like, style)
    precisions = list(dict.fromkeys((check.precision, EXACT)))
    _export(check, style, check.artifact(style), check.dialect, precisions, report)
    return {}


def prepare_spellings(check: GpuCheck, save: Save, report: Report) -> dict[str, Any]:
    """Make the artifacts and engines of the other spellings."""
    for style in STYLES:
        for dialect in check.spellings:
            _export(check, style, check.artifact(style, dialect), dialect, [check.precision], report)
    return {}


def _export(
    check: GpuCheck, style: Style, out: Path, dialect: str, precisions: list[PrecisionName], report: Report
) -> None:
    export_checkpoint(check.checkpoint(style), out, precision=precisions, graph=dialect, force=True, report=report)
    if PROVIDERS[check.provider].runs_engines:
        from modernrank.export.tensorrt import build_engine

        for precision in precisions:
            build_engine(out, library=check.provider, precision=precision, report=report)


def compare(style: Style, check: GpuCheck, save: Save, report: Report) -> dict[str, Any]:
    """Compare the logits of every precision with those of transformers in float32 on the device."""
    return _compare(check, style, {"": list(dict.fromkeys((check.precision, EXACT)))}, save, report)


def compare_spellings(check: GpuCheck, save: Save, report: Report) -> dict[str, Any]:
    """Compare the other spellings on the checkpoint with outliers, which is the hard one for float16."""
    return _compare(check, "outliers", {dialect: [check.precision] for dialect in check.spellings}, save, report)


def _compare(
    check: GpuCheck, style: Style, compared: dict[str, list[PrecisionName]], save: Save, report: Report
) -> dict[str, Any]:
    """Verify the precisions of each dialect; "" is the provider's first."""
    parity: dict[str, Any] = {}
    for dialect, precision in ((dialect, precision) for dialect, named in compared.items() for precision in named):
        found = verify_artifact(
            check.artifact(style, dialect),
            check.checkpoint(style),
            longest=check.max_tokens,
            precision=precision,
            provider=check.provider,
            transformers_device=check.device,
            report=report,
        )
        report(found.table())
        parity[" ".join(filter(None, (style, precision, dialect)))] = found.as_json()
        save({"parity": parity})
    wrong = [f"{name} {verdict['verdict']}" for name, verdict in parity.items() if not verdict["passed"]]
    return {"parity": parity, **({"wrong": "; ".join(wrong)} if wrong else {})}


def time_runs(check: GpuCheck, save: Save, report: Report) -> dict[str, Any]:
    """Time single batches on the device, without tokenising, in turns with torch."""
    return {"measurements": _as_fields(runs.measure(run_contenders(check), _run_options(check, save, report)))}


def profile_runs(check: GpuCheck, save: Save, report: Report) -> dict[str, Any]:
    """The time of each kernel in a run."""
    return runs.profile(run_contenders(check)[0], _run_options(check, save, report))


def call_from_threads(check: GpuCheck, save: Save, report: Report) -> dict[str, Any]:
    """Small lists from several threads, and the memory that they take."""
    return runs.call_from_threads(run_contenders(check), _run_options(check, save, report))


def race(check: GpuCheck, save: Save, report: Report) -> dict[str, Any]:
    """Score lists of pairs, in turns with torch, each contender in a process of its own."""
    artifact = Artifact.open(check.artifact("plain"))
    race = speed.Race(
        artifact=artifact,
        precision=check.precision,
        provider=check.provider,
        checkpoint=check.checkpoint("plain"),
        device=check.device,
        work=check.work,
        max_tokens=min(check.max_tokens, artifact.manifest.max_length),
        rounds=check.rounds,
        seconds=check.seconds,
        threads=check.threads,
        peers=check.peers,
    )
    measured: list[dict[str, Any]] = []
    for measurements in race.run(report):
        measured += _as_fields(measurements)
        save({"measurements": measured})
    return {"measurements": measured}


def run_contenders(check: GpuCheck) -> list[runs.Backed]:
    """The artifact in every way that the provider can run it, and its other spellings; the last one is the plainest."""
    options = PROVIDERS[check.provider].options
    ways: dict[str, GpuOptions] = {"": GpuOptions()}
    if "cuda_graphs" in options:
        ways = {"CUDA graphs": GpuOptions(cuda_graphs=True)}
    if "sleep_while_waiting" in options:
        ways["sleeping"] = GpuOptions(sleep_while_waiting=True)
    if "cuda_graphs" in options:
        ways["no CUDA graphs"] = GpuOptions(cuda_graphs=False)
    if check.provider == "cuda":
        ways["no graph for short rows"] = GpuOptions(cuda_graphs=False, memory_limit=MEMORY_LIMIT)
    first, *others = [
        runs.Backed(way, check.artifact("plain"), check.precision, check.provider, gpu) for way, gpu in ways.items()
    ]
    spelled = [
        runs.Backed(dialect, check.artifact("plain", dialect), check.precision, check.provider, GpuOptions())
        for dialect in check.spellings
    ]
    return [first, *spelled, *others]


def _run_options(check: GpuCheck, save: Save, report: Report) -> runs.Options:
    def keep(measurements: list[Any]) -> None:
        save({"measurements": _as_fields(measurements)})

    checkpoint = check.checkpoint("plain")
    return runs.Options(checkpoint, check.device, check.max_tokens, check.rounds, check.threads, keep, report)


def _as_fields(measurements: list[Any]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(measurement) for measurement in measurements]


def _on_gpu(check: GpuCheck) -> bool:
    return check.on_gpu


def _has_spellings(check: GpuCheck) -> bool:
    return bool(check.spellings)


STEPS: tuple[Step, ...] = (
    Step("machine", 1, "the GPU, its libraries, the rates of products and copies", see_machine),
    Step("cuda", 1, "copies, streams, captures and threads, below TensorRT", check_cuda, _on_gpu),
    *(Step(f"prepare-{style}", 3, f"export of the {style} checkpoint", partial(prepare, style)) for style in STYLES),
    *(Step(f"parity-{style}", 2, f"scores of the {style} checkpoint", partial(compare, style)) for style in STYLES),
    Step("prepare-spellings", 5, "export of other spellings", prepare_spellings, _has_spellings),
    Step("parity-spellings", 3, "scores of other spellings", compare_spellings, _has_spellings),
    Step("runs", 2, "time of single batches, beside torch", time_runs),
    Step("threads", 1, "several callers, and memory", call_from_threads),
    Step("speed", 5, "time of lists of pairs, beside torch", race),
    Step("profile", 1, "time of each kernel", profile_runs, _on_gpu),
)
