"""How well rankings answer queries, by people's judgements. Needs ``modernrank[eval]``.

formats.py   queries, documents, candidates and judgements, from JSON lines, TREC files and BEIR folders
rerank.py    an artifact orders the candidates of each query, resumed where it was stopped
metrics.py   nDCG@10, MRR@10 and MAP through ir-measures, with confidence intervals and a paired test
report.py    the table
cli.py       `modernrank eval`
"""
