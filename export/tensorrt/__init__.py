"""Builds TensorRT engines from an artifact's graph.

build.py     the engine, its log, its layers and its place in the manifest
network.py   a graph as TensorRT reads it, and the profiles
logs.py      what TensorRT says while it builds
"""

from .build import build_engine

__all__ = ["build_engine"]
