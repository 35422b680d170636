"""Open an artifact folder: read its manifest, check its files, choose a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modernrank.errors import ArtifactError
from modernrank.text.encoder import PairEncoder

from .hashing import sha256_of
from .manifest import Graph, Manifest

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Artifact:
    """A folder that ``modernrank export`` wrote."""

    folder: Path
    manifest: Manifest

    @staticmethod
    def open(folder: str | Path) -> Artifact:
        """Read the manifest of ``folder``; its files are not touched yet.

        Raises:
            ArtifactError: no such folder, no manifest, or one that cannot be read.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ArtifactError(
                f"there is no artifact folder {folder}; make it with `modernrank export CHECKPOINT --out {folder}`"
            )
        return Artifact(folder, Manifest.read(folder))

    def graph(self, precision: str, provider: str) -> Graph:
        """The graph for ``provider`` in ``precision``; for ``"auto"`` in the first of ``Manifest.auto_precisions``.

        Raises:
            ArtifactError: the artifact has no such graph.
        """
        precisions = self.manifest.auto_precisions() if precision == "auto" else [precision]
        found = self._first(precisions, provider)
        if found is None:
            raise self.has_no(precision, provider)
        return found

    def written(self, precision: str, provider: str) -> Graph:
        """Like ``graph``, but for ``"auto"`` the first of PRECISIONS that was written, whatever its quality.

        Raises:
            ArtifactError: the artifact has no such graph.
        """
        found = self._first(PRECISIONS if precision == "auto" else [precision], provider)
        if found is None:
            raise self.has_no(precision, provider)
        return found

    def _first(self, precisions: Sequence[str], provider: str) -> Graph | None:
        graphs = [graph for graph in self.manifest.graphs if provider in graph.providers]
        return next((graph for name in precisions for graph in graphs if graph.precision == name), None)

    def has_no(self, precision: str, provider: str | None = None) -> ArtifactError:
        """The error that says what graphs there are, and of what ``"auto"`` might take why it does not."""
        graphs = self.manifest.graphs
        there = ", ".join(f"{g.precision} for {' and '.join(g.providers)}" for g in graphs) or "none"
        failed = [g.precision for g in graphs if g.precision not in self.manifest.auto_precisions()]
        remedy = "ask for one of these, or export again"
        if precision == "auto" and failed:
            reasons = "; ".join(f"{name}: {self.quality_of(name)}" for name in failed)
            remedy = f"{reasons}. Ask for precision={failed[0]!r} if that will do, or export fp32 beside it"
        on = f" for provider {provider!r}" if provider else ""
        return ArtifactError(f"{self.folder} has no graph in precision {precision!r}{on}; it has: {there}; {remedy}")

    def quality_of(self, precision: str) -> str:
        """What is known of a precision's quality, in words."""
        if precision == "fp32":
            return "exact"
        unknown = "its quality was not measured, so that precision 'auto' does not take it"
        return str(self.manifest.quality.get(precision, {}).get("summary", unknown))

    def check_files(self, names: list[str]) -> None:
        """Compare size and SHA-256 of the named files with the manifest.

        Raises:
            ArtifactError: one is missing, has another size or another hash.
        """
        for name in names:
            record, path = self.manifest.files[name], self.folder / name
            remedy = "copy the artifact again, or export it again"
            if not path.is_file():
                raise ArtifactError(f"{path} is missing; {remedy}")
            size = path.stat().st_size
            if size != record.size:
                raise ArtifactError(
                    f"{path} has {size} bytes, the manifest says {record.size}: it was truncated or replaced; {remedy}"
                )
            found = sha256_of(path)
            if found != record.sha256:
                raise ArtifactError(
                    f"{path} does not match its SHA-256 hash in the manifest (found {found[:12]}.., "
                    f"recorded {record.sha256[:12]}..): it was damaged or changed; {remedy}"
                )

    def files_of(self, graph: Graph) -> list[str]:
        """The files that scoring with ``graph`` reads."""
        return [self.manifest.tokenizer.file, graph.file, *([graph.data] if graph.data else [])]

    def encoder(self, max_length: int | None = None, truncation: str = "longest_first") -> PairEncoder:
        """The encoder of its tokenizer, for pairs of at most ``max_length`` tokens (its own limit)."""
        settings = self.manifest.tokenizer
        limit = min(settings.max_length, self.manifest.model.max_length) if max_length is None else max_length
        return PairEncoder(self.folder / settings.file, limit, truncation, settings.truncation_side)
