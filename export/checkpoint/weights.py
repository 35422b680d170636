"""Find a checkpoint, check that it is what its config says, and read its tensors one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import ml_dtypes  # noqa: F401 - teaches numpy bfloat16, in which safetensors then reads such weights
import numpy as np
from safetensors import SafetensorError, safe_open

from modernrank.arrays import FloatArray
from modernrank.artifact.hashing import sha256_of
from modernrank.artifact.json_records import read_json_object
from modernrank.errors import ArtifactError
from modernrank.export.models.modernbert.config import ModernBertConfig

DEFAULT_MODEL = "Alibaba-NLP/gte-reranker-modernbert-base"
DEFAULT_REVISION = "f7481e6055501a30fb19d090657df9ec1f79ab2c"

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
NEEDED = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    WEIGHTS,
    WEIGHTS_INDEX,
    "model-*.safetensors",
]
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin", "model.pt", "model.pth")


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint's files are, and the hub id and revision that they came from, if any."""

    folder: Path
    model_id: str | None = None
    revision: str | None = None


def locate(checkpoint: str, revision: str | None = None) -> Origin:
    """The folder of ``checkpoint``, a local folder or a hub id such as ``"owner/name"``.

    A hub id is downloaded (only the files that are needed, with a progress bar) or taken from the local cache;
    ``HF_HUB_OFFLINE=1`` allows only the cache. The default model has its revision pinned.

    Raises:
        ArtifactError: neither a folder nor a hub id, or the hub does not have it.
    """
    if Path(checkpoint).is_dir():
        if revision is not None:
            raise ArtifactError(f"{checkpoint} is a folder, which has no revision {revision}; leave --revision out")
        return Origin(Path(checkpoint))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", checkpoint) or checkpoint.startswith("."):
        raise ArtifactError(f"{checkpoint} is neither a folder nor a hub id such as {DEFAULT_MODEL}")
    if revision is None and checkpoint == DEFAULT_MODEL:
        revision = DEFAULT_REVISION
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(checkpoint, revision=revision, allow_patterns=NEEDED))
    except LocalEntryNotFoundError as error:
        raise ArtifactError(
            f"{checkpoint} at revision {revision or 'main'} is not in the local cache and the hub cannot be reached; "
            "connect, or give a folder that holds the checkpoint"
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise ArtifactError(
            f"the hub does not serve {checkpoint} at revision {revision or 'main'} ({error})"
        ) from error
    return Origin(folder, checkpoint, folder.name)  # the cache names a snapshot's folder by its commit


class Weights(Protocol):
    """Something that has the tensors of a model: a checkpoint, or a changed view of one."""

    def tensor(self, name: str) -> FloatArray:
        """One tensor as float32."""
        ...


class Checkpoint:
    """The tensors of a checkpoint, checked by name and shape when opened, read as float32 when asked for.

    Nothing but the tensor at hand is in memory. Use it as a context manager.
    """

    def __init__(self, folder: Path, config: ModernBertConfig) -> None:
        self.folder = folder
        self.files = weight_files(folder)
        self._reader_of: dict[str, Any] = {}
        with ExitStack() as opened:  # closed again if a check fails
            for file in self.files:
                try:
                    reader = opened.enter_context(safe_open(file, framework="numpy"))
                except (SafetensorError, OSError) as error:
                    raise ArtifactError(
                        f"{file} is not a readable safetensors file ({error}); download it again"
                    ) from error
                for name in reader.keys():  # noqa: SIM118 - not a dict
                    if name in self._reader_of:
                        raise ArtifactError(f"tensor {name} is in two files of {folder}; download it again")
                    self._reader_of[name] = reader
            self._check_shapes(expected_shapes(config))
            self.names = frozenset(self._reader_of)
            self._open = opened.pop_all()

    def tensor(self, name: str) -> FloatArray:
        """One tensor as float32, whatever type it is stored in.

        Raises:
            ArtifactError: it holds NaN or infinity.
        """
        values: FloatArray = self._reader_of[name].get_tensor(name).astype(np.float32)
        if not np.isfinite(values).all():
            raise ArtifactError(
                f"tensor {name} in {self.folder} holds NaN or infinite values; the checkpoint is damaged"
            )
        return values

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _check_shapes(self, expected: dict[str, tuple[int, ...]]) -> None:
        missing = sorted(expected.keys() - self._reader_of.keys())
        extra = sorted(self._reader_of.keys() - expected.keys())
        if missing or extra:
            found = [
                f"{what} {_first(names)}" for what, names in (("lacks", missing), ("has an unexpected", extra)) if names
            ]
            raise ArtifactError(
                f"the checkpoint in {self.folder} {' and '.join(found)}; "
                "its config.json describes another model than its weights"
            )
        for name, shape in expected.items():
            stored = self._reader_of[name].get_slice(name)
            if tuple(stored.get_shape()) != shape:
                raise ArtifactError(
                    f"tensor {name} in {self.folder} has shape {stored.get_shape()}, config.json asks for {list(shape)}"
                )
            if stored.get_dtype() not in ("F64", "F32", "F16", "BF16"):
                raise ArtifactError(
                    f"tensor {name} in {self.folder} is stored as {stored.get_dtype()}; expected a float type"
                )


def _first(names: list[str]) -> str:
    return f"tensor {names[0]}" + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: one, or those that the index of a sharded one names."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / WEIGHTS_INDEX
    if index.is_file():
        names = read_json_object(index).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(n, str) and Path(n).name == n for n in names.values()):
            raise ArtifactError(f"{index} has no weight_map of tensors to files beside it; download it again")
        files = sorted({folder / name for name in names.values()})
        for file in files:
            if not file.is_file():
                raise ArtifactError(f"{index} names {file.name}, which is missing; download it again")
        return files
    pickle = next((name for name in PICKLES if (folder / name).exists()), None)
    if pickle:
        raise ArtifactError(
            f"{folder} has only {pickle}, a pickle, which can run any code when it is read; "
            "convert it with `model.save_pretrained(folder)` of transformers, which writes model.safetensors"
        )
    raise ArtifactError(f"{folder} is not a checkpoint: it has no {WEIGHTS} and no {WEIGHTS_INDEX}")


def expected_shapes(config: ModernBertConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a ModernBertForSequenceClassification."""
    return dict(_expected(config))


def _expected(config: ModernBertConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, inner = config.hidden_size, config.intermediate_size

    def linear(name: str, outputs: int, inputs: int, bias: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (outputs, inputs)
        if bias:
            yield f"{name}.bias", (outputs,)

    def norm(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (width,)
        if config.norm_bias:
            yield f"{name}.bias", (width,)

    yield "model.embeddings.tok_embeddings.weight", (config.vocab_size, width)
    yield from norm("model.embeddings.norm")
    for i in range(len(config.layers)):
        layer = f"model.layers.{i}"
        if i > 0:  # the first layer's input is normalised already, by the embeddings' norm
            yield from norm(f"{layer}.attn_norm")
        yield from linear(f"{layer}.attn.Wqkv", 3 * width, width, config.attention_bias)
        yield from linear(f"{layer}.attn.Wo", width, width, config.attention_bias)
        yield from norm(f"{layer}.mlp_norm")
        yield from linear(f"{layer}.mlp.Wi", 2 * inner, width, config.mlp_bias)
        yield from linear(f"{layer}.mlp.Wo", width, inner, config.mlp_bias)
    yield from norm("model.final_norm")
    yield from linear("head.dense", width, width, config.classifier_bias)
    yield from norm("head.norm")
    yield from linear("classifier", len(config.labels), width, True)


def origin_hashes(origin: Origin, files: list[Path]) -> dict[str, str]:
    """SHA-256 of the checkpoint files that decide a score."""
    names = ["config.json", "tokenizer.json", "tokenizer_config.json"]
    there = [origin.folder / name for name in names if (origin.folder / name).is_file()]
    return {path.name: sha256_of(path) for path in [*there, *files]}


def license_of(folder: Path) -> str:
    """The ``license`` in the front matter of the model card, ``"unknown"`` where there is none."""
    card = folder / "README.md"
    if not card.is_file():
        return "unknown"
    front_matter = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    found = re.search(r"^license:\s*(\S+)", front_matter.group(1), re.MULTILINE) if front_matter else None
    return found.group(1).strip("\"'") if found else "unknown"
