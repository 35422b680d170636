"""int8: a graph of quantised linear layers, its scales measured on calibration pairs.

write.py         the whole of it, step by step
calibration.py   the pairs: a small set that ships with the package, or the user's own
observe.py       run the float32 graph and keep what went into each linear layer
choose.py        per layer: how much to smooth, where to clip, what stays in float32
smooth.py        move scale from activations to weights where the weights bear it better, at no cost
"""

from .write import write_int8_graph

__all__ = ["write_int8_graph"]
