"""LlamaIndex: a node postprocessor that ranks.

nodes of a retriever ──get_content(EMBED)──▶ Reranker.rank ──▶ the best nodes, with their scores
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from modernrank import ActivationChoice, AsyncReranker, InputError, LongDocuments, RankedDocument, Reranker

from .ranking import arank, checked_model, in_threads, load_model, rank

try:
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
except ImportError as error:
    raise ImportError(
        f"modernrank.integrations.llama_index requires llama-index-core 0.13 or newer ({error}): "
        "pip install 'modernrank[cpu,llama-index]'"
    ) from error

# Where LlamaIndex's own postprocessors keep the score of the retriever.
RETRIEVAL_SCORE = "retrieval_score"

dispatcher = get_dispatcher(__name__)


class ModernRankRerank(BaseNodePostprocessor):
    """Keeps the nodes that are most relevant to a query, best first.

    The text that is scored is the node's content for embeddings: its metadata, but for the excluded keys, and its text.
    The results are new ``NodeWithScore`` objects; those that were passed are not changed.

    Args:
        model: the folder of an artifact, a checkpoint's folder or hub id, which is exported once into the cache; or a
            ``Reranker``, or the ``AsyncReranker`` of a service, which asynchronous calls then share. The owner of an
            object closes it; a model that was loaded by its name stays until ``close``.
        top_n: maximum number of results.
        keep_retrieval_score: put the score that a node had into ``node.metadata["retrieval_score"]`` of a copy of it,
            hidden from embeddings, later rerankers and language models.
        activation: the scale of the scores, as in ``Reranker.score``; ``"model"`` is that of sentence-transformers.
        max_length: a lower maximum number of tokens in a pair of query and node.
        long_documents: ``"truncate"`` or ``"chunk"``, as in ``Reranker.rank``. Nodes that were cut are reported in a
            ``TruncationWarning``.
        load_options: further arguments of ``Reranker.load`` for a name, such as ``{"precision": "int8"}``.
        callback_manager: as of every postprocessor.

    Raises:
        InputError: the model is of another type, has several labels, or is loaded already and has ``load_options``.
        ArtifactError, ProviderError: as ``Reranker.load``.

    >>> from llama_index.core.schema import NodeWithScore, TextNode
    >>> from modernrank.integrations.llama_index import ModernRankRerank
    >>> nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in ("A baguette", "Paris")]
    >>> ranker = ModernRankRerank(str(TINY), top_n=1)                            # an artifact's folder
    >>> len(ranker.postprocess_nodes(nodes, query_str="capital of France?"))
    1
    >>> ranker.close()
    """

    model: str = Field(description="Folder of an artifact, or the name of a checkpoint or a loaded model.")
    top_n: int = Field(ge=1, description="Maximum number of nodes to return.")
    keep_retrieval_score: bool = Field(description="Whether metadata keeps the score of the retriever.")
    activation: ActivationChoice = Field(description="Scale of the scores.")
    max_length: int | None = Field(ge=1, description="Lower maximum number of tokens in a pair.")
    long_documents: LongDocuments = Field(description="What happens to nodes that exceed max_length.")
    load_options: dict[str, Any] = Field(description="Further arguments of Reranker.load.")
    _model: Reranker | AsyncReranker = PrivateAttr()
    _is_own: bool = PrivateAttr()

    def __init__(
        self,
        model: Reranker | AsyncReranker | str | Path,
        top_n: int = 2,
        keep_retrieval_score: bool = False,
        activation: ActivationChoice = "model",
        max_length: int | None = None,
        long_documents: LongDocuments = "truncate",
        load_options: dict[str, Any] | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        is_name = isinstance(model, str | Path)
        if load_options and not is_name:
            raise InputError(
                f"load_options ({', '.join(load_options)}) cannot be applied, because this model is loaded already; "
                "pass them to Reranker.load",
                argument="load_options",
            )
        super().__init__(
            model=str(model) if is_name else in_threads(checked_model(model)).manifest.name,
            top_n=top_n,
            keep_retrieval_score=keep_retrieval_score,
            activation=activation,
            max_length=max_length,
            long_documents=long_documents,
            load_options=load_options or {},
            callback_manager=callback_manager or CallbackManager(),
        )
        self._is_own = is_name
        self._model = model if not isinstance(model, str | Path) else load_model(model, self.load_options)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex serialises it."""
        return "ModernRankRerank"

    def close(self) -> None:
        """Free a model that was loaded by its name. Ranking afterwards is an error; closing twice is not."""
        if self._is_own:
            in_threads(self._model).close()

    def __getstate__(self) -> dict[str, Any]:
        if not self._is_own:
            raise TypeError(
                f"this {type(self).__name__} has a loaded {self.model!r}, which cannot be pickled; make it with the "
                "folder of an artifact"
            )
        state: dict[str, Any] = super().__getstate__()
        return state

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = self._begin(nodes, query_bundle)
        chosen: list[NodeWithScore] = []
        if nodes:
            with self._callback(nodes, query) as event:
                ranking = rank(self._model, query, _texts(nodes), self.top_n, **self._options)
                chosen = self._chosen(nodes, ranking)
                event.on_end(payload={EventPayload.NODES: chosen})
        dispatcher.event(ReRankEndEvent(nodes=chosen))
        return chosen

    @dispatcher.span  # the base class opens a span for the method above only, which it declares as abstract
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = self._begin(nodes, query_bundle)
        chosen: list[NodeWithScore] = []
        if nodes:
            with self._callback(nodes, query) as event:
                ranking = await arank(self._model, query, _texts(nodes), self.top_n, **self._options)
                chosen = self._chosen(nodes, ranking)
                event.on_end(payload={EventPayload.NODES: chosen})
        dispatcher.event(ReRankEndEvent(nodes=chosen))
        return chosen

    def _begin(self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None) -> str:
        """Tell observers that a ranking begins, and return its query."""
        dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=self.top_n, model_name=self.model))
        if query_bundle is None:
            raise ValueError("Missing query bundle: pass query_bundle or query_str to postprocess_nodes")
        query: str = query_bundle.query_str
        return query

    def _callback(self, nodes: list[NodeWithScore], query: str) -> AbstractContextManager[Any]:
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self.model,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: self.top_n,
        }
        event: AbstractContextManager[Any] = self.callback_manager.event(CBEventType.RERANKING, payload=payload)
        return event

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "activation": self.activation,
            "max_length": self.max_length,
            "long_documents": self.long_documents,
        }

    def _chosen(self, nodes: Sequence[NodeWithScore], ranking: Sequence[RankedDocument]) -> list[NodeWithScore]:
        chosen = [nodes[result.index].model_copy(update={"score": result.score}) for result in ranking]
        if self.keep_retrieval_score:
            for result, node in zip(ranking, chosen, strict=True):
                node.node = _with_retrieval_score(nodes[result.index])
        return chosen


def _texts(nodes: Sequence[NodeWithScore]) -> list[str]:
    return [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]


def _with_retrieval_score(scored: NodeWithScore) -> BaseNode:
    """A copy of the node, because the one of an index in memory would keep the score of this query for the next one."""
    node = scored.node
    return node.model_copy(
        update={
            "metadata": {**node.metadata, RETRIEVAL_SCORE: scored.score},
            "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, RETRIEVAL_SCORE],
            "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, RETRIEVAL_SCORE],
        }
    )
