"""Options: checked once, when they are made; numpy's numbers are numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modernrank import CpuOptions, GpuOptions, InputError, LoadOptions


@pytest.mark.parametrize("devices", [[], [0, 0], [-1], [True], 0, "0", [1.5]])
def test_devices_that_are_not_different_gpus_are_refused(devices: Any) -> None:
    with pytest.raises(InputError) as caught:
        GpuOptions(devices=devices)
    assert caught.value.details["argument"] == "devices"


@pytest.mark.parametrize("limit", [0, "2GB", 2e9, True])
def test_a_memory_limit_that_is_no_number_of_bytes_is_refused(limit: Any) -> None:
    with pytest.raises(InputError) as caught:
        GpuOptions(memory_limit=limit)
    assert caught.value.details["argument"] == "gpu_memory_limit"


@pytest.mark.parametrize("field", ["threads", "workers"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_counts_are_whole_numbers_of_at_least_1(field: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        CpuOptions(**{field: value})
    assert caught.value.details["argument"] == field


def test_numpy_numbers_are_accepted_and_become_ints() -> None:
    assert type(CpuOptions(threads=np.int64(2)).threads) is int  # type: ignore[arg-type]
    assert GpuOptions(devices=np.array([1, 0])).devices == (1, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("shared", [{"cpu": CpuOptions(workers=2)}, {"gpu": GpuOptions([0, 1], cuda_stream=7)}])
def test_a_callers_stream_is_for_one_device_and_one_worker(shared: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        LoadOptions(**{"gpu": GpuOptions(cuda_stream=7), **shared})
    assert caught.value.details["argument"] == "cuda_stream"


@pytest.mark.parametrize(("field", "value"), [("provider", "npu"), ("precision", "int2")])
def test_unknown_choices_are_refused_with_the_known_ones(field: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        LoadOptions(**{field: value})  # type: ignore[arg-type]
    assert "auto" in caught.value.details["choices"]


@pytest.mark.parametrize("field", ["threads", "workers"])
def test_more_threads_than_any_machine_has_are_refused(field: str) -> None:
    with pytest.raises(InputError) as caught:
        CpuOptions(**{field: 2**31})
    assert caught.value.details["argument"] == field
    assert caught.value.details["value"] > caught.value.details["limit"]


@pytest.mark.parametrize("value", [np.array(["cpu", "cuda"]), ["cpu"], None, 1])
def test_a_choice_that_is_no_name_is_refused(value: Any) -> None:
    with pytest.raises(InputError) as caught:
        LoadOptions(provider=value)
    assert caught.value.details["argument"] == "provider"


@pytest.mark.parametrize("stream", [0, 1, 2, -1, True, "7", 7.0])
def test_a_stream_that_others_share_is_refused(stream: object) -> None:
    """``torch.cuda.current_stream().cuda_stream`` is 0 unless the caller made a stream."""
    with pytest.raises(InputError) as refused:
        GpuOptions(cuda_stream=stream)  # type: ignore[arg-type]
    assert refused.value.details == {"argument": "cuda_stream", "value": stream}
