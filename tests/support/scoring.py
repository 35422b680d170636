"""Scorers and rerankers of parts that the tests made themselves."""

from __future__ import annotations

from pathlib import Path

from modernrank import Reranker, Scorer
from modernrank.artifact.folder import Artifact
from modernrank.backends.base import Backend


def scorer_of(artifact: Artifact, backend: Backend, max_waiting_tokens: int | None = None) -> Scorer:
    """A scorer that runs ``backend`` with the labels and the padding of ``artifact``."""
    manifest = artifact.manifest
    return Scorer(backend, manifest.model, manifest.tokenizer.pad_token_id, max_waiting_tokens)


def reranker_of(folder: Path, backend: Backend, max_waiting_tokens: int | None = None) -> Reranker:
    """A reranker with the tokenizer of the artifact in ``folder``, which runs ``backend``."""
    artifact = Artifact.open(folder)
    return Reranker(artifact.manifest, artifact.encoder(), scorer_of(artifact, backend, max_waiting_tokens))
