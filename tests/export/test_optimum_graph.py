"""The reference graph of optimum's exporter scores through the same ``Reranker``. Run by ``make reference``."""

from pathlib import Path

import numpy as np
import pytest

from modernrank import Reranker
from modernrank.artifact.manifest import Manifest
from modernrank.export import export_checkpoint
from support.checkpoints import checkpoint, golden

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference") / "tiny"
    export_checkpoint(checkpoint("tiny"), out, graph="reference")
    return out


def test_it_agrees_with_the_golden_logits(reference: Path) -> None:
    data = golden("tiny")
    with Reranker.load(reference) as reranker:
        assert reranker.info.graph == "reference"
        scores = reranker.score([tuple(pair) for pair in data["pairs"]])
    assert scores == pytest.approx(np.array(data["logits"], np.float32)[:, 0], abs=1e-4)


def test_its_manifest_says_padded(reference: Path) -> None:
    manifest = Manifest.read(reference)
    (graph,) = manifest.graphs
    assert (graph.dialect, graph.layout) == ("reference", "padded")
    assert {"optimum", "optimum-onnx", "transformers"} <= set(manifest.tools)


def test_its_plans_hold_one_pair_in_a_row(reference: Path) -> None:
    with Reranker.load(reference) as reranker:
        planned = reranker.plan([("a", "b")] * 10 + [("a", "b " * 100)])
    assert all(len(row) == 1 for run in planned.batches for row in run.rows)


def test_optimum_runs_a_padded_graph(tmp_path: Path) -> None:
    import torch
    from optimum.onnxruntime import ORTModelForSequenceClassification

    data = golden("tiny")
    export_checkpoint(checkpoint("tiny"), tmp_path / "padded", graph="padded")
    model = ORTModelForSequenceClassification.from_pretrained(tmp_path / "padded", file_name="model.fp32.onnx")
    rows = [torch.tensor(ids) for ids in data["input_ids"]]
    ids, mask = (
        torch.nn.utils.rnn.pad_sequence(x, batch_first=True) for x in (rows, [torch.ones_like(row) for row in rows])
    )
    logits = model(input_ids=ids, attention_mask=mask).logits
    assert logits.numpy() == pytest.approx(np.array(data["logits"], np.float32), abs=1e-4)


def test_its_scores_are_those_of_the_padded_graph(reference: Path, tmp_path: Path) -> None:
    pairs = [tuple(pair) for pair in golden("tiny")["pairs"]]
    export_checkpoint(checkpoint("tiny"), tmp_path / "padded", graph="padded")
    with Reranker.load(reference) as theirs, Reranker.load(tmp_path / "padded") as ours:
        assert ours.score(pairs) == pytest.approx(theirs.score(pairs), abs=1e-4)
