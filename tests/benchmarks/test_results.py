"""Results: what their samples carry, how they are kept, shown, drawn and compared."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank import InputError
from modernrank.benchmarks.reporting.compare import compare
from modernrank.benchmarks.reporting.plots import plot
from modernrank.benchmarks.reporting.result import Measurement, Result
from modernrank.benchmarks.reporting.table import markdown
from support.layout import ROOT

ENVIRONMENT = {
    "machine": {"processor": "a processor", "threads": 2},
    "versions": {"modernrank": "0"},
    "commit": "abc",
    "peak": {"int8": 800.0},
    "artifact": {"linear_flops": 10**9},
}


def measurement(
    contender: str = "modernrank int8", seconds: float | list[float] = 1.0, **fields: object
) -> Measurement:
    samples = seconds if isinstance(seconds, list) else [seconds * (1 + 0.01 * (i % 3)) for i in range(10)]
    known = {"scenario": "query", "workload": "mix", "pairs": 1000, "tokens": 4000, "seconds": samples}
    return Measurement(contender, **{**known, **fields})  # type: ignore[arg-type]


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=400))
def test_a_percentile_is_a_sample_with_its_share_at_or_below_it(seconds: list[float]) -> None:
    found = Measurement("a", "single", "b", seconds=seconds).percentiles
    for name, value in found.items():
        share = float(name[1:]) / 100
        assert value in seconds
        assert sum(s <= value for s in seconds) >= math.floor(share * len(seconds))
        assert sum(s > value for s in seconds) <= math.ceil((1 - share) * len(seconds))


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (1, []),
        (2, ["p50"]),
        (9, ["p50"]),
        (10, ["p50", "p90"]),
        (100, ["p50", "p90", "p99"]),
        (999, ["p50", "p90", "p99"]),
    ],
)
def test_a_percentile_that_the_count_cannot_carry_is_not_there(count: int, names: list[str]) -> None:
    assert list(Measurement("a", "single", "b", seconds=[1.0] * count).percentiles) == names


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Result(ENVIRONMENT, [measurement(), measurement("other", error="it broke", seconds=2.0)])
    written.write(tmp_path / "result.json")
    assert Result.read(tmp_path / "result.json") == written
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not a result of"),
        ("[]", "is not a result of"),
        ('{"schema": 99}', "has schema 99, this version reads 1; measure again"),
        ('{"schema": 1, "environment": {}, "measurements": [{"who": 1}]}', "is not a result of"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(InputError, match=message):
        Result.read(tmp_path / "result.json")
    with pytest.raises(InputError, match="cannot read"):
        Result.read(tmp_path / "absent.json")


def test_the_table_shows_speed_fidelity_and_failures() -> None:
    ours = measurement(fidelity={"rms": 0.004}, padding=0.0)
    slow = measurement("sentence-transformers fp32", seconds=9.0)
    broken = Measurement("sentence-transformers OpenVINO", "query", "mix", error="no such | architecture")
    table = markdown(Result(ENVIRONMENT, [ours, slow, broken]))
    own = next(line for line in table.splitlines() if line.startswith("| modernrank int8"))
    assert "| 9.00 |" in own and "0.40%" in own and "p50" in own and "of 10" in own and "50%" in own
    assert "failed: no such \\| architecture" in table
    assert "a processor, 2 threads" in table and "commit abc" in table and "Noisy" not in table


def test_a_result_of_failures_alone_gives_a_table() -> None:
    failed = [Measurement(name, "query", "mix", error="it broke") for name in ("first", "second")]
    rows = markdown(Result(ENVIRONMENT, failed)).splitlines()[-2:]
    assert [row.split(" | ")[0] for row in rows] == ["| first", "| second"]
    assert all("it broke" in row for row in rows)


def test_a_failure_before_a_measurement_leaves_the_columns_as_they_are() -> None:
    ours = measurement()
    failed = Measurement("other", "query", "mix", error="it broke")
    first, last = (markdown(Result(ENVIRONMENT, rows)).splitlines() for rows in ([failed, ours], [ours, failed]))
    assert sorted(first) == sorted(last)


def test_noise_is_told() -> None:
    table = markdown(Result(ENVIRONMENT, [measurement(seconds=[1.0, 1.0, 1.5, 1.6, 1.1, 1.7])]))
    assert "Noisy: half of the samples of modernrank int8 on mix (query) spread over" in table


@pytest.mark.parametrize(
    ("factor", "verdict"), [(0.8, "faster"), (1.0, "the same"), (1.03, "the same"), (1.3, "slower")]
)
def test_compare_tells_change_from_noise(factor: float, verdict: str) -> None:
    before, after = (Result(ENVIRONMENT, [measurement(seconds=s)]) for s in (1.0, factor))
    found = compare(before, after, threshold=0.05)
    assert [change.verdict for change in found.changes] == [verdict]
    assert found.slower == (verdict == "slower")
    assert f"{verdict}  modernrank int8, query, mix" in str(found.changes[0])


def test_compare_judges_no_few_samples_and_names_what_has_no_match() -> None:
    few = [measurement(seconds=[1.0] * 4), measurement("gone")]
    now = [measurement(seconds=[9.0] * 4), Measurement("broken", "query", "mix", error="it broke")]
    found = compare(Result(ENVIRONMENT, few), Result(ENVIRONMENT, now), 0.05)
    assert [change.verdict for change in found.changes] == ["too few"]
    assert not found.slower
    assert found.unmatched == ["broken on mix failed: it broke", "only before: gone query mix {}"]


def test_plots_are_drawn_from_what_is_there(tmp_path: Path) -> None:
    rows = [
        measurement(),
        measurement("peer", 3.0, parameters={"batch": 1}),
        measurement("peer", 2.0, parameters={"batch": 8}),
    ]
    rows += [measurement(workload=f"{length} tokens") for length in (128, 512)]
    rows += [measurement(scenario="server", parameters={"rate": rate}, elapsed=9.0) for rate in (1.0, 2.0)]
    files = plot(Result(ENVIRONMENT, rows), tmp_path, "svg")
    assert [file.name for file in files] == ["throughput.svg", "batch.svg", "length.svg", "load.svg"]
    assert all(file.read_text().lstrip().startswith("<?xml") for file in files)
    first = files[0].read_bytes()
    plot(Result(ENVIRONMENT, rows), tmp_path, "svg")
    assert files[0].read_bytes() == first, "the same result must give the same file"


def test_a_result_without_anything_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to draw"):
        plot(Result(ENVIRONMENT, [measurement()]), tmp_path, "png")


def test_the_results_of_this_repository_can_be_read() -> None:
    folder = ROOT / "benchmarks" / "results"
    for path in folder.glob("*.json"):
        if "measurements" in json.loads(path.read_text()):
            assert all(dataclasses.asdict(m) for m in Result.read(path).measurements)
            assert markdown(Result.read(path))
