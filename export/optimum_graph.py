"""The padded graph of other toolchains: the same checkpoint through optimum's exporter.

It is the baseline of our measurements and a second opinion on our scores. It requires ``modernrank[reference]`` in a
virtual environment of its own, because optimum-onnx 0.1 works with transformers before 4.58 only.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from modernrank.artifact.json_records import read_json_object
from modernrank.errors import ArtifactError
from modernrank.export.models.rope import is_scaled

REFERENCE = "reference"  # the dialect of such a graph


def write_reference_graph(checkpoint: Path, path: Path) -> int:
    """Export ``checkpoint`` with optimum in float32 to ``path``; returns the graph's opset.

    Inputs are ``input_ids`` and ``attention_mask``, int64 ``[rows, tokens]``; the output is ``logits``,
    float32 ``[rows, labels]``.

    Raises:
        ArtifactError: the config scales RoPE in a field that this older transformers ignores.
    """
    _check_rope(checkpoint / "config.json")
    from optimum.exporters.onnx import main_export  # seconds to import, and only this function needs it

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        main_export(str(checkpoint), folder, task="text-classification", dtype="fp32")
        model = onnx.load(Path(folder) / "model.onnx")  # its external data too, where it has any
        data = f"{path.name}.data"
        onnx.save(model, path, save_as_external_data=True, location=data, size_threshold=1024)
        opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    return int(opset)


def _check_rope(config_file: Path) -> None:
    parameters = read_json_object(config_file).get("rope_parameters") or {}
    scaled = [kind for kind, given in parameters.items() if given and is_scaled(given)]
    if scaled:
        raise ArtifactError(
            f"{config_file}: rope_parameters scale {' and '.join(scaled)}, which the transformers of the reference "
            "graph ignores; choose another graph, or write the parameters as rope_scaling if they are the same for "
            "both layer types",
            path=config_file,
            field="rope_parameters",
            value=parameters,
        )
