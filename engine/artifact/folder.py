"""Open an artifact folder: read its manifest, check its files, choose a graph."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modernrank.errors import ArtifactError
from modernrank.options import EXACT, PRECISIONS, PrecisionChoice, TruncationChoice
from modernrank.text.encoder import PairEncoder

from .hashing import sha256_of
from .manifest import FILE_NAME, Manifest, OnnxGraph, Tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Artifact:
    """A folder that ``modernrank export`` wrote."""

    folder: Path
    manifest: Manifest

    @staticmethod
    def open(folder: str | Path) -> Artifact:
        """Read the manifest of ``folder``. No other file is read yet.

        Raises:
            ArtifactError: the folder or its manifest does not exist or cannot be read.
        """
        path = Path(folder)
        if not path.is_dir():
            remedy = f"make it with `modernrank export CHECKPOINT --out {folder}`"
            if is_hub_id(str(folder)):
                remedy += f"; for a model of that name on the hub, call Reranker.from_checkpoint({str(folder)!r})"
            raise ArtifactError(f"there is no artifact folder {folder}; {remedy}", path=path)
        return Artifact(path, Manifest.read(path))

    def graph_to_run(self, precision: PrecisionChoice, dialects: Sequence[str]) -> OnnxGraph:
        """The graph in one of ``dialects`` to run; for ``"auto"`` the first of ``Manifest.auto_precisions``.

        Raises:
            ArtifactError: the artifact has no such graph.
        """
        precisions = self.manifest.auto_precisions() if precision == "auto" else [precision]
        return self._first_graph(precisions, dialects) or self._raise_missing(precision, dialects)

    def graph_to_build(self, precision: PrecisionChoice, dialects: Sequence[str]) -> OnnxGraph:
        """The graph in one of ``dialects`` to verify or to build from; for ``"auto"`` the most exact one.

        Raises:
            ArtifactError: the artifact has no such graph.
        """
        precisions = PRECISIONS[::-1] if precision == "auto" else (precision,)
        return self._first_graph(precisions, dialects) or self._raise_missing(precision, dialects)

    def _first_graph(self, precisions: Sequence[str], dialects: Sequence[str]) -> OnnxGraph | None:
        graphs = [graph for graph in self.manifest.graphs if graph.dialect in dialects]
        return next((graph for name in precisions for graph in graphs if graph.precision == name), None)

    def _raise_missing(self, precision: PrecisionChoice, dialects: Sequence[str]) -> OnnxGraph:
        raise self.missing_graph_error(precision, dialects)

    def missing_graph_error(self, precision: PrecisionChoice, dialects: Sequence[str] = ()) -> ArtifactError:
        """An error that lists the available graphs and why ``"auto"`` rejected each."""
        graphs = self.manifest.graphs
        available = ", ".join(f"{graph.precision} ({graph.dialect})" for graph in graphs) or "none"
        rejected = [graph.precision for graph in graphs if graph.precision not in self.manifest.auto_precisions()]
        remedy = "choose one of these, or export again"
        if precision == "auto" and rejected:
            reasons = "; ".join(f"{name}: {self.quality_of(name)}" for name in rejected)
            remedy = f"{reasons}. Pass precision={rejected[0]!r} if that is good enough, or export fp32 as well"
        suffix = f" and dialect {' or '.join(dialects)}" if dialects else ""
        return ArtifactError(
            f"{self.folder} has no graph in precision {precision!r}{suffix}; it has: {available}; {remedy}",
            path=self.folder,
            precision=precision,
            available=[(graph.precision, graph.dialect) for graph in graphs],
        )

    def quality_of(self, precision: str) -> str:
        """What is known of a precision's quality, in words."""
        if precision == EXACT:
            return "exact"
        unknown = "its quality was not measured, so precision 'auto' does not use it"
        return str(self.manifest.quality.get(precision, {}).get("summary", unknown))

    def check_files(self, names: Sequence[str], hashes: bool = True) -> None:
        """Compare the named files with the manifest: their sizes, and with ``hashes`` their SHA-256.

        Raises:
            ArtifactError: a file is missing, or has another size or another hash.
        """
        remedy = "copy the artifact again, or export it again"
        started = time.perf_counter()
        for name in names:
            expected, path = self.manifest.files[name], self.folder / name
            if not path.is_file():
                raise ArtifactError(f"{path} is missing; {remedy}", path=path)
            size = path.stat().st_size
            if size != expected.size:
                raise ArtifactError(
                    f"{path} has {size} bytes, but the manifest records {expected.size}: it was truncated or replaced; "
                    f"{remedy}",
                    path=path,
                )
            digest = sha256_of(path) if hashes else expected.sha256
            if digest != expected.sha256:
                raise ArtifactError(
                    f"{path} does not match its SHA-256 hash in the manifest (it is {digest[:12]}.., the manifest "
                    f"records {expected.sha256[:12]}..): it was damaged or changed; {remedy}",
                    path=path,
                )
        megabytes = sum(self.manifest.files[name].size for name in names) / 1e6
        checked = "sizes and hashes" if hashes else "sizes"
        logger.info("checked %s of %.0f MB in %.2f s", checked, megabytes, time.perf_counter() - started)

    @contextmanager
    def checking(self, names: Sequence[str], hashes: bool = True) -> Iterator[None]:
        """``check_files`` while the body runs, which may load the files.

        Before the body, all sizes are checked, and all hashes but those of weights, which nothing parses.

        Raises:
            ArtifactError: as ``check_files``, instead of what the body raises.
        """
        data = {graph.data for graph in self.manifest.graphs}
        weights = [name for name in names if name in data]
        self.check_files([name for name in names if name not in data], hashes)
        self.check_files(weights, hashes=False)
        if not hashes:
            yield
            return
        with ThreadPoolExecutor(1) as pool:
            check = pool.submit(self.check_files, weights)
            try:
                yield
            finally:
                check.result()

    def files_of(self, graph: OnnxGraph) -> list[str]:
        """The files that scoring with ``graph`` reads."""
        return [self.manifest.tokenizer.file, *graph.files]

    def encoder(self, max_length: int | None = None, truncation: TruncationChoice = "longest_first") -> PairEncoder:
        """The encoder of its tokenizer, for pairs of at most ``max_length`` tokens; by default the artifact's limit."""
        limit = self.manifest.max_length if max_length is None else max_length
        return pair_encoder(self.folder, self.manifest.tokenizer, limit, truncation)


def pair_encoder(
    folder: Path,
    tokenizer: Tokenizer,
    max_length: int,
    truncation: TruncationChoice = "longest_first",
    vocabulary: int | None = None,
) -> PairEncoder:
    """The encoder of a tokenizer's record. Scoring, calibration and verification all create their encoders here.

    With ``vocabulary`` a tokenizer with ids beyond so many rows is refused.
    """
    return PairEncoder(
        folder / tokenizer.file,
        max_length,
        truncation,
        tokenizer.truncation_side,
        vocabulary,
        tokenizer.splits_special_tokens,
        tokenizer.prompt,
    )


def is_artifact(folder: str | Path) -> bool:
    """Whether a path is the folder of an artifact, and not a checkpoint or a hub id. Nothing is read."""
    return (Path(folder) / FILE_NAME).is_file()


def is_hub_id(text: str) -> bool:
    """Whether a text has the form of a hub id.

    >>> is_hub_id("Alibaba-NLP/gte-reranker-modernbert-base"), is_hub_id("./folder"), is_hub_id("a/b/c")
    (True, False, False)
    """
    return re.fullmatch(r"[\w.-]+/[\w.-]+", text) is not None and not text.startswith(".")
