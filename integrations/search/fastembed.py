"""fastembed: artifacts under names of their own in ``TextCrossEncoder``, and so in Haystack's ``FastembedRanker``.

register(name, folder) ──▶ TextCrossEncoder(name) ──▶ rerank(query, documents), in this project's engine
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from modernrank import InputError, Reranker
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import FILE_NAME

from ..ranking import checked_model

try:
    from fastembed.common.model_description import BaseModelDescription, ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder
    from fastembed.rerank.cross_encoder.text_cross_encoder_base import TextCrossEncoderBase
except ModuleNotFoundError as error:
    raise ImportError(
        f"modernrank.integrations.search.fastembed requires {error.name}: pip install 'modernrank[cpu,fastembed]'"
    ) from error


@dataclass(frozen=True)
class _Registered:
    """What is known of a name: fastembed's description, and how to load the artifact."""

    description: BaseModelDescription
    folder: Path
    load_options: dict[str, Any]


def register(name: str, folder: str | Path, **load_options: Any) -> None:
    """Make an artifact a model of ``TextCrossEncoder`` in this process. Doing so again with the same folder and options
    changes nothing.

    Args:
        name: the name by which fastembed finds it; upper and lower case are equal.
        folder: of an artifact of a model of one label, which ``modernrank export`` wrote.
        load_options: further arguments of ``Reranker.load``, such as ``provider`` or ``precision``.

    Raises:
        InputError: fastembed has another model of this name, or the artifact's model has several labels.
        ArtifactError: ``folder`` is not an artifact.

    >>> from fastembed.rerank.cross_encoder import TextCrossEncoder
    >>> from modernrank.integrations.search.fastembed import register
    >>> register("my/reranker", TINY)                                            # an artifact's folder
    >>> encoder = TextCrossEncoder("my/reranker")
    >>> len(list(encoder.rerank("capital of France?", ["A baguette", "Paris"])))
    2
    """
    place = Path(folder).resolve()
    before = ModernRankCrossEncoder.registered.get(name.lower())
    if before is not None and (before.folder, before.load_options) == (place, load_options):
        return
    known = {model["model"].lower() for model in TextCrossEncoder.list_supported_models()}
    if name.lower() in known:
        raise InputError(
            f"fastembed has a model of the name {name!r}; choose another name", argument="name", value=name
        )
    manifest = Artifact.open(folder).manifest
    if len(manifest.model.labels) != 1:
        raise InputError(
            f"{folder} has {len(manifest.model.labels)} labels ({', '.join(manifest.model.labels)}), and fastembed "
            "expects one score; register a model of one label",
            labels=manifest.model.labels,
        )
    description = BaseModelDescription(
        model=name,
        sources=ModelSource(url=place.as_uri()),
        model_file=FILE_NAME,
        description=f"{manifest.name}, run by modernrank",
        license=manifest.license,
        size_in_GB=sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / 1e9,
    )
    ModernRankCrossEncoder.registered[name.lower()] = _Registered(description, place, load_options)
    if ModernRankCrossEncoder not in TextCrossEncoder.CROSS_ENCODER_REGISTRY:
        TextCrossEncoder.CROSS_ENCODER_REGISTRY.append(ModernRankCrossEncoder)


class ModernRankCrossEncoder(TextCrossEncoderBase):
    """What ``TextCrossEncoder`` makes of a registered name. Create it by ``TextCrossEncoder(name)``.

    Args:
        model_name: a registered name.
        cache_dir: accepted without effect; nothing is downloaded.
        threads: as in ``Reranker.load``; by default what ``register`` was given.
        lazy_load: load the artifact by the first call.
        providers: refused, as ``device_ids`` and ``cuda=True`` are: ``register`` takes a ``provider`` and ``devices``.
        options: of fastembed's own models; refused but for ``local_files_only``.

    Raises:
        InputError: an argument has no meaning for this engine.
        ArtifactError, ProviderError: as ``Reranker.load``.
    """

    registered: ClassVar[dict[str, _Registered]] = {}

    def __init__(
        self,
        model_name: str,
        cache_dir: str | None = None,
        threads: int | None = None,
        providers: Sequence[object] | None = None,
        cuda: object = False,
        device_ids: list[int] | None = None,
        lazy_load: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(model_name, cache_dir, threads, **options)
        given = {"providers": providers, "device_ids": device_ids, **options}
        refused = [name for name, value in given.items() if value is not None and name != "local_files_only"]
        if cuda is True or cuda == "cuda":
            refused.append("cuda")
        if refused:
            raise InputError(
                f"{', '.join(refused)} has no meaning for {model_name!r}, which modernrank runs; pass the options of "
                "Reranker.load, such as provider and devices, to register",
                argument=refused[0],
            )
        self._loading = threading.Lock()
        self._loaded: Reranker | None = None
        if not lazy_load:
            self._load()

    @classmethod
    def _list_supported_models(cls) -> list[BaseModelDescription]:
        return [known.description for known in cls.registered.values()]

    def rerank(
        self, query: str, documents: Iterable[str | None], batch_size: int = 64, parallel: int | None = None
    ) -> list[float]:
        """Score documents: logits, in their order, as fastembed's own models return.

        Args:
            query: the query.
            documents: texts; None is scored as an empty text.
            batch_size: accepted without effect; the engine plans its batches by tokens.
            parallel: must be None, because the engine uses all cores without further processes.

        Raises:
            InputError: a document is not a valid text, or ``parallel`` is given.
        """
        return self.rerank_pairs(((query, document) for document in documents), batch_size, parallel)

    def rerank_pairs(
        self, pairs: Iterable[tuple[str, str | None]], batch_size: int = 64, parallel: int | None = None
    ) -> list[float]:
        """Score pairs of query and document. Arguments, result and errors are those of ``rerank``."""
        if parallel is not None:
            raise InputError(
                f"parallel is {parallel}, and this engine starts no processes: it uses all cores as it is; leave "
                "parallel out",
                argument="parallel",
            )
        texts = ((query, "" if document is None else document) for query, document in pairs)
        scores: list[float] = self._load().score(texts).tolist()
        return scores

    def token_count(self, pairs: Iterable[tuple[str, str]], batch_size: int = 1024) -> int:
        """The number of tokens of all pairs, special tokens included, cut as ``rerank_pairs`` cuts them."""
        return int(self._load().count_tokens(pairs).sum())

    def _load(self) -> Reranker:
        with self._loading:  # one of several threads loads it, the others wait
            if self._loaded is None:
                known = self.registered[self.model_name.lower()]
                options = (
                    known.load_options if self.threads is None else {**known.load_options, "threads": self.threads}
                )
                self._loaded = Reranker.load(known.folder, **options)
                checked_model(self._loaded)
            return self._loaded
