"""Builds TensorRT engines from an artifact's graph.

build.py     the engine, its log, its layers and its record in the manifest
network.py   a graph as TensorRT reads it, and the profiles
progress.py  TensorRT's progress during a build
"""

from .build import build_engine

__all__ = ["build_engine"]
