"""The ranker on the page is one that Milvus' client takes, with its parameters as the client sends them."""

from __future__ import annotations

from typing import Any

import pytest
from pymilvus import Function, FunctionType

from support.product_page import HOST, blocks

pytestmark = pytest.mark.integrations


def test_the_ranker_of_the_page_is_made() -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks("Milvus", "py")[0], "over-http.md", "exec"), names)
    ranker = names["ranker"]

    assert isinstance(ranker, Function)
    assert ranker.type == FunctionType.RERANK
    assert ranker.input_field_names == ["text"]
    assert ranker.params["endpoint"] == HOST
