"""modernrank in libraries and databases of search.

lancedb.py    a ``Reranker`` for LanceDB's tables
fastembed.py  models for ``TextCrossEncoder``, and with it for Haystack's ``FastembedRanker``
rerankers.py  a ranker for the library rerankers
txtai.py      a similarity for txtai's ``Reranker``
pymilvus.py   a rerank function for Milvus
"""
