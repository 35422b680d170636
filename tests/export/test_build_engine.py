"""Building an engine: which arguments are refused, without TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError, InputError
from modernrank.export import build_engine


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [({"library": "trt"}, "library"), ({"precision": "int2"}, "precision"), ({"workspace": 0}, "workspace")],
)
def test_unknown_arguments_are_refused_by_name(artifacts: Path, arguments: dict[str, Any], argument: str) -> None:
    with pytest.raises(InputError) as refused:
        build_engine(artifacts / "tiny", **arguments)
    assert refused.value.details["argument"] == argument


def test_an_artifact_for_processors_has_no_graph_to_build_from(artifacts: Path) -> None:
    with pytest.raises(ArtifactError) as refused:
        build_engine(artifacts / "tiny", library="tensorrt")
    assert refused.value.details["available"] == [("fp32", "ort-cpu")]
