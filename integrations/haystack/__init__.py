"""Haystack: a ranker. It lies in Haystack's namespace, because saved pipelines load classes from nowhere else."""

if __name__ != "haystack_integrations.components.rankers.modernrank":  # another name would copy the class
    raise ImportError("import haystack_integrations.components.rankers.modernrank; `pip install modernrank` has it")

from .ranker import ModernRankRanker

__all__ = ["ModernRankRanker"]
