"""Optimisation profiles: how they are written, what contradicts what, and that every planned run fits one."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modernrank import ProfileError
from modernrank.backends.onnxruntime.provider_options import tensorrt_options
from modernrank.backends.profiles import SLOTS, check_profiles, default_profiles, fit, parse_profile, policy_of, rounded
from modernrank.batching.packing import plan

DEFAULT = default_profiles(8192)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("short=64x512", "short=1x64:8x512:64x512"),
        ("short=16x256:64x512", "short=1x64:16x256:64x512"),
        ("long=1x576:2x2048:4x8192", "long=1x576:2x2048:4x8192"),
        ("one=1x32", "one=1x32:1x32:1x32"),
    ],
)
def test_a_profile_is_read_as_it_is_shown(text: str, meant: str) -> None:
    assert str(parse_profile(text)) == meant
    assert parse_profile(meant) == parse_profile(text)


@pytest.mark.parametrize("text", ["", "short", "short=", "short=64", "short=64x", "=4x4", "a=1x1:2x2:3x3:4x4", "a=4*4"])
def test_what_is_no_profile_is_shown_how_to_write_one(text: str) -> None:
    with pytest.raises(ProfileError, match=r"is not NAME=ROWSxTOKENS.*such as short=1x64:8x512:64x512"):
        parse_profile(text)


def test_contradictions_are_named() -> None:
    with pytest.raises(ProfileError, match="has tokens of 512, 256 and 128: least, best and most must grow"):
        parse_profile("down=1x512:1x256:1x128")
    with pytest.raises(ProfileError, match="rows of 0"):
        parse_profile("none=0x64:1x64:1x64")
    with pytest.raises(ProfileError, match="both take 1x512; let one begin where the other ends"):
        check_profiles([parse_profile("a=64x512"), parse_profile("b=1x512:1x1024:1x2048")], 8192)
    with pytest.raises(ProfileError, match="two profiles are called 'a'"):
        check_profiles([parse_profile("a=4x64"), parse_profile("a=4x128")], 8192)
    with pytest.raises(ProfileError, match="longer than the model's 512 tokens"):
        check_profiles([parse_profile("a=4x1024")], 512)
    with pytest.raises(ProfileError, match="no profile; give at least one"):
        check_profiles([], 512)


@pytest.mark.parametrize("longest", [32, 64, 512, 575, 576, 1000, 8192])
def test_the_defaults_suit_every_model(longest: int) -> None:
    profiles = default_profiles(longest)
    check_profiles(profiles, longest)
    assert max(p.tokens[2] for p in profiles) >= min(longest, 512)


@given(st.lists(st.integers(1, 8192), min_size=1, max_size=80))
def test_every_planned_run_fits_a_profile(lengths: list[int]) -> None:
    planned = plan(lengths, policy_of(DEFAULT, SLOTS, workers=2))
    assert sorted(pair for run in planned.batches for row in run.rows for pair in row) == list(range(len(lengths)))
    for run in planned.batches:
        profile = DEFAULT[fit(DEFAULT, len(run.rows), run.width)]
        rows, tokens = rounded(profile, len(run.rows), run.width)
        assert max(profile.rows[0], len(run.rows)) <= rows <= profile.rows[2]
        assert max(profile.tokens[0], run.width) <= tokens <= profile.tokens[2]
        assert run.slots <= SLOTS


@settings(max_examples=15)
@given(st.lists(st.integers(20, 300), min_size=200, max_size=300))
def test_long_lists_of_passages_fill_their_rows(lengths: list[int]) -> None:
    assert plan(lengths, policy_of(DEFAULT, SLOTS, workers=2)).waste < 0.15


def test_many_middling_pairs_share_wide_rows() -> None:
    """Pairs of 600 tokens: the long profile takes 4 rows, so each should hold several pairs."""
    planned = plan([600] * 24, policy_of(DEFAULT, SLOTS, workers=1))
    assert len(planned.batches) == 2
    assert planned.batches[0].width == 2048


def test_small_runs_come_in_few_shapes() -> None:
    shapes = {rounded(DEFAULT[0], rows, tokens) for rows in range(1, 65) for tokens in range(1, 513)}
    small = {shape for shape in shapes if shape[0] * shape[1] <= 4096}
    assert len(small) < 70


def test_onnx_runtime_gets_the_profiles_as_shapes(tmp_path: Path) -> None:
    options = tensorrt_options(1, tmp_path / "model.onnx", DEFAULT)
    assert options["device_id"] == 1
    assert options["trt_profile_min_shapes"].split(",")[0] == "input_ids:1x64"
    assert options["trt_profile_opt_shapes"].count("slots:32") == len(DEFAULT)
