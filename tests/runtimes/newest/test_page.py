"""The examples of docs/padded.md for runtimes: those in Python run here, and the settings of servers are parsed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

pytestmark = pytest.mark.runtimes

PAGE = (Path(__file__).parents[3] / "docs" / "padded.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_examples_for_runtimes_run(artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(artifact.parents[1])
    examples = blocks("py")
    assert {"fastembed", "openvino"} <= set(re.findall(r"(?:from|import) (\w+)", "\n".join(examples)))
    for example in examples:
        exec(compile(example, "docs/padded.md", "exec"), {})
        assert capsys.readouterr().out


def test_tritons_configuration_names_the_graphs_inputs_and_output(artifact: Path) -> None:
    (text,) = blocks("protobuf")
    config = text_format.Parse(text, ModelConfig())
    assert config.backend == "onnxruntime"
    session = onnxruntime.InferenceSession(str(artifact / config.default_model_filename))
    types = {DataType.TYPE_INT64: "tensor(int64)", DataType.TYPE_FP32: "tensor(float)"}
    for named, entries in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert {entry.name: types[entry.data_type] for entry in named} == {entry.name: entry.type for entry in entries}
        for entry, mine in zip(named, entries, strict=True):  # the batch is not among Triton's dimensions
            assert [-1 if isinstance(size, str) else size for size in mine.shape[1:]] == list(entry.dims)


def test_the_settings_of_search_engines_can_be_parsed() -> None:
    (services,) = blocks("xml")
    assert ElementTree.fromstring(services).find("component/model") is not None
    (model,) = blocks("json")
    assert json.loads(model)["function_name"] == "TEXT_SIMILARITY"
