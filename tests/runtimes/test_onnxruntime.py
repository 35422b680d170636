"""The padded graph in the oldest and the newest ONNX Runtime, and in fastembed, which runs it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fastembed.common.model_description import ModelSource
from fastembed.rerank.cross_encoder import TextCrossEncoder

pytestmark = pytest.mark.runtimes


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_it_gives_the_logits_of_transformers(artifact: Path, golden: Any, side: str, level: str) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(
        str(artifact / "model.fp32.onnx"), options, providers=["CPUExecutionProvider"]
    )
    assert golden.agree(session.run(["logits"], golden.inputs(side))[0])
    for ids, logit in zip(golden.input_ids[:3], golden.logits, strict=False):
        alone = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
        assert session.run(["logits"], alone)[0] == pytest.approx(logit, abs=1e-4)


def test_fastembed_reranks_with_it(artifact: Path, golden: Any) -> None:
    TextCrossEncoder.add_custom_model(
        "modernrank/demo", sources=ModelSource(hf="modernrank/demo"), model_file="model.fp32.onnx"
    )
    encoder = TextCrossEncoder("modernrank/demo", specific_model_path=str(artifact))
    assert golden.agree(list(encoder.rerank_pairs(golden.pairs)))
    query = golden.pairs[0][0]
    chosen = [i for i, pair in enumerate(golden.pairs) if pair[0] == query]
    scores = list(encoder.rerank(query, [golden.pairs[i][1] for i in chosen]))
    assert scores == pytest.approx(golden.logits[chosen], abs=1e-4)
