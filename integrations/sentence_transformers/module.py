"""``ModernRank``: the module of sentence-transformers that runs an artifact inside the real ``CrossEncoder``.

``modernrank export --with sentence-transformers`` names it in the artifact's ``modules.json``.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import FILE_NAME
from modernrank.errors import ArtifactError
from modernrank.options import TextLimits
from modernrank.reranker import Reranker

from .arguments import Settings, call_limits, check_unused, length_for
from .inputs import score_texts

try:
    import torch
    from sentence_transformers.base.modules import Dense, InputModule
except ImportError as error:
    raise ImportError(
        "this folder runs in CrossEncoder of sentence-transformers 6: pip install 'modernrank[sentence-transformers]'"
    ) from error

logger = logging.getLogger(__name__)

# What sentence-transformers writes itself when it saves a model.
ITS_FILES = ("modules.json", "config_sentence_transformers.json")


class ModernRank(InputModule, Dense):
    """An artifact as the only module of a ``CrossEncoder``.

    It is an ``InputModule``, because it reads texts, and a ``Dense``, because from that class ``CrossEncoder`` learns
    the number of labels; it has no weights of torch. The artifact is loaded once, and threads may share it.

    Args:
        folder: the artifact.
        settings: as the constructor of ``CrossEncoder`` was given them.

    Raises:
        ArtifactError, ProviderError, InputError: as ``Reranker.load``.
    """

    forward_kwargs: frozenset[str] = frozenset()

    def __init__(self, folder: str | Path, settings: Settings) -> None:
        torch.nn.Module.__init__(self)
        self.folder = Path(folder)
        self.settings = settings
        self.reranker = Reranker.load(self.folder, **settings.load)
        settings.check_labels(self.reranker)
        self.module_output_name = "scores"
        self.out_features = len(self.reranker.labels)
        self.max_seq_length = settings.max_length
        # Follows `to`, so that scores lie where the caller wants them.
        self.register_buffer("place", torch.empty(0), persistent=False)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        backend: str = "torch",
        **others: Any,
    ) -> Self:
        """Load the artifact in a folder, or in a repository of the hub, for ``CrossEncoder``.

        Args:
            model_name_or_path: the folder or the hub id.
            subfolder: of the artifact in it.
            token: for the hub, like the three that follow.
            cache_folder: where the hub's files are kept.
            revision: commit, tag or branch.
            local_files_only: whether only the cache is read.
            model_kwargs: arguments of ``Reranker.load``, such as ``provider`` and ``precision``.
            processor_kwargs: ``model_max_length`` and ``truncation_side``.
            config_kwargs: ``num_labels``.
            backend: ``"torch"`` or ``"onnx"``; both are modernrank.
            others: of newer versions, and ``trust_remote_code``.
        """
        check_unused(backend)
        folder = cls.load_dir_path(
            model_name_or_path,
            subfolder=subfolder,
            token=token,
            cache_folder=cache_folder,
            revision=revision,
            local_files_only=local_files_only,
        )
        if folder is None:
            raise ArtifactError(f"{model_name_or_path} has no folder {subfolder!r}", path=model_name_or_path)
        return cls(folder, Settings.read(model_kwargs, processor_kwargs, config_kwargs))

    @property
    def max_seq_length(self) -> int:
        """The maximum number of tokens in a pair. It can be lowered; None sets the model's limit."""
        return self._max_length

    @max_seq_length.setter
    def max_seq_length(self, tokens: int | None) -> None:
        self._max_length = length_for(tokens, self.reranker.manifest)

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        processing_kwargs: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> dict[str, Any]:
        """Texts and limits for ``forward``.

        Args:
            inputs: (query, document) pairs, or single texts.
            prompt: text to be put before each query; None for none, since ``CrossEncoder`` knows the default one.
            processing_kwargs: of the call.
            others: of newer versions.
        """
        own = TextLimits(self.max_seq_length, truncation_side=self.settings.truncation_side, prompt=prompt or "")
        return {"inputs": list(inputs), "limits": own | call_limits(processing_kwargs)}

    def forward(self, features: dict[str, Any], **others: Any) -> dict[str, Any]:
        """Add ``"scores"``, the logits as a float32 tensor ``[inputs, labels]``, to what ``preprocess`` returned.

        Raises:
            InputError: an input is neither a pair of strings nor a string.
        """
        inputs, limits = features["inputs"], features["limits"]
        if inputs and all(isinstance(text, str) for text in inputs):
            logits = score_texts(self.reranker, inputs, limits)
        else:
            logits = self.reranker.score(inputs, limits=limits)
        scores = torch.from_numpy(logits.reshape(-1, self.out_features))
        return {**features, "scores": scores.to(self.place.device)}

    def on_model_ready(self, model: Any) -> None:
        """Say so if a GPU of torch was chosen and the artifact runs on the processor."""
        provider = self.reranker.info.provider
        if provider == "cpu" and self.place.device.type != "cpu":
            logger.warning(
                "the device is %s, but modernrank runs this artifact on the processor and moves only scores there; "
                "model_kwargs={'provider': ..} chooses what runs",
                self.place.device,
            )

    def save(self, output_path: str, *args: Any, **others: Any) -> None:
        """Copy the artifact to the folder ``output_path``."""
        target, manifest = Path(output_path), self.reranker.manifest
        if target.resolve() == self.folder.resolve():
            return
        kept = {name: record for name, record in manifest.files.items() if name not in ITS_FILES}
        Artifact.open(self.folder).check_files(list(kept), hashes=False)
        for name in kept:
            shutil.copyfile(self.folder / name, target / name)
        (target / FILE_NAME).write_text(dataclasses.replace(manifest, files=kept).to_json(), encoding="utf-8")

    def get_config_dict(self) -> dict[str, Any]:
        """What its ``repr`` shows."""
        return {"artifact": self.reranker.manifest.name, "runs": self.reranker.scorer.description}

    def __reduce__(self) -> tuple[Any, ...]:
        """Each process, and each copy, loads the artifact for itself."""
        return type(self), (self.folder, dataclasses.replace(self.settings, max_length=self.max_seq_length))
