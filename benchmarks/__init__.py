"""Measurements: how fast and how exact modernrank is, alone and beside other runtimes."""
