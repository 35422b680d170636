"""Find a checkpoint: a folder, or a hub id with its revision; its files, their hashes, and its licence."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modernrank.artifact.folder import is_hub_id
from modernrank.artifact.hashing import sha256_of
from modernrank.errors import ArtifactError

from .modules import MODULES, SENTENCE_TRANSFORMERS, TRANSFORMER_SETTINGS, read_modules
from .weights import weight_files

DEFAULT_MODEL = "Alibaba-NLP/gte-reranker-modernbert-base"
DEFAULT_REVISION = "f7481e6055501a30fb19d090657df9ec1f79ab2c"

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
# Older versions of transformers wrote the special tokens into files of their own.
SPECIAL_TOKENS_MAP = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
# Settings that versions of modernrank did not record before they read them.
NOT_ALWAYS_RECORDED = (SENTENCE_TRANSFORMERS, MODULES, TRANSFORMER_SETTINGS, SPECIAL_TOKENS_MAP, ADDED_TOKENS)
# The files besides the weights that decide a score, as far as a checkpoint has them.
SETTINGS = ("config.json", TOKENIZER, TOKENIZER_CONFIG, *NOT_ALWAYS_RECORDED)
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors")
# A tokenizer of other forms, by the files that hold it, and the class of transformers that converts it.
CONVERTIBLE: Mapping[tuple[str, ...], str] = {
    ("tokenizer.model",): "AutoTokenizer",
    ("sentencepiece.bpe.model",): "XLMRobertaTokenizer",
    ("spiece.model",): "T5Tokenizer",
    ("vocab.txt",): "BertTokenizer",
    ("vocab.json", "merges.txt"): "RobertaTokenizer",
}
# The small files that are downloaded from the hub. Those of CONVERTIBLE are read by no one, but an error names them.
SMALL_FILES = (*SETTINGS, *itertools.chain(*CONVERTIBLE), "README.md")


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint's files are, and the hub id and revision that they came from, if any."""

    folder: Path
    model_id: str | None = None
    revision: str | None = None


def locate(checkpoint: str, revision: str | None = None, with_weights: bool = True) -> Origin:
    """The folder of ``checkpoint``, a local folder or a hub id such as ``"owner/name"``.

    A hub id is downloaded (only the files that an export reads, with a progress bar) or taken from the local cache;
    ``HF_HUB_OFFLINE=1`` allows only the cache. The default model has its revision pinned. Without ``with_weights`` no
    weights are downloaded.

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
    if not is_hub_id(checkpoint):
        raise ArtifactError(
            f"{checkpoint} is neither a folder nor a hub id such as {DEFAULT_MODEL}", checkpoint=checkpoint
        )
    if revision is None and checkpoint == DEFAULT_MODEL:
        revision = DEFAULT_REVISION
    names = ("config.json", *WEIGHTS) if with_weights else ("config.json",)
    folder = _download(checkpoint, revision, [*SMALL_FILES, *names])
    paths = [module.path for module in read_modules(folder) if module.path]
    if paths:
        _download(checkpoint, folder.name, [f"{path}/{name}" for path in paths for name in names])
    return Origin(folder, checkpoint, folder.name)  # the cache names a snapshot's folder by its commit


def _download(model_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    shown = revision or "main"
    try:
        return Path(snapshot_download(model_id, revision=revision, allow_patterns=list(patterns)))
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


def origin_hashes(origin: Origin) -> dict[str, str]:
    """SHA-256 of the checkpoint files that decide a score, by path in the checkpoint.

    Raises:
        ArtifactError: there are no weights, or ``modules.json`` cannot be used.
    """
    folder = origin.folder
    files = [folder / name for name in SETTINGS if (folder / name).is_file()] + weight_files(folder)
    for module in read_modules(folder)[1:]:
        files.append(module.config_file)
        files += weight_files(module.folder) if any(module.folder.glob("model*")) else []
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files if path.is_file()}


def license_of(folder: Path) -> str:
    """The ``license`` in the front matter of the model card, or ``"unknown"``."""
    card = folder / "README.md"
    if not card.is_file():
        return "unknown"
    front_matter = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    license_line = re.search(r"^license:\s*(\S+)", front_matter.group(1), re.MULTILINE) if front_matter else None
    return license_line.group(1).strip("\"'") if license_line else "unknown"
