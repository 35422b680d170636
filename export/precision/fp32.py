"""Float32: the exact graph, written by us, or by optimum for comparison."""

from __future__ import annotations

from modernrank.errors import ArtifactError
from modernrank.export.graph.options import GraphOptions
from modernrank.export.optimum_graph import REFERENCE, write_reference_graph

from .job import GraphJob, WrittenGraph


def write_fp32(job: GraphJob) -> WrittenGraph:
    """Write the float32 graph of ``job``."""
    if job.dialect == REFERENCE:
        _check_family(job)
        job.report("exporting with optimum")
        opset = write_reference_graph(job.source.folder, job.path)
        return job.written(opset, layout="padded")
    architecture, options = job.source.architecture, GraphOptions(job.dialect)
    job.report(f"writing the {job.dialect} graph of {architecture.facts.layers} layers")
    architecture.write_graph(job.source.weights, job.path, options)
    return job.written(options.spelling.opset, options.spelling.layout.name)


def _check_family(job: GraphJob) -> None:
    """Refuse what optimum would export with a head of random weights."""
    architecture = job.source.architecture
    if architecture.reference != "transformers":
        raise ArtifactError(
            f"{job.source.folder} is a {architecture.name}, and optimum exports models of transformers only; choose "
            "another graph",
            path=job.source.folder,
            field="modules",
            value=architecture.name,
        )
