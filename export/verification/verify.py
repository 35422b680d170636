"""``modernrank verify``: an artifact's logits against those of ``transformers``, over a grid of lengths and packings.

The lengths sit on and beside every edge of the graph: the window of the sliding layers (64 tokens), its blocks
(64, 128, 192, 256), the change from band masks to blocks (192), and long pairs. Each pair is scored alone, packed
in one row with others in every order, and in a batch of several rows of different fill.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from modernrank import LoadOptions, Scorer
from modernrank.arrays import FloatArray, IntArray
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import OnnxGraph
from modernrank.backends.base import Backend, BackendInfo
from modernrank.backends.open import open_backend
from modernrank.backends.registry import PROVIDERS
from modernrank.batching.batch import PlannedBatch, assemble, unpack
from modernrank.errors import ArtifactError, InputError
from modernrank.evaluation.agreement import Fidelity, measure
from modernrank.export.checkpoint.weights import Checkpoint, Origin, locate, origin_hashes
from modernrank.export.export import rewrite_manifest
from modernrank.export.models.modernbert.config import ModernBertConfig
from modernrank.export.models.modernbert.published_logits import Published, published_for
from modernrank.export.precision.calibration import held_out_pairs, read_calibration
from modernrank.export.precision.fp16_emulation import backend_on_processor
from modernrank.options import PrecisionChoice, ProviderName
from modernrank.text.encoder import PairEncoder

from .result import Parity, Row

LENGTHS = (
    3,
    16,
    63,
    64,
    65,
    66,
    127,
    128,
    129,
    130,
    191,
    192,
    193,
    255,
    256,
    257,
    512,
    1000,
    2048,
    4096,
    8192,
)  # tokens
# Longest pair that is tried beside others. The runtime never puts longer ones in a shared row or batch: their
# masks alone would take hundreds of megabytes.
LONGEST_SHARED = 2048
MINIMUM_LONGEST = 63  # three lengths of the grid: with fewer, pairs are not packed in every order
SEED = 20240

# Texts for the check of the tokenizer: languages, code, empty and odd strings.
TEXTS = (
    "what is the capital of China?",
    "",
    "Ein Satz mit Umlauten: äöüß, und ein zweiter.",
    "def quicksort(xs):\n    return xs if len(xs) < 2 else ...\t# tabs and spaces   ",
    "北京是中国的首都。",
    "e\u0301 combining, \u00e9 composed, emoji \U0001f600, NUL \0, zero width \u200b",
    "long " * 300,
)


def verify_artifact(
    folder: str | Path,
    against: str | Path,
    *,
    longest: int = max(LENGTHS),
    precision: PrecisionChoice = "auto",
    provider: ProviderName = "cpu",
    pairs_file: Path | None = None,
    report: Callable[[str], None] = lambda message: None,
) -> Parity:
    """Compare the artifact in ``folder`` with ``transformers`` on the checkpoint that it was made from.

    The result is written into the manifest, whether it passes or not.

    Args:
        folder: the artifact.
        against: the checkpoint, a folder or a hub id.
        longest: leave out longer pairs (tokens); 8,192 tokens take ``transformers`` a minute or more on a CPU.
        precision: which graph; for ``"auto"`` the most exact that was written for ``provider``.
        provider: what runs it. A float16 graph on ``"cpu"`` is emulated: float32 inside each node, float16 between.
        pairs_file: for fp16 and int8, JSON lines of pairs to measure the fidelity on, best several for each query; by
            default other pairs of the calibration set's texts.
        report: called with a line for each step.

    Raises:
        ArtifactError: ``against`` is not the checkpoint of this artifact, or the tokenizers disagree.
    """
    if longest < MINIMUM_LONGEST:
        raise InputError(f"longest is {longest}; it must be at least {MINIMUM_LONGEST}, or nothing is packed")
    artifact = Artifact.open(folder)
    graph = _graph(artifact, precision, provider)
    origin = locate(str(against), None if Path(against).is_dir() else artifact.manifest.source.revision)
    _check_same_checkpoint(artifact, origin)
    _check_tokenizer(artifact, origin.folder)
    artifact.check_files(artifact.files_of(graph))
    limit = min(longest, artifact.manifest.model.max_length)
    model, runtime = _transformers_model(origin.folder)
    pairs = _random_pairs(artifact, [length for length in LENGTHS if length <= limit])
    expected = _transformers_logits(model, pairs, report)
    with _session(artifact, graph, provider) as session:
        ran_on = describe(session.info, is_emulated(graph, provider))
        rows = list(_compare(session, graph, artifact.manifest.tokenizer.pad_token_id, pairs, expected, report))
        is_exact = graph.precision == "fp32"
        fidelity = None if is_exact else _fidelity(artifact, session, model, pairs_file, report)
        published = _published(artifact, session) if is_exact else ()
    parity = Parity(graph.precision, tuple(rows), float(expected.std()), published, runtime, ran_on, fidelity)
    recorded = {**artifact.manifest.parity, graph.precision: parity.as_json()}
    rewrite_manifest(artifact.folder, replace(artifact.manifest, parity=recorded))
    return parity


def _graph(artifact: Artifact, precision: PrecisionChoice, provider: str) -> OnnxGraph:
    """The graph to compare; on the processor also a float16 one."""
    halves = [graph for graph in artifact.manifest.graphs if is_emulated(graph, provider)]
    on_processor = any(graph.dialect in PROVIDERS[provider].dialects for graph in artifact.manifest.graphs)
    if halves and (precision == "fp16" or (precision == "auto" and not on_processor)):
        return halves[0]
    return artifact.graph_to_build(precision, PROVIDERS[provider].dialects)


def is_emulated(graph: OnnxGraph, provider: str) -> bool:
    """Whether a graph has no kernels of its own type on a provider."""
    return provider == "cpu" and graph.precision == "fp16"


@contextmanager
def _session(artifact: Artifact, graph: OnnxGraph, provider: ProviderName) -> Iterator[Backend]:
    """The session that is compared."""
    if provider != "cpu":
        with closing(open_backend(artifact, LoadOptions(provider, cast(PrecisionChoice, graph.precision)))) as session:
            yield session
        return
    with backend_on_processor(artifact.folder, graph, len(artifact.manifest.model.labels)) as session:
        yield session


def describe(info: BackendInfo, emulated: bool) -> str:
    """What ran, for the record."""
    where = ", ".join(info.devices) or info.provider
    return f"{info.runtime} on {where}{', float16 emulated' if emulated else ''}"


def _check_same_checkpoint(artifact: Artifact, origin: Origin) -> None:
    config = ModernBertConfig.read(origin.folder / "config.json")
    with Checkpoint(origin.folder, config) as weights:
        found = origin_hashes(origin, weights.files)
    recorded = artifact.manifest.source.files
    different = sorted(name for name in {*found, *recorded} if found.get(name) != recorded.get(name))
    if different:
        raise ArtifactError(
            f"{artifact.folder} was not made from {origin.folder}: {', '.join(different)} differ; "
            "give the checkpoint that it was exported from, or export again"
        )


def _check_tokenizer(artifact: Artifact, checkpoint: Path) -> None:
    """Every pair of TEXTS must become the same ids as in transformers, whole and cut."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(checkpoint)
    settings = artifact.manifest.tokenizer
    pairs = [(query, document) for query in TEXTS for document in TEXTS]
    for max_length in (8, 64, artifact.manifest.model.max_length):
        ours = PairEncoder(artifact.folder / settings.file, max_length, truncation_side=settings.truncation_side)
        # A list of pairs, as rerankers are called: given two strings, transformers takes an empty second one for none.
        expected = theirs(pairs, truncation=True, max_length=max_length)["input_ids"]
        for pair, encoded, ids in zip(pairs, ours.encode(pairs), expected, strict=True):
            if encoded.ids.tolist() != ids:
                raise ArtifactError(
                    f"transformers encodes {pair!r} otherwise at max_length {max_length}; the scores would differ"
                )


def _random_pairs(artifact: Artifact, lengths: Sequence[int]) -> list[IntArray]:
    """Token ids of one pair of each length: special tokens around random text."""
    rng = np.random.default_rng(SEED)
    encoder = PairEncoder(artifact.folder / artifact.manifest.tokenizer.file, max(lengths))
    empty = encoder.encode([("", "")])[0].ids  # [CLS] [SEP] [SEP]
    low, high = artifact.manifest.model.vocabulary // 10, artifact.manifest.model.vocabulary // 2
    pairs = []
    for length in lengths:
        text = rng.integers(low, high, max(0, length - len(empty)))
        half = len(text) // 2
        pairs.append(np.concatenate([empty[:1], text[:half], empty[1:2], text[half:], empty[2:]]))
    return pairs


def _transformers_model(checkpoint: Path) -> tuple[Any, str]:
    """The model in float32, and the versions that run it."""
    import torch
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    return model, f"transformers {transformers.__version__}, torch {torch.__version__}, float32"


def _transformers_logits(model: Any, pairs: list[IntArray], report: Callable[[str], None]) -> FloatArray:
    """Float32 logits ``[pairs, labels]``, each pair alone."""
    import torch

    logits = []
    with torch.inference_mode():
        for pair in pairs:
            report(f"transformers: a pair of {len(pair):,} tokens")
            logits.append(model(input_ids=torch.from_numpy(pair[None])).logits[0].float().numpy())
    return np.stack(logits)


def _fidelity(
    artifact: Artifact, session: Backend, model: Any, pairs_file: Path | None, report: Callable[[str], None]
) -> Fidelity:
    """Scores and rankings of text pairs; of the first label where there are several."""
    texts = read_calibration(pairs_file).pairs if pairs_file else held_out_pairs()
    encoder = artifact.encoder()
    report(f"fidelity on {len(texts)} pairs")
    exact = _transformers_logits(model, [pair.ids for pair in encoder.encode(texts)], lambda message: None)
    found = _scorer(artifact, session).score([pair.ids for pair in encoder.encode(texts)])
    return measure(texts, exact[:, 0], found[:, 0])


def _compare(
    session: Backend,
    graph: OnnxGraph,
    pad_token_id: int,
    pairs: list[IntArray],
    expected: FloatArray,
    report: Callable[[str], None],
) -> Iterator[Row]:
    lengths = [len(pair) for pair in pairs]
    for arrangement, runs in _arrangements(lengths, graph.layout == "packed"):
        report(f"modernrank: {arrangement}")
        differences: dict[int, list[FloatArray]] = {}
        for run in runs:
            found = np.zeros_like(expected)
            unpack(run, session.run(assemble(run, pairs, pad_token_id)), out=found)
            for pair in itertools.chain(*run.rows):
                differences.setdefault(pair, []).append(np.abs(found[pair] - expected[pair]))
        for pair in sorted(differences):
            every = np.stack(differences[pair])
            yield Row(lengths[pair], arrangement, float(every.max()), float(np.sqrt(np.mean(every**2))))


def _arrangements(lengths: list[int], packs: bool) -> Iterator[tuple[str, list[PlannedBatch]]]:
    """The runs of each arrangement. ``packs``: the graph takes several pairs in a row."""
    yield "alone", [PlannedBatch(((pair,),), length) for pair, length in enumerate(lengths)]
    shared = [pair for pair, length in enumerate(lengths) if length <= LONGEST_SHARED]
    if packs:
        triples = [tuple(shared[(i + step) % len(shared)] for step in (0, 1, 2)) for i in range(len(shared))]
        orders = {
            order for triple in triples for order in itertools.permutations(triple) if len(set(order)) == len(order)
        }
        yield (
            "packed",
            [PlannedBatch((order,), sum(lengths[pair] for pair in order) + 5) for order in sorted(orders)],
        )  # 5 of padding
    batches = np.array_split(shared, max(1, len(shared) // 5))  # five or more rows each
    yield (
        "rows",
        [PlannedBatch(tuple((int(pair),) for pair in batch), max(lengths[p] for p in batch)) for batch in batches],
    )


def _scorer(artifact: Artifact, session: Backend) -> Scorer:
    return Scorer(session, artifact.manifest.model, artifact.manifest.tokenizer.pad_token_id)


def _published(artifact: Artifact, session: Backend) -> tuple[tuple[str, float, float], ...]:
    scorer, encoder = _scorer(artifact, session), artifact.encoder()

    def difference(entry: Published) -> float:
        logits = scorer.score([pair.ids for pair in encoder.encode(entry.pairs)])[:, 0]
        return float(np.abs(logits - np.array(entry.logits)).max())

    return tuple(
        (entry.source, difference(entry), entry.tolerance) for entry in published_for(artifact.manifest.source)
    )
