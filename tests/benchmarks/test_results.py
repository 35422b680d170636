"""Results: their percentiles, and how they are kept, shown, drawn and compared."""

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modernrank import InputError
from modernrank.benchmarks.reporting.compare import compare
from modernrank.benchmarks.reporting.plots import plot
from modernrank.benchmarks.reporting.result import Measurement, Result
from modernrank.benchmarks.reporting.table import markdown, noise
from support.layout import ROOT

ENVIRONMENT = {
    "machine": {"processor": "a processor", "threads": 2},
    "versions": {"modernrank": "0"},
    "commit": "abc",
    "peak": {"int8": 800.0},
}
FOLDER = ROOT / "benchmarks" / "results"
FILES = [path for path in sorted(FOLDER.glob("*.json")) if "measurements" in json.loads(path.read_text())]
# The plots for which each of these files has the data. A new file needs an entry.
PLOTS = {
    "callers-demo-zen5-2cores": set(),
    "callers-zen5-2cores": set(),
    "gpu-cuda-h200": {"throughput", "length", "batch"},
    "gpu-cuda-h200-first": {"throughput", "length", "batch"},
    "load-mapped-zen5-2cores": set(),
    "load-read-zen5-2cores": set(),
    "mixed-demo-zen5-2cores": set(),
    "mixed-zen5-2cores": set(),
    "one-pair-zen3-2cores": set(),
    "padded-zen5-2cores": set(),
    "peers-8192-zen3-2cores": {"throughput"},
    "peers-fidelity-outliers": {"throughput"},
    "peers-fidelity-plain": {"throughput"},
    "peers-lengths-zen3-2cores": {"throughput", "length"},
    "peers-passages-zen3-2cores": {"throughput", "batch"},
    "peers-passages-zen4-2cores": {"throughput", "batch"},
    "peers-passages-zen5-2cores": {"throughput"},
    "query-fp32-zen3-2cores": set(),
    "query-int8-zen3-2cores": set(),
    "serve-half-load-zen5-2cores": set(),
    "serve-one-pair-demo-zen5-2cores": set(),
    "serve-peers-zen5-2cores": set(),
    "server-zen3-2cores": {"load"},
    "server-zen5-2cores": {"load"},
    "versions-int8-limits-zen5-2cores": {"throughput", "length"},
    "versions-list-zen5-2cores": {"throughput"},
    "versions-pairs-zen5-2cores": {"throughput", "length"},
    "versions-query-zen5-2cores": {"throughput"},
    "versions-token-scales-zen5-2cores": {"throughput", "length"},
}


def measurement(
    contender: str = "modernrank int8", seconds: float | list[float] = 1.0, **fields: object
) -> Measurement:
    samples = seconds if isinstance(seconds, list) else [seconds * (1 + 0.01 * (i % 3)) for i in range(10)]
    known = {"scenario": "query", "workload": "mix", "pairs": 1000, "tokens": 4000, "seconds": samples}
    return Measurement(contender, **{**known, **fields})  # type: ignore[arg-type]


def table_rows(*measurements: Measurement) -> list[dict[str, str]]:
    """The rows of the table of these measurements, by column title."""
    return rows_of(Result(ENVIRONMENT, [*measurements]))


def rows_of(result: Result) -> list[dict[str, str]]:
    lines = markdown(result).splitlines()
    titles, _, *rows = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in lines if line.startswith("|")]
    return [dict(zip(titles, row, strict=False)) for row in rows]


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=400))
def test_a_percentile_is_a_sample_with_its_share_at_or_below_it(seconds: list[float]) -> None:
    percentiles = Measurement("a", "single", "b", seconds=seconds).percentiles
    for name, value in percentiles.items():
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
def test_percentiles_that_need_more_samples_are_omitted(count: int, names: list[str]) -> None:
    assert list(Measurement("a", "single", "b", seconds=[1.0] * count).percentiles) == names


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    fields = {"ours": True, "precision": "int8", "provider": "cpu", "tokens_per_pair": 128, "flops_per_token": 10}
    written = Result(ENVIRONMENT, [measurement(**fields), measurement("other", error="it broke", seconds=2.0)])
    written.write(tmp_path / "result.json")
    assert Result.read(tmp_path / "result.json") == written
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"schema": 99, "environment": {}, "measurements": []}',
        '{"schema": 2, "environment": {}, "measurements": [{"who": 1}]}',
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(InputError, match=r"result\.json") as error:
        Result.read(tmp_path / "result.json")
    assert error.value.details["file"] == str(tmp_path / "result.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json"):
        Result.read(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("contender", "workload", "runtime", "fields"),
    [
        ("modernrank int8", "128 tokens", {"precision": "int8", "provider": "cpu"}, (True, "int8", "cpu", 128, 7)),
        ("modernrank fp16 cuda", "mix", {"precision": "fp16", "provider": "cuda"}, (True, "fp16", "cuda", None, None)),
        ("modernrank fp32", "mix", {}, (True, "fp32", "", None, 7)),
        ("transformers bf16, compiled", "32 x 128 tokens", {}, (False, "bf16", "", None, None)),
        ("sentence-transformers OpenVINO", "a.jsonl", {}, (False, "", "", None, None)),
    ],
)
def test_fields_that_schema_1_expressed_in_names(
    tmp_path: Path, contender: str, workload: str, runtime: dict[str, str], fields: tuple[object, ...]
) -> None:
    entry = {"contender": contender, "scenario": "query", "workload": workload, "runtime": runtime}
    old = {"schema": 1, "environment": {"artifact": {"linear_flops": 7}}, "measurements": [entry]}
    (tmp_path / "old.json").write_text(json.dumps(old))
    (m,) = Result.read(tmp_path / "old.json").measurements
    assert (m.ours, m.precision, m.provider, m.tokens_per_pair, m.flops_per_token) == fields


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_results_of_this_repository_are_shown_and_drawn(path: Path, tmp_path: Path) -> None:
    result = Result.read(path)
    rows = rows_of(result)
    assert [row["contender"] for row in rows] == [m.contender for m in result.measurements]
    with_share = [m for m in result.measurements if m.ours and m.scenario != "cold"]
    with_share = [m for m in with_share if m.precision in result.environment.get("peak", {})]
    content = json.loads(path.read_text())
    if content["schema"] == 1 and "linear_flops" not in content["environment"]["artifact"]:
        with_share = []  # an early file
    assert [row["contender"] for row in rows if row.get("share of peak")] == [m.contender for m in with_share]
    try:
        names = {file.stem for file in plot(result, tmp_path, "svg")}
    except InputError:
        names = set()
    assert names == PLOTS[path.stem]


def test_the_table_shows_speed_and_fidelity() -> None:
    fields = {"ours": True, "precision": "int8", "flops_per_token": 10**9}
    ours = measurement(fidelity={"rms": 0.004}, padding=0.0, **fields)
    row, slower = table_rows(ours, measurement("sentence-transformers fp32", seconds=9.0))
    assert row["speed-up"] == "9.00"
    assert slower["speed-up"] == "1.00"
    assert row["RMS error"] == "0.40%"
    assert row["padding"] == "0.0%"
    assert row["share of peak"] == "50%"
    assert row["latency, ms"].startswith("p50 1,010.0, p90 ")
    assert "10 samples" in row["latency, ms"]


@pytest.mark.parametrize("missing", [{"precision": "fp32"}, {"flops_per_token": None}, {"scenario": "cold"}])
def test_a_share_of_the_peak_requires_what_it_is_computed_from(missing: dict[str, object]) -> None:
    fields = {"precision": "int8", "flops_per_token": 10**9} | missing
    (row,) = table_rows(measurement(**fields))
    assert "share of peak" not in row


def test_the_table_begins_with_the_environment() -> None:
    line = markdown(Result(ENVIRONMENT, [measurement()])).splitlines()[0]
    for fact in ("a processor", "2 threads", "abc", "800 GOP/s"):
        assert fact in line


def test_a_failure_stays_in_the_table_with_its_error() -> None:
    broken = Measurement("sentence-transformers OpenVINO", "query", "mix", error="no such | architecture")
    _, row = table_rows(measurement(), broken)
    assert row["contender"] == "sentence-transformers OpenVINO"
    assert row["workload"] == "mix"
    assert any("no such \\| architecture" in cell for cell in row.values())


def test_a_result_of_failures_alone_gives_a_table() -> None:
    failed = [Measurement(name, "query", "mix", error="it broke") for name in ("first", "second")]
    rows = table_rows(*failed)
    assert [row["contender"] for row in rows] == ["first", "second"]
    assert all("it broke" in row["result"] for row in rows)


def test_a_failure_before_a_measurement_leaves_the_columns_as_they_are() -> None:
    failed = Measurement("other", "query", "mix", error="it broke")
    assert table_rows(failed, measurement()) == table_rows(measurement(), failed)[::-1]


@pytest.mark.parametrize(("scenario", "flagged"), [("query", True), ("server", False)])
def test_noise_is_flagged(scenario: str, flagged: bool) -> None:
    noisy = measurement(seconds=[1.0, 1.0, 1.5, 1.6, 1.1, 1.7], scenario=scenario, elapsed=9.0)
    assert bool(noise(noisy)) == flagged
    assert not noise(measurement())
    assert all(line in markdown(Result(ENVIRONMENT, [noisy])) for line in noise(noisy))


@pytest.mark.parametrize(
    ("factor", "verdict"), [(0.8, "faster"), (1.0, "the same"), (1.03, "the same"), (1.3, "slower")]
)
def test_compare_tells_change_from_noise(factor: float, verdict: str) -> None:
    before, after = (Result(ENVIRONMENT, [measurement(seconds=s)]) for s in (1.0, factor))
    comparison = compare(before, after, threshold=0.05)
    (change,) = comparison.changes
    assert change.verdict == verdict
    assert change.ratio == pytest.approx(factor)
    assert comparison.slower == (verdict == "slower")
    assert verdict in str(change)


def test_few_samples_are_not_judged() -> None:
    before, after = (Result(ENVIRONMENT, [measurement(seconds=[s] * 4)]) for s in (1.0, 9.0))
    comparison = compare(before, after, 0.05)
    assert [change.verdict for change in comparison.changes] == ["too few samples"]
    assert not comparison.slower


def test_compare_names_what_has_no_match() -> None:
    before = [measurement(), measurement("gone")]
    after = [measurement(), Measurement("broken", "query", "mix", error="it broke"), measurement("new")]
    failed, gone, new = compare(Result(ENVIRONMENT, before), Result(ENVIRONMENT, after), 0.05).unmatched
    assert "it broke" in failed
    assert "gone" in gone
    assert "new" in new


def rows_with_everything() -> list[Measurement]:
    """Measurements with the data of every plot."""
    return [
        measurement(),
        measurement("peer", 3.0, parameters={"batch": 1}),
        measurement("peer", 2.0, parameters={"batch": 8}),
        *(measurement(workload=f"{n} tokens", tokens_per_pair=n) for n in (128, 512)),
        *(measurement(scenario="server", parameters={"rate": rate}, elapsed=9.0) for rate in (1.0, 2.0)),
    ]


def test_plots_are_drawn_for_which_there_is_data(tmp_path: Path) -> None:
    result = Result(ENVIRONMENT, rows_with_everything())
    files = plot(result, tmp_path, "svg")
    assert [file.name for file in files] == ["throughput.svg", "batch.svg", "length.svg", "load.svg"]
    assert all(file.read_text().lstrip().startswith("<?xml") for file in files)
    first = files[0].read_bytes()
    plot(result, tmp_path, "svg")
    assert files[0].read_bytes() == first, "the same result must give the same file"


def test_calls_of_many_pairs_are_not_drawn_by_the_length_of_one(tmp_path: Path) -> None:
    rows = [measurement(tokens_per_pair=n, parameters={"documents": 32}, workload=str(n)) for n in (128, 512)]
    with pytest.raises(InputError):
        plot(Result(ENVIRONMENT, rows), tmp_path, "svg")
