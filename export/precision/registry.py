"""The precisions: in which dialects each can be written, how, and how far its scores may be from the exact ones.

A new precision is its module with a function that writes a graph, one entry here, and its name in
``modernrank.options.PrecisionName``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modernrank.export.graph.dialects import DIALECTS
from modernrank.export.optimum_graph import REFERENCE
from modernrank.options import PrecisionName

from .fp16 import write_fp16
from .fp32 import write_fp32
from .int8.write import write_int8
from .job import GraphJob, WrittenGraph


@dataclass(frozen=True)
class FidelityBounds:
    """How far the scores of a precision may be from those of ``transformers`` on text pairs.

    rms:   maximum of the RMS difference over the standard deviation of the scores.
    top10: minimum share of the exact ten best that are among the ten best.
    """

    rms: float
    top10: float


@dataclass(frozen=True)
class Precision:
    """A way to store weights and activations.

    name:     as users choose it.
    dialects: those in which it can be written, the default first.
    write:    writes a graph.
    bounds:   for verification; None where every logit must agree. Whatever is not exact is calibrated on pairs, and
              its quality is measured.
    """

    name: PrecisionName
    dialects: tuple[str, ...]
    write: Callable[[GraphJob], WrittenGraph]
    bounds: FidelityBounds | None = None

    @property
    def is_exact(self) -> bool:
        """Whether its logits are those of the checkpoint, except for the order of additions."""
        return self.bounds is None


TENSORRT = ("tensorrt", "tensorrt-half-sums", "tensorrt-decomposed")

PRECISIONS: Mapping[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("fp32", ("ort-cpu", "standard", "ort-cuda", *TENSORRT, "padded", REFERENCE), write_fp32),
        Precision("fp16", (*TENSORRT, "ort-cuda"), write_fp16, FidelityBounds(0.01, 0.95)),
        Precision("int8", ("ort-cpu",), write_int8, FidelityBounds(0.05, 0.9)),
    )
}

# Every dialect in which at least one precision can be written.
GRAPHS = (*DIALECTS, REFERENCE)
