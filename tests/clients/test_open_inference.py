"""Clients of the Open Inference Protocol: Triton's and KServe's."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import kserve
import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from support.client_server import Server, check_places
from support.products import DOCUMENTS, QUERY, Places

pytestmark = pytest.mark.clients


def inputs(kind: Any, binary: bool, documents: list[str] = DOCUMENTS) -> list[Any]:
    query, texts = kind("query", [1], "BYTES"), kind("documents", [len(documents)], "BYTES")
    query.set_data_from_numpy(np.array([QUERY.encode()], object), binary_data=binary)
    texts.set_data_from_numpy(np.array([text.encode() for text in documents], object), binary_data=binary)
    return [query, texts]


def triton_inputs(binary: bool = True, documents: list[str] = DOCUMENTS) -> list[Any]:
    return inputs(tritonclient.http.InferInput, binary, documents)


def best_first(result: Any) -> Places:
    scores = result.as_numpy("scores")
    assert scores.dtype == np.float32 and scores.shape == (len(DOCUMENTS),)
    return sorted(enumerate(scores.tolist()), key=lambda place: -place[1])


def test_triton_sees_a_server_and_its_model(server: Server) -> None:
    client = tritonclient.http.InferenceServerClient(server.address)

    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("tiny") and client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("other") and not client.is_model_ready("tiny", "2")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("tiny")
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["query", "documents"]
    assert metadata["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1]}]


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("received", [True, False, None])
@pytest.mark.parametrize("version", ["", "1"])
def test_triton_has_the_ranking(
    sent: bool, received: bool | None, version: str, server: Server, ranking: Places
) -> None:
    client = tritonclient.http.InferenceServerClient(server.address)
    output = tritonclient.http.InferRequestedOutput("scores", binary_data=bool(received))

    result = client.infer(
        "tiny",
        triton_inputs(sent),
        model_version=version,
        outputs=None if received is None else [output],
        request_id="7",
        request_compression_algorithm="gzip" if sent else None,
    )

    check_places(best_first(result), ranking)
    assert result.get_response()["id"] == "7"


def test_triton_gives_raw_scores(server: Server, logits: Places) -> None:
    client = tritonclient.http.InferenceServerClient(server.address)

    result = client.infer("tiny", triton_inputs(), parameters={"raw_scores": True})

    check_places(best_first(result), logits)


def test_triton_has_the_ranking_in_coroutines(server: Server, ranking: Places) -> None:
    async def infer() -> Any:
        async with tritonclient.http.aio.InferenceServerClient(server.address) as client:
            assert await client.is_server_ready()
            return await client.infer("tiny", triton_inputs())

    check_places(best_first(asyncio.run(infer())), ranking)


def test_triton_reports_refusals(guarded: Server) -> None:
    client = tritonclient.http.InferenceServerClient(guarded.address)
    headers = {"Authorization": f"Bearer {guarded.key}"}

    for model, documents, sent, status in [
        ("tiny", DOCUMENTS, {}, "401"),
        ("other", DOCUMENTS, headers, "404"),
        ("tiny", DOCUMENTS * 2, headers, "413"),
    ]:
        with pytest.raises(InferenceServerException) as refused:
            client.infer(model, triton_inputs(documents=documents), headers=sent)
        assert refused.value.status() == status


@pytest.mark.parametrize("binary", [True, False])
def test_kserve_has_the_ranking(binary: bool, server: Server, ranking: Places) -> None:
    async def infer() -> Any:
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
        assert await client.is_server_live(server.url) is True
        assert await client.is_server_ready(server.url) is True
        assert await client.is_model_ready(server.url, "tiny") is True
        assert await client.is_model_ready(server.url, "other") is False
        request = kserve.InferRequest("tiny", inputs(kserve.InferInput, binary))
        return await client.infer(server.url, request, model_name="tiny")

    output = asyncio.run(infer()).outputs[0]
    places = sorted(enumerate(output.as_numpy().tolist()), key=lambda place: -place[1])
    check_places(places, ranking)


def test_kserve_reports_a_wrong_key(guarded: Server) -> None:
    async def infer() -> Any:
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
        request = kserve.InferRequest("tiny", inputs(kserve.InferInput, False))
        return await client.infer(guarded.url, request, model_name="tiny")

    with pytest.raises(httpx.HTTPStatusError, match="401"):
        asyncio.run(infer())
