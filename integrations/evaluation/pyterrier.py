"""PyTerrier: a transformer that reranks, for pipelines and experiments.

frame of qid, query, docno, text ──▶ Reranker.score ──▶ the same frame with new score and rank
"""

from __future__ import annotations

from modernrank import ActivationChoice, AsyncReranker, Reranker

from ..ranking import checked_model, in_threads

try:
    import pandas as pd
    import pyterrier as pt
except ModuleNotFoundError as error:
    raise ImportError(
        f"modernrank.integrations.evaluation.pyterrier requires {error.name}: pip install 'modernrank[cpu,pyterrier]'"
    ) from error


class ModernRankReranker(pt.Transformer):
    """Scores the documents of each query anew: ``bm25 >> pt.text.get_text(index) >> ModernRankReranker(reranker)``.

    The pairs of all queries are scored together, so many queries with few documents each are as fast as few with many.

    Args:
        model: a ``Reranker`` or an ``AsyncReranker`` of one label. Its owner closes it.
        text_field: name of the column of texts. A missing text is scored as an empty one.
        activation: the scale of the scores, as in ``Reranker.score``. Logits do not saturate, so they tie least.
        max_length: a lower maximum number of tokens in a pair of query and text. Pairs that were cut are counted in a
            ``TruncationWarning``.

    >>> import pandas as pd
    >>> from modernrank import Reranker
    >>> from modernrank.integrations.evaluation.pyterrier import ModernRankReranker
    >>> rows = [("1", "capital of France?", "d1", "A baguette"), ("1", "capital of France?", "d2", "Paris")]
    >>> with Reranker.load(TINY) as reranker:                                    # an artifact's folder
    ...     ranked = ModernRankReranker(reranker)(pd.DataFrame(rows, columns=["qid", "query", "docno", "text"]))
    >>> sorted(ranked["rank"])
    [0, 1]
    """

    def __init__(
        self,
        model: Reranker | AsyncReranker,
        text_field: str = "text",
        *,
        activation: ActivationChoice = "logit",
        max_length: int | None = None,
    ) -> None:
        self.text_field = text_field
        self._model = checked_model(model)
        self._activation = activation
        self._max_length = max_length

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Score the rows, and rank them within each query, from 0. The rows keep their order.

        Args:
            inp: columns qid, query, docno and ``text_field``.

        Raises:
            pyterrier.validate.InputValidationError: a column is missing.
            InputError: a query or a text is not a string, or the model does not have this ``activation``.
        """
        pt.validate.result_frame(inp, extra_columns=["query", self.text_field])
        texts = inp[self.text_field]
        pairs = zip(inp["query"], texts.mask(texts.isna(), ""), strict=True)
        scores = in_threads(self._model).score(pairs, activation=self._activation, max_length=self._max_length)
        return pt.model.add_ranks(inp.assign(score=scores.astype(float)))

    def __repr__(self) -> str:
        return "ModernRank()"
