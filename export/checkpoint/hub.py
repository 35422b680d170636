"""Find a checkpoint: a folder, or a hub id with its revision; its files, their hashes, and its licence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from modernrank.artifact.hashing import sha256_of
from modernrank.errors import ArtifactError

DEFAULT_MODEL = "Alibaba-NLP/gte-reranker-modernbert-base"
DEFAULT_REVISION = "f7481e6055501a30fb19d090657df9ec1f79ab2c"

# Settings of sentence-transformers itself. Many checkpoints have none.
SENTENCE_TRANSFORMERS = "config_sentence_transformers.json"
# The modules of a checkpoint that sentence-transformers saved: where it exists, SENTENCE_TRANSFORMERS comes first.
MODULES = "modules.json"
# The files besides the weights that decide a score, as far as a checkpoint has them.
SETTINGS = ("config.json", "tokenizer.json", "tokenizer_config.json", SENTENCE_TRANSFORMERS, MODULES)
# What is downloaded from the hub.
PATTERNS = [
    *SETTINGS,
    "special_tokens_map.json",
    "README.md",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
]


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint's files are, and the hub id and revision that they came from, if any."""

    folder: Path
    model_id: str | None = None
    revision: str | None = None


def locate(checkpoint: str, revision: str | None = None) -> Origin:
    """The folder of ``checkpoint``, a local folder or a hub id such as ``"owner/name"``.

    A hub id is downloaded (only the files that an export reads, with a progress bar) or taken from the local cache;
    ``HF_HUB_OFFLINE=1`` allows only the cache. The default model has its revision pinned.

    Raises:
        ArtifactError: it is neither a folder nor a hub id, or the hub does not have it.
    """
    if Path(checkpoint).is_dir():
        if revision is not None:
            raise ArtifactError(
                f"{checkpoint} is a folder, and a folder has no revisions; remove --revision {revision}",
                path=Path(checkpoint),
                revision=revision,
            )
        return Origin(Path(checkpoint))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", checkpoint) or checkpoint.startswith("."):
        raise ArtifactError(
            f"{checkpoint} is neither a folder nor a hub id such as {DEFAULT_MODEL}", checkpoint=checkpoint
        )
    if revision is None and checkpoint == DEFAULT_MODEL:
        revision = DEFAULT_REVISION
    folder = _download(checkpoint, revision)
    return Origin(folder, checkpoint, folder.name)  # the cache names a snapshot's folder by its commit


def _download(model_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    shown = revision or "main"
    try:
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=PATTERNS))
    except LocalEntryNotFoundError as error:
        raise ArtifactError(
            f"{model_id} at revision {shown} is not in the local cache and the hub cannot be reached; "
            "connect, or give a folder that holds the checkpoint",
            checkpoint=model_id,
            revision=shown,
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise ArtifactError(
            f"the hub does not serve {model_id} at revision {shown} ({error})", checkpoint=model_id, revision=shown
        ) from error


def origin_hashes(origin: Origin, weight_files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of the checkpoint files that decide a score, by file name."""
    settings = [origin.folder / name for name in SETTINGS if (origin.folder / name).is_file()]
    return {path.name: sha256_of(path) for path in [*settings, *weight_files]}


def license_of(folder: Path) -> str:
    """The ``license`` in the front matter of the model card, or ``"unknown"``."""
    card = folder / "README.md"
    if not card.is_file():
        return "unknown"
    front_matter = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    license_line = re.search(r"^license:\s*(\S+)", front_matter.group(1), re.MULTILINE) if front_matter else None
    return license_line.group(1).strip("\"'") if license_line else "unknown"
