"""The models of a server: by name, replaced while requests go on, closed when the last of their requests has ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modernrank import AsyncReranker, Manifest, ModernRankError
from modernrank.artifact.folder import Artifact
from modernrank.errors import InputError

logger = logging.getLogger(__name__)


class LoadedModel:
    """A model that serves requests, and counts them."""

    def __init__(self, name: str, reranker: AsyncReranker, manifest: Manifest, loaded_at: float) -> None:
        self.name = name
        self.reranker = reranker
        self.manifest = manifest
        self.loaded_at = loaded_at
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextmanager
    def in_use(self) -> Iterator[AsyncReranker]:
        """A ``with`` block during which the model is not closed."""
        self._users += 1
        self._unused.clear()
        try:
            yield self.reranker
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def close(self) -> None:
        """Wait for the requests that use it, and free it."""
        await self._unused.wait()
        await self.reranker.close()

    async def abort(self) -> None:
        """End its requests with a ``ClosedError``, and free it."""
        await self.reranker.close(drain=False)


@dataclass(frozen=True)
class Source:
    """Where a model comes from: the folder of its artifact, and the arguments of ``Reranker.load``."""

    name: str
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    async def load(self) -> LoadedModel:
        """Load the artifact, and score made-up pairs, so that the first request is as fast as later ones.

        Raises:
            ArtifactError, ProviderError, InputError: as ``Reranker.load``.
        """
        reranker = AsyncReranker(self.folder, **self.options)
        await reranker.start()
        await asyncio.to_thread(reranker.reranker.warmup)
        return LoadedModel(self.name, reranker, reranker.reranker.manifest, time.time())


def name_of(folder: Path) -> str:
    """The name under which an artifact is served, if no other is given: that of its checkpoint.

    Raises:
        ArtifactError: it cannot be read.
    """
    return Artifact.open(folder).manifest.name


def sources_of(artifacts: Sequence[str], options: Mapping[str, Any]) -> list[Source]:
    """The models to serve, from ``FOLDER`` or ``NAME=FOLDER``.

    Raises:
        InputError: two have the same name.
        ArtifactError: an artifact cannot be read.
    """
    sources: dict[str, Source] = {}
    for artifact in artifacts:
        given, separator, folder = artifact.partition("=")
        if not separator or Path(artifact).is_dir():
            given, folder = "", artifact
        name = given or name_of(Path(folder))
        if name in sources:
            raise InputError(
                f"two artifacts are named {name!r}; give one another name: NAME={folder}",
                argument="artifact",
                value=name,
            )
        sources[name] = Source(name, Path(folder), options)
    return list(sources.values())


class Models:
    """The models that a server has, by name. The first one is the default.

    Args:
        sources: at least one.
        strict: whether a name that no model has is refused; otherwise the default answers, since many clients send
            the name of a hosted model.
    """

    def __init__(self, sources: Sequence[Source], strict: bool = False) -> None:
        self.sources = list(sources)
        self.strict = strict
        self._loaded: dict[str, LoadedModel] = {}
        self._replacing = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Whether all are loaded."""
        return len(self._loaded) == len(self.sources)

    @property
    def names(self) -> list[str]:
        """Of all models, loaded or not."""
        return [source.name for source in self.sources]

    @property
    def loaded(self) -> list[LoadedModel]:
        """Those that serve at this moment."""
        return list(self._loaded.values())

    async def load(self) -> None:
        """Load all, one after the other."""
        for source in self.sources:
            self._loaded[source.name] = await source.load()

    def find(self, name: str | None) -> LoadedModel:
        """The model for a request that gives this name, or None.

        Raises:
            UnknownModelError: there is none, and names are taken strictly.
        """
        if name is not None and (self.strict or name in self._loaded):
            return self.named(name)
        return self._loaded[self.sources[0].name]

    def named(self, name: str) -> LoadedModel:
        """The model of exactly this name.

        Raises:
            UnknownModelError: there is none.
        """
        if name not in self._loaded:
            raise UnknownModelError(
                f"there is no model {name[:100]!r}; the models are {', '.join(self.names)}",
                value=name,
                choices=self.names,
            )
        return self._loaded[name]

    async def reload(self) -> dict[str, ModernRankError | None]:
        """Load each artifact anew beside the model that serves, and switch; a model that cannot be loaded stays.

        Returns:
            By name, what went wrong, or None.

        Raises:
            ReloadingError: they are being loaded anew at this moment.
        """
        if self._replacing.locked():
            raise ReloadingError("the artifacts are being loaded anew already; ask again when that has ended")
        results: dict[str, ModernRankError | None] = {}
        async with self._replacing:
            for source in self.sources:
                try:
                    fresh = await source.load()
                except ModernRankError as error:
                    logger.error("cannot load %s anew, and keep the one that is loaded: %s", source.name, error)
                    results[source.name] = error
                    continue
                old, self._loaded[source.name] = self._loaded[source.name], fresh
                self._leave(old)
                results[source.name] = None
                logger.info("loaded %s anew", source.name)
        return results

    def _leave(self, model: LoadedModel) -> None:
        task = asyncio.create_task(model.close())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """End what still runs, and free all."""
        for model in self._loaded.values():
            await model.abort()
        await asyncio.gather(*self._leaving)


class UnknownModelError(ModernRankError):
    """No model has the name that a request gives. Details: ``value``, ``choices``."""

    http_status = 404


class ReloadingError(ModernRankError):
    """Artifacts are being loaded anew already."""

    http_status = 409
