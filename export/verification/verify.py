"""``modernrank verify``: an artifact's logits against those of its reference, over a grid of lengths and packings.

Each pair is scored alone, packed in one row with others in every order, and in a batch of several rows of different
fill. ``inputs.py`` explains the lengths.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from modernrank import LoadOptions, Scorer
from modernrank.arrays import FloatArray, IntArray
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import Manifest, OnnxGraph
from modernrank.backends.base import Backend, BackendInfo
from modernrank.backends.open import open_backend
from modernrank.backends.profiles import ProfileShapes
from modernrank.backends.registry import PROVIDERS
from modernrank.batching.batch import assemble, unpack
from modernrank.errors import ArtifactError, InputError, counted
from modernrank.evaluation.agreement import Fidelity, measure
from modernrank.export.checkpoint.hub import NOT_ALWAYS_RECORDED, Origin, locate, origin_hashes
from modernrank.export.models.published_logits import Published, published_for
from modernrank.export.output_folder import update_manifest
from modernrank.export.precision.calibration import held_out_pairs, read_calibration
from modernrank.export.precision.fp16_emulation import backend_on_processor
from modernrank.export.precision.registry import PRECISIONS
from modernrank.export.report import Report, silent
from modernrank.options import PrecisionChoice, PrecisionName, ProviderName, check_choice

from .inputs import LENGTHS, MINIMUM_LONGEST, arrangements, random_pairs
from .reference import ReferenceModel, load_reference
from .result import Parity, Row
from .transformers_model import check_tokenizer

logger = logging.getLogger(__name__)


def verify_artifact(
    folder: str | Path,
    against: str | Path,
    *,
    longest: int = max(LENGTHS),
    precision: PrecisionChoice = "auto",
    provider: ProviderName = "cpu",
    transformers_device: str = "cpu",
    pairs_file: Path | None = None,
    record: bool = True,
    report: Report = silent,
) -> Parity:
    """Compare the artifact in ``folder`` with the library that loads the checkpoint from which it was exported.

    That is ``transformers``, or sentence-transformers for a modular reranker.

    Args:
        folder: the artifact.
        against: the checkpoint, a folder or a hub id.
        longest: maximum number of tokens in a pair, at least 63; 8,192 tokens take ``transformers`` a minute or more on
            a CPU.
        precision: which graph; for ``"auto"`` the most exact one for ``provider``.
        provider: what runs it. A float16 graph on ``"cpu"`` is emulated: float32 inside each node, float16 between.
        transformers_device: torch's name of the device on which ``transformers`` runs: ``"cuda"``. It computes in
            float32, without TF32.
        pairs_file: for fp16 and int8, JSON lines of pairs to measure the fidelity on, preferably several for each
            query; by default other pairs of the calibration set's texts.
        record: write the result into the manifest, whether it passed or not. With False, ``record_parity`` can do it
            later.
        report: called with a line for each step.

    Raises:
        InputError: an argument is not allowed.
        ArtifactError: ``against`` is not the checkpoint of this artifact, the tokenizers disagree, or the manifest
            cannot be written.
    """
    check_choice("provider", provider, ProviderName)
    check_choice("precision", precision, PrecisionChoice)
    if longest < MINIMUM_LONGEST:
        raise InputError(
            f"longest is {longest}; the minimum is {MINIMUM_LONGEST}, below which pairs are not packed in every order",
            argument="longest",
            value=longest,
            minimum=MINIMUM_LONGEST,
        )
    artifact = Artifact.open(folder)
    graph = choose_graph(artifact, precision, provider)
    origin = locate(str(against), None if Path(against).is_dir() else artifact.manifest.source.revision)
    check_same_checkpoint(artifact, origin)
    check_tokenizer(artifact, origin.folder, report)
    artifact.check_files(artifact.files_of(graph))
    model = load_reference(origin.folder, transformers_device)
    with _opened(artifact, graph, provider) as backend:
        known = published_for(artifact.manifest.source)
        parity = _Verification(artifact, graph, backend, model, known, report).run(longest, pairs_file, provider)
    logger.info("%s %s: %s", artifact.folder, graph.precision, parity.verdict())
    if record:
        record_parity(folder, parity)
    return parity


def record_parity(folder: str | Path, parity: Parity) -> Manifest:
    """Write the result of a verification into the manifest of the artifact in ``folder``.

    Returns:
        The new manifest.

    Raises:
        ArtifactError: the manifest cannot be read or written, or the graph is no longer the verified one.
    """

    def change(manifest: Manifest) -> Manifest:
        recorded = {name: entry.sha256 for name, entry in manifest.files.items()}
        changed = sorted(name for name, digest in parity.files.items() if recorded.get(name) != digest)
        if changed:
            raise ArtifactError(
                f"{folder} was exported again during its verification: {', '.join(changed)} changed; verify it again",
                path=Path(folder),
                files=changed,
            )
        return replace(manifest, parity={**manifest.parity, parity.precision: parity.as_json()})

    return update_manifest(Path(folder), change)


def choose_graph(artifact: Artifact, precision: PrecisionChoice, provider: ProviderName) -> OnnxGraph:
    """The graph to compare; on the processor this may be a float16 one.

    Raises:
        ArtifactError: the artifact has no such graph.
    """
    emulated = [graph for graph in artifact.manifest.graphs if is_emulated(graph, provider)]
    dialects = PROVIDERS[provider].dialects
    has_native = any(graph.dialect in dialects for graph in artifact.manifest.graphs)
    if emulated and (precision == "fp16" or (precision == "auto" and not has_native)):
        return emulated[0]
    return artifact.graph_to_build(precision, dialects)


def is_emulated(graph: OnnxGraph, provider: ProviderName) -> bool:
    """Whether a provider has no kernels of the graph's own type."""
    return provider == "cpu" and graph.precision == "fp16"


@contextmanager
def _opened(artifact: Artifact, graph: OnnxGraph, provider: ProviderName) -> Iterator[Backend]:
    if provider != "cpu":
        options = LoadOptions(provider, cast(PrecisionName, graph.precision))
        with closing(open_backend(artifact, options)) as backend:
            yield backend
        return
    with backend_on_processor(artifact.folder, graph, len(artifact.manifest.model.labels)) as backend:
        yield backend


def describe(info: BackendInfo, emulated: bool) -> str:
    """What ran, for the record."""
    devices = ", ".join(info.devices) or info.provider
    return f"{info.runtime} on {devices}{', float16 emulated' if emulated else ''}"


def check_same_checkpoint(artifact: Artifact, origin: Origin) -> None:
    """Refuse a checkpoint whose files are not those from which the artifact was exported.

    Raises:
        ArtifactError: it names the files that differ.
    """
    hashes = origin_hashes(origin)
    recorded = artifact.manifest.source.files
    for name in NOT_ALWAYS_RECORDED:
        if name not in recorded:  # versions that did not read it did not record it either
            hashes.pop(name, None)
    different = sorted(name for name in {*hashes, *recorded} if hashes.get(name) != recorded.get(name))
    if different:
        raise ArtifactError(
            f"{artifact.folder} was not exported from {origin.folder}: {', '.join(different)} differ; "
            "give the checkpoint from which it was exported, or export again",
            path=artifact.folder,
            checkpoint=origin.folder,
            files=different,
        )


@dataclass(frozen=True)
class _Verification:
    """The two sides that are compared."""

    artifact: Artifact
    graph: OnnxGraph
    backend: Backend
    model: ReferenceModel
    known: Sequence[Published]
    report: Report

    @property
    def profiles(self) -> ProfileShapes | None:
        """The shapes that the backend accepts; None if it accepts all."""
        shapes = self.backend.policy.packing.shape
        return shapes if isinstance(shapes, ProfileShapes) else None

    @property
    def widest(self) -> int:
        """The maximum number of tokens of a row."""
        limit = self.artifact.manifest.model.max_length
        return limit if self.profiles is None else max(profile.tokens[2] for profile in self.profiles.profiles)

    def run(self, longest: int, pairs_file: Path | None, provider: ProviderName) -> Parity:
        limit = min(longest, self.artifact.manifest.model.max_length)
        if limit > self.widest:
            raise InputError(
                f"longest is {limit}, and {provider} accepts rows of at most {self.widest} tokens; give longest="
                f"{self.widest}, or build an engine with a longer profile",
                argument="longest",
                value=limit,
                maximum=self.widest,
            )
        pairs = random_pairs(self.artifact, [length for length in LENGTHS if length <= limit])
        expected = self.model.logits(pairs, self.report)
        is_exact = PRECISIONS[self.graph.precision].is_exact
        return Parity(
            precision=self.graph.precision,
            rows=tuple(self.compare(pairs, expected)),
            scores_std=float(expected.std()),
            published=self.published() if is_exact else (),
            against=self.model.description,
            ran_on=describe(self.backend.info, is_emulated(self.graph, provider)),
            fidelity=None if is_exact else self.fidelity(pairs_file),
            files={name: self.artifact.manifest.files[name].sha256 for name in self.graph.files},
        )

    def compare(self, pairs: list[IntArray], expected: FloatArray) -> Iterator[Row]:
        """The differences from the ``expected`` logits ``[pairs, labels]`` by length, in each arrangement."""
        lengths = [len(pair) for pair in pairs]
        pad_token_id = self.artifact.manifest.tokenizer.pad_token_id
        most_rows = self.profiles.most_rows if self.profiles is not None else None
        for arrangement, batches in arrangements(lengths, self.graph.layout == "packed", self.widest, most_rows):
            self.report(f"modernrank: {arrangement}")
            differences: dict[int, list[FloatArray]] = {}
            for batch in batches:
                logits = np.zeros_like(expected)
                unpack(batch, self.backend.run(assemble(batch, pairs, pad_token_id)), out=logits)
                for pair in itertools.chain(*batch.rows):
                    differences.setdefault(pair, []).append(np.abs(logits[pair] - expected[pair]))
            for pair in sorted(differences):
                stacked = np.stack(differences[pair])
                yield Row(lengths[pair], arrangement, float(stacked.max()), float(np.sqrt(np.mean(stacked**2))))

    def fidelity(self, pairs_file: Path | None) -> Fidelity:
        """Agreement of scores and rankings on text pairs, by the first label."""
        texts = read_calibration(pairs_file).pairs if pairs_file else held_out_pairs()
        self.report(f"fidelity on {counted(len(texts), 'pair')}")
        ids = [pair.ids for pair in self.artifact.encoder().encode(texts)]
        exact = self.model.logits(ids)
        return measure(texts, exact[:, 0], self.scorer().score(ids)[:, 0])

    def published(self) -> tuple[tuple[str, float, float], ...]:
        """Source, largest difference and tolerance of each published result for this model."""
        scorer, encoder = self.scorer(), self.artifact.encoder()

        def difference(entry: Published) -> float:
            logits = scorer.score([pair.ids for pair in encoder.encode(entry.pairs)])[:, 0]
            return float(np.abs(logits - np.array(entry.logits)).max())

        return tuple((entry.source, difference(entry), entry.tolerance) for entry in self.known)

    def scorer(self) -> Scorer:
        manifest = self.artifact.manifest
        return Scorer(self.backend, manifest.model, manifest.tokenizer.pad_token_id)
