"""The tensors of a checkpoint: checked against what its config describes, and read one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import ml_dtypes  # noqa: F401 - teaches numpy bfloat16, in which safetensors then reads such weights
import numpy as np
from safetensors import SafetensorError, safe_open

from modernrank.arrays import FloatArray
from modernrank.artifact.json_records import read_json_object
from modernrank.errors import ArtifactError

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin", "model.pt", "model.pth")
FLOAT_TYPES = ("F64", "F32", "F16", "BF16")  # as safetensors names them
# The prefixes that training wrappers add to every name. Each is also the wrapper's attribute that holds the model.
WRAPPERS = {"_orig_mod.": "torch.compile", "module.": "torch's DataParallel and DistributedDataParallel"}


class Weights(Protocol):
    """Something that has the tensors of a model: a checkpoint, or a changed view of one."""

    def tensor(self, name: str) -> FloatArray:
        """One tensor as float32."""
        ...

    def rows(self, name: str, start: int, stop: int) -> FloatArray:
        """Rows ``start`` to ``stop`` of a tensor as float32; only these are in memory, as far as that is possible."""
        ...


@dataclass(frozen=True)
class ExpectedTensors:
    """What a checkpoint must hold.

    architecture: the model's name in ``config.json``.
    shapes:       name and shape of every tensor.
    embeddings:   name of the table of embeddings, which has one row for each token id.
    folders:      the folders of the checkpoint that hold tensors, by what is put before the names in their files.
    """

    architecture: str
    shapes: Mapping[str, tuple[int, ...]]
    embeddings: str
    folders: Mapping[str, str] = field(default_factory=lambda: {"": ""})


@dataclass(frozen=True)
class _Stored:
    """A tensor in a file: the file, open, and the name of the tensor there."""

    file: Path
    reader: Any
    name: str


class Checkpoint:
    """The tensors of a checkpoint, checked by name, shape and type when it is opened.

    No more than one tensor is in memory, or some rows of one. Use it as a context manager.

    Raises:
        ArtifactError: a file cannot be read, or its tensors are not the expected ones.
    """

    def __init__(self, folder: Path, expected: ExpectedTensors) -> None:
        self.folder = folder
        self._stored: dict[str, _Stored] = {}
        with ExitStack() as opened:  # closed again if a check fails
            for prefix, part in expected.folders.items():
                for file in weight_files(folder / part):
                    self._add(file, prefix, opened)
            self._check_names(expected)
            self._check_shapes(expected)
            self.names = frozenset(self._stored)
            self._open = opened.pop_all()

    def _add(self, file: Path, prefix: str, opened: ExitStack) -> None:
        """Open a file, and know its tensors by their names with ``prefix`` before them, if they have not got it."""
        reader = opened.enter_context(_opened(file))
        for stored_name in reader.keys():  # noqa: SIM118 - not a dict
            name = stored_name if stored_name.startswith(prefix) else f"{prefix}{stored_name}"
            if name in self._stored:
                raise ArtifactError(
                    f"tensor {name} is in two files of {file.parent}; download it again", path=file.parent, tensor=name
                )
            self._stored[name] = _Stored(file, reader, stored_name)

    def tensor(self, name: str) -> FloatArray:
        """One tensor as float32, in whatever type it is stored.

        Raises:
            ArtifactError: it holds NaN or infinity.
        """
        stored = self._stored[name]
        return self._float32(name, stored.reader.get_tensor(stored.name))

    def rows(self, name: str, start: int, stop: int) -> FloatArray:
        """Rows ``start`` to ``stop`` of a tensor as float32. No others are read.

        The file is opened for them alone: what was read of a mapped file stays in memory as long as it is open.

        Raises:
            ArtifactError: they hold NaN or infinity.
        """
        stored = self._stored[name]
        with _opened(stored.file) as reader:
            return self._float32(name, reader.get_slice(stored.name)[start:stop])

    def _float32(self, name: str, stored: FloatArray) -> FloatArray:
        values: FloatArray = stored.astype(np.float32)
        if not np.isfinite(values).all():
            raise ArtifactError(
                f"tensor {name} in {self.folder} holds NaN or infinite values; the checkpoint is damaged",
                path=self.folder,
                tensor=name,
            )
        return values

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _check_names(self, expected: ExpectedTensors) -> None:
        missing = sorted(expected.shapes.keys() - self._stored.keys())
        extra = sorted(self._stored.keys() - expected.shapes.keys())
        if not missing and not extra:
            return
        raise ArtifactError(
            f"the checkpoint in {self.folder} {_explain_names(missing, extra, expected)}",
            path=self.folder,
            missing=missing,
            extra=extra,
        )

    def _check_shapes(self, expected: ExpectedTensors) -> None:
        for name, shape in expected.shapes.items():
            stored = self._stored[name].reader.get_slice(self._stored[name].name)
            stored_shape = tuple(stored.get_shape())
            if stored_shape != shape:
                is_padded = name == expected.embeddings and stored_shape[1:] == shape[1:] and stored_shape[0] > shape[0]
                explanation = (
                    f"the table of embeddings was padded. Set vocab_size to {stored_shape[0]} in config.json; "
                    "no score changes, because the tokenizer never uses the additional rows"
                    if is_padded
                    else "its config.json is that of another model"
                )
                raise ArtifactError(
                    f"tensor {name} in {self.folder} has shape {list(stored_shape)}, and config.json requires "
                    f"{list(shape)}: {explanation}",
                    path=self.folder,
                    tensor=name,
                    shape=stored_shape,
                    expected=shape,
                )
            if stored.get_dtype() not in FLOAT_TYPES:
                raise ArtifactError(
                    f"tensor {name} in {self.folder} is stored as {stored.get_dtype()}; it must be one of "
                    f"{', '.join(FLOAT_TYPES)}",
                    path=self.folder,
                    tensor=name,
                    type=stored.get_dtype(),
                )


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        opened = safe_open(file, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"{file} is not a readable safetensors file ({error}); download it again", path=file
        ) from error
    with opened as reader:
        yield reader


def _explain_names(missing: list[str], extra: list[str], expected: ExpectedTensors) -> str:
    """What is wrong with a checkpoint's names, and the remedy."""
    for prefix, wrapper in WRAPPERS.items():
        if extra and {name.removeprefix(prefix) for name in extra} == set(missing):
            return (
                f"has names that begin with {prefix!r}: it was saved from inside {wrapper}. Save the model itself, "
                f"`model.{prefix}save_pretrained(folder)`, or remove {prefix!r} from the names"
            )
    if not missing:
        return (
            f"has {_first(extra)}, which {expected.architecture} does not have. Remove it: load the checkpoint with "
            "`AutoModelForSequenceClassification.from_pretrained` and save it again with `save_pretrained`"
        )
    also = f" and has an unexpected {_first(extra)}" if extra else ""
    return f"lacks {_first(missing)}{also}; its config.json is that of another model"


def _first(names: list[str]) -> str:
    return f"tensor {names[0]}" + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: one, or those that the index of a sharded one names.

    Raises:
        ArtifactError: there is none, the index cannot be used, or only a pickle exists.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / WEIGHTS_INDEX
    if index.is_file():
        return _shards(folder, index)
    pickle = next((name for name in PICKLES if (folder / name).exists()), None)
    if pickle:
        raise ArtifactError(
            f"{folder} has only {pickle}, a pickle, and reading a pickle can run any code; convert it with "
            "`model.save_pretrained(folder)` of transformers, which writes model.safetensors",
            path=folder,
            file=pickle,
        )
    raise ArtifactError(f"{folder} is not a checkpoint: it has no {WEIGHTS} and no {WEIGHTS_INDEX}", path=folder)


def _shards(folder: Path, index: Path) -> list[Path]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not _are_file_names(weight_map.values()):
        raise ArtifactError(
            f"{index} has no weight_map from tensors to files of its own folder; download it again", path=index
        )
    files = sorted({folder / name for name in weight_map.values()})
    for file in files:
        if not file.is_file():
            raise ArtifactError(f"{index} names {file.name}, which is missing; download it again", path=file)
    return files


def _are_file_names(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) and Path(value).name == value for value in values)
