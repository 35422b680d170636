"""modernrank in frameworks of agents and their memory.

agno.py      a reranker for Agno's knowledge bases
graphiti.py  a cross encoder client for graphiti's searches
"""
