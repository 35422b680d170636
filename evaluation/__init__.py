"""How well rankings answer queries, measured by people's judgements. Requires ``modernrank[eval]``.

compare.py          artifacts and precisions side by side: what ``modernrank eval`` runs
formats.py          reads queries, documents, candidates and judgements: JSON lines, TREC files, BEIR folders
lines.py            the lines of these files; errors name the file and the line
rank_candidates.py  a reranker ranks the candidates of each query
trec_run.py         rankings in a TREC run file, from which a comparison is resumed
metrics.py          nDCG@10, MRR@10 and MAP, by ir-measures
significance.py     confidence intervals and a paired test
agreement.py        how far two scorings of the same pairs agree
report.py           the table and the JSON
"""
