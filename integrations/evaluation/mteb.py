"""MTEB: a cross encoder for its reranking tasks, and for its retrieval tasks behind a first stage.

batches of queries and documents ──text──▶ Reranker.score ──▶ scores of a task
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modernrank import AsyncReranker, InputError, Reranker
from modernrank.arrays import FloatArray

from ..ranking import in_threads, open_model

try:
    from mteb.models import ModelMeta
except ModuleNotFoundError as error:
    raise ImportError(
        f"modernrank.integrations.evaluation.mteb requires {error.name}: pip install 'modernrank[cpu,mteb]'"
    ) from error

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import PromptType

# What MTEB may pass to every model, and what it means here.
KNOWN_OPTIONS = {"batch_size", "show_progress_bar"}


class ModernRankCrossEncoder:
    """Scores the pairs of MTEB's tasks: an implementation of its ``CrossEncoderProtocol``.

    Args:
        model_name: the folder of an artifact; the folder of a checkpoint or a hub id, which is exported into the cache;
            or a loaded ``Reranker`` or ``AsyncReranker``, which its owner closes.
        revision: commit, tag or branch of a hub id.
        device: ``"cpu"`` or ``"cuda"``, which chooses that provider; by default the best that can run.
        load_options: further arguments of ``Reranker.load`` or ``Reranker.from_checkpoint``.

    Raises:
        InputError: the model has several labels, or options are given for one that is loaded already.
        ArtifactError, ProviderError: as ``Reranker.load``.

    >>> from modernrank.integrations.evaluation.mteb import ModernRankCrossEncoder
    >>> model = ModernRankCrossEncoder(TINY, provider="cpu")                     # an artifact's folder
    >>> model.mteb_model_meta.name, model.mteb_model_meta.is_cross_encoder
    ('modernrank/tiny', True)
    """

    def __init__(
        self,
        model_name: str | Path | Reranker | AsyncReranker,
        revision: str | None = None,
        device: str | None = None,
        **load_options: Any,
    ) -> None:
        options = {**load_options, "revision": revision, "provider": _provider(device, load_options)}
        given = {name: value for name, value in options.items() if value is not None}
        self._model = open_model(model_name, given)

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What MTEB records of the model: precision, provider and length have places of their own in its cache."""
        reranker = in_threads(self._model)
        manifest = reranker.manifest
        hub_id = manifest.source.model_id
        facts = {
            "name": hub_id or f"modernrank/{manifest.name}",
            "revision": manifest.source.revision,
            "loader": None if hub_id is None else ModernRankCrossEncoder,
            "max_tokens": float(reranker.max_length),
            "framework": ["ONNX"],
            "model_type": ["cross-encoder"],
            "modalities": ["text"],
            "experiment_kwargs": {
                "runtime": "modernrank",
                "precision": reranker.info.precision,
                "provider": reranker.info.provider,
                "max_length": reranker.max_length,
            },
        }
        return ModelMeta.create_empty(overwrites=facts)

    def predict(
        self,
        inputs1: Iterable[dict[str, Any]],
        inputs2: Iterable[dict[str, Any]],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **encode_kwargs: Any,
    ) -> FloatArray:
        """Score pairs: logits, float32 ``[pairs]``.

        Args:
            inputs1: batches of queries, with the key ``"text"``.
            inputs2: batches of as many documents.
            task_metadata: not used, as the arguments after it; the prompt of the artifact, if it has one, is used.
            hf_split: not used.
            hf_subset: not used.
            prompt_type: not used.
            encode_kwargs: ``batch_size`` has no effect, because the engine plans its batches by tokens;
                ``show_progress_bar`` draws one.

        Raises:
            InputError: another option is given, or a text is not valid.
        """
        unknown = sorted(encode_kwargs.keys() - KNOWN_OPTIONS)
        if unknown:
            raise InputError(
                f"encode_kwargs has {', '.join(unknown)}, which a cross encoder does not have; it takes "
                f"{', '.join(sorted(KNOWN_OPTIONS))}",
                argument=unknown[0],
            )
        pairs = zip(_texts(inputs1), _texts(inputs2), strict=True)
        show = bool(encode_kwargs.get("show_progress_bar", False))
        return in_threads(self._model).score(pairs, show_progress=show)


def _texts(batches: Iterable[dict[str, Any]]) -> Iterator[str]:
    for batch in batches:
        yield from batch["text"]


def _provider(device: str | None, load_options: dict[str, Any]) -> str | None:
    """The provider for a device of torch."""
    if device is None:
        provider: str | None = load_options.get("provider")
        return provider
    kind = device.partition(":")[0]
    if kind not in {"cpu", "cuda"} or ":" in device or "provider" in load_options:
        raise InputError(
            f"device is {device!r}; give 'cpu' or 'cuda', or instead of it the provider and devices of Reranker.load",
            argument="device",
            value=device,
        )
    return kind
