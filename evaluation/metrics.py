"""nDCG@10, MRR@10 and MAP of rankings, computed by ir-measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ir_measures
import numpy as np

from .formats import EvaluationSet
from .significance import Values

MEASURES = {"nDCG@10": ir_measures.nDCG @ 10, "MRR@10": ir_measures.RR @ 10, "MAP": ir_measures.AP}


def by_query(data: EvaluationSet, ranking: Mapping[str, Sequence[str]]) -> dict[str, Values]:
    """The values of each measure, float64 ``[queries]`` in the order of ``data.judged``.

    A query without a ranking counts as 0. For MRR and MAP a document is relevant from grade 1 on; the gain of nDCG is
    the grade.

    Args:
        data: holds the judgements.
        ranking: for each query the ids of its documents, best first. It holds ids and not scores, because trec_eval
            would reorder documents of equal score.

    >>> qrels = {"q": {"d2": 1}}
    >>> data = EvaluationSet(queries={"q": "dog"}, documents={}, candidates={}, qrels=qrels, sha256="")
    >>> by_query(data, {"q": ["d1", "d2"]})["MRR@10"].tolist()
    [0.5]
    """
    run = {query: {name: -float(place) for place, name in enumerate(names)} for query, names in ranking.items()}
    index_of = {query: index for index, query in enumerate(data.judged)}
    values = {name: np.zeros(len(index_of)) for name in MEASURES}
    name_of = {measure: name for name, measure in MEASURES.items()}
    for result in ir_measures.iter_calc(list(MEASURES.values()), data.qrels, run):
        values[name_of[result.measure]][index_of[result.query_id]] = result.value
    return values
