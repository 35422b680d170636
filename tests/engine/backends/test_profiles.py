"""Optimisation profiles: how they are written, what contradicts what, and that every planned batch fits one."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modernrank import ProfileError
from modernrank.artifact.manifest import OnnxGraph
from modernrank.backends.onnxruntime.gpu import cuda_sessions, tensorrt_sessions
from modernrank.backends.onnxruntime.provider_options import tensorrt_options
from modernrank.backends.profiles import (
    SLOTS,
    ProfileShapes,
    check_profiles,
    default_profiles,
    fit,
    parse_profile,
    policy_of,
    rounded,
)
from modernrank.batching.packing import plan
from modernrank.options import GpuOptions

DEFAULT = default_profiles(8192)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("short=64x512", "short=1x64:8x512:64x512"),
        ("short=16x256:64x512", "short=1x64:16x256:64x512"),
        ("long=1x576:2x2048:4x8192", "long=1x576:2x2048:4x8192"),
        ("one=1x64", "one=1x64:1x64:1x64"),
    ],
)
def test_a_profile_is_read_as_it_is_shown(text: str, whole: str) -> None:
    assert str(parse_profile(text)) == whole
    assert parse_profile(whole) == parse_profile(text)


@pytest.mark.parametrize("text", ["", "short", "short=", "short=64", "short=64x", "=4x4", "a=1x1:2x2:3x3:4x4", "a=4*4"])
def test_what_is_no_profile_is_shown_how_to_write_one(text: str) -> None:
    with pytest.raises(ProfileError, match="short=1x64:8x512:64x512") as caught:
        parse_profile(text)
    assert caught.value.details["value"] == text


@pytest.mark.parametrize(
    ("text", "numbers"), [("down=1x512:1x256:1x128", ("512", "256", "128")), ("none=0x64:1x64:1x64", ("0", "1", "1"))]
)
def test_shapes_that_do_not_grow_are_refused(text: str, numbers: tuple[str, ...]) -> None:
    with pytest.raises(ProfileError, match=".*".join(numbers)) as caught:
        parse_profile(text)
    assert [profile.name for profile in caught.value.details["profiles"]] == [text.partition("=")[0]]


@pytest.mark.parametrize(
    ("texts", "fact"),
    [
        (["a=64x512", "b=1x512:1x1024:1x2048"], "1x512"),  # both accept this shape
        (["a=4x64", "a=4x128"], "'a'"),  # one name
    ],
)
def test_profiles_that_contradict_each_other_are_refused(texts: list[str], fact: str) -> None:
    with pytest.raises(ProfileError, match=fact) as caught:
        check_profiles([parse_profile(text) for text in texts], 8192)
    assert len(caught.value.details["profiles"]) == 2


def test_a_profile_above_the_models_limit_is_refused() -> None:
    with pytest.raises(ProfileError) as caught:
        check_profiles([parse_profile("a=4x1024")], 512)
    assert caught.value.details["limit"] == 512


@pytest.mark.parametrize(("text", "nearest"), [("a=4x1000", "1024"), ("a=1x1:2x64:3x128", "64")])
def test_a_width_that_is_not_of_whole_blocks_is_refused(text: str, nearest: str) -> None:
    with pytest.raises(ProfileError, match=f"give {nearest}$") as caught:
        parse_profile(text)
    assert caught.value.details["step"] == 64


def test_an_engine_has_a_profile() -> None:
    with pytest.raises(ProfileError) as caught:
        check_profiles([], 512)
    assert caught.value.details["profiles"] == []


def test_a_batch_that_no_profile_accepts_is_refused_with_its_shape() -> None:
    with pytest.raises(ProfileError) as caught:
        fit([parse_profile("short=16x128")], 17, 100)
    assert (caught.value.details["rows"], caught.value.details["tokens"]) == (17, 100)


@pytest.mark.parametrize("longest", [32, 64, 512, 575, 576, 1000, 8192])
def test_the_defaults_suit_every_model(longest: int) -> None:
    profiles = default_profiles(longest)
    check_profiles(profiles, longest)
    assert not any(tokens % 64 for profile in profiles for tokens in profile.tokens)
    assert max(p.tokens[2] for p in profiles) >= longest


@given(st.lists(st.integers(1, 8192), min_size=1, max_size=80))
def test_every_planned_batch_fits_a_profile(lengths: list[int]) -> None:
    planned = plan(lengths, policy_of(DEFAULT, SLOTS, workers=2))
    assert sorted(pair for batch in planned.batches for row in batch.rows for pair in row) == list(range(len(lengths)))
    for batch in planned.batches:
        profile = DEFAULT[fit(DEFAULT, len(batch.rows), batch.width)]
        rows, tokens = rounded(profile, len(batch.rows), batch.width)
        assert max(profile.rows[0], len(batch.rows)) <= rows <= profile.rows[2]
        assert max(profile.tokens[0], batch.width) <= tokens <= profile.tokens[2]
        assert batch.slots <= SLOTS


@settings(max_examples=15)
@given(st.lists(st.integers(20, 300), min_size=200, max_size=300))
def test_long_lists_of_passages_fill_their_rows(lengths: list[int]) -> None:
    assert plan(lengths, policy_of(DEFAULT, SLOTS, workers=2)).waste < 0.15


def test_many_middling_pairs_share_wide_rows() -> None:
    """Pairs of 600 tokens: the long profile takes 4 rows, so each should hold several pairs."""
    planned = plan([600] * 24, policy_of(DEFAULT, SLOTS, workers=1))
    assert len(planned.batches) == 2
    assert planned.batches[0].width == 2048


def test_small_batches_come_in_few_shapes() -> None:
    shapes = {rounded(DEFAULT[0], rows, tokens) for rows in range(1, 65) for tokens in range(1, 513)}
    small = {shape for shape in shapes if shape[0] * shape[1] <= 4096}
    assert len(small) < 70


def test_onnx_runtime_gets_the_profiles_as_shapes(tmp_path: Path) -> None:
    options = tensorrt_options(1, tmp_path / "model.onnx", DEFAULT)
    assert options["device_id"] == 1
    assert options["trt_profile_min_shapes"].split(",")[0] == "input_ids:1x64"
    assert options["trt_profile_opt_shapes"].count("slots:32") == len(DEFAULT)


def test_a_profile_of_few_rows_is_for_small_batches_only() -> None:
    """Lists are planned for the one of many rows; what they leave over runs in the other."""
    small, short = parse_profile("small=1x64:2x256:8x512"), parse_profile("short=9x64:32x512:64x512")
    check_profiles([small, short], 512)
    shapes = ProfileShapes((small, short))
    assert shapes(longest=100, waiting=64 * 512) == (512, 64)
    assert shapes.most_rows(512) == 64
    assert [fit([short, small], rows, 512) for rows in (1, 8, 9, 64)] == [1, 1, 0, 0]


GRAPH = OnnxGraph("fp16", "ort-cuda", "packed", 23, "model.onnx", "model.onnx.data", "model.short.onnx")


def test_each_profile_of_tensorrt_has_a_session_and_a_cache(tmp_path: Path) -> None:
    """In one session, batches of the second profile would fail."""
    sessions = tensorrt_sessions(GRAPH, DEFAULT, tmp_path, device=1)
    assert [chosen["trt_profile_max_shapes"].partition(",")[0] for _, chosen in sessions] == [
        "input_ids:64x512",
        "input_ids:4x8192",
    ]
    assert len({chosen["trt_engine_cache_path"] for _, chosen in sessions}) == 2


def test_short_rows_run_a_graph_of_their_own_unless_memory_is_limited() -> None:
    files = [graph.file for graph, _ in cuda_sessions(GRAPH, DEFAULT, GpuOptions(), 0)]
    assert files == ["model.short.onnx", "model.onnx"]
    assert [g.file for g, _ in cuda_sessions(GRAPH, DEFAULT, GpuOptions(memory_limit=10**9), 0)] == ["model.onnx"]
    plain = replace(GRAPH, short=None)
    assert [g.file for g, _ in cuda_sessions(plain, DEFAULT, GpuOptions(), 0)] == ["model.onnx"]
    only_short = default_profiles(512)
    assert [g.file for g, _ in cuda_sessions(GRAPH, only_short, GpuOptions(), 0)] == ["model.short.onnx"]
