"""Trains the demo reranker of ``demo/model``: ``python -m demo.training.train WORK`` from the repository root."""
