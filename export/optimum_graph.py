"""The padded graph of other toolchains: the same checkpoint through optimum's exporter.

It is the baseline of our measurements and a second opinion on our scores. It requires ``modernrank[reference]`` in a
virtual environment of its own, because optimum-onnx 0.1 works with transformers before 4.58 only.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

REFERENCE = "reference"  # the dialect of such a graph


def write_reference_graph(checkpoint: Path, path: Path) -> int:
    """Export ``checkpoint`` with optimum in float32 to ``path``; returns the graph's opset.

    Inputs are ``input_ids`` and ``attention_mask``, int64 ``[rows, tokens]``; the output is ``logits``,
    float32 ``[rows, labels]``.
    """
    from optimum.exporters.onnx import main_export  # seconds to import, and only this function needs it

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        main_export(str(checkpoint), folder, task="text-classification", dtype="fp32")
        model = onnx.load(Path(folder) / "model.onnx")  # its external data too, where it has any
        data = f"{path.name}.data"
        onnx.save(model, path, save_as_external_data=True, location=data, size_threshold=1024)
        opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    return int(opset)
