"""``modernrank bench`` and the functions that it calls, in this process."""

import dataclasses
from pathlib import Path

import pytest

from modernrank import InputError
from modernrank.benchmarks.measure.scenarios import Budget
from modernrank.benchmarks.measure.workload import WorkloadOptions
from modernrank.benchmarks.peers.contenders import PeerSetup
from modernrank.benchmarks.reporting.result import Result
from modernrank.benchmarks.run import LOADS, PeersOptions, ScenarioOptions, run_peers, run_scenarios
from modernrank.cli import main
from support.checkpoints import checkpoint

SHORT = WorkloadOptions(lengths=(32,))


def bench(*arguments: object) -> int:
    return main(["bench", *map(str, arguments)])


@pytest.fixture(scope="module")
def result_file(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of ``bench run`` on two lengths."""
    out = tmp_path_factory.mktemp("bench") / "a.json"
    quick = ("--seconds", 0.01, "--samples", 5, "--peak-seconds", 0.01, "--threads", 1, "--out", out)
    assert bench("run", artifacts / "tiny", "--length", 32, "--length", 64, "--scenario", "single", *quick) == 0
    return out


def test_run_writes_its_measurements(result_file: Path) -> None:
    result = Result.read(result_file)
    assert [(m.scenario, m.tokens_per_pair) for m in result.measurements] == [("single", 32), ("single", 64)]
    assert all(m.flops_per_token and m.runtime["threads"] == 1 for m in result.measurements)
    assert result.environment["peak"].keys() == {"int8", "fp32"}
    (artifact,) = result.environment["artifacts"]
    assert artifact["name"] == "tiny"
    assert artifact["files"].keys() >= {"tokenizer.json"}


def test_report_prints_the_table_and_draws(
    result_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("report", result_file, "--plots", tmp_path / "plots", "--format", "png") == 0
    assert capsys.readouterr().out.count("| modernrank fp32 | single |") == 2
    assert [file.name for file in (tmp_path / "plots").iterdir()] == ["length.png"]


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (2.0, 1)])
def test_compare_exits_with_1_if_something_is_slower(
    result_file: Path, tmp_path: Path, factor: float, code: int
) -> None:
    result = Result.read(result_file)
    first = [dataclasses.replace(m, seconds=[0.01] * 5) for m in result.measurements]
    later = [dataclasses.replace(m, seconds=[0.01 * factor] * 5) for m in result.measurements]
    for name, measurements in (("first", first), ("later", later)):
        Result(result.environment, measurements).write(tmp_path / name)
    assert bench("compare", tmp_path / "first", tmp_path / "later") == code


def test_scenarios_run_on_every_workload(artifacts: Path) -> None:
    options = ScenarioOptions(("query", "server"), SHORT, Budget(0, 2), rates=(100.0,), peak_seconds=0.01)
    result = run_scenarios(artifacts / "tiny", options, threads=1)
    assert [m.scenario for m in result.measurements] == ["query", "server"]


def test_without_rates_the_server_scenario_measures_shares_of_the_capacity(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modernrank.benchmarks.run.CAPACITY_BUDGET", Budget(0, 2))
    options = ScenarioOptions(("server",), SHORT, Budget(0, 2), peak_seconds=0.01)
    rates = [m.parameters["rate"] for m in run_scenarios(artifacts / "tiny", options, threads=1).measurements]
    assert [rate / rates[0] for rate in rates] == pytest.approx([load / LOADS[0] for load in LOADS], rel=0.01)


def test_an_unknown_scenario_is_refused() -> None:
    with pytest.raises(InputError) as error:
        ScenarioOptions(("fast",))  # type: ignore[arg-type]
    assert error.value.details["value"] == "fast"


def test_the_rate_within_a_bound_is_printed(artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ("--seconds", 0, "--samples", 100, "--peak-seconds", 0.01, "--threads", 1)
    code = bench(
        *("run", artifacts / "tiny", "--length", 24, "--scenario", "server", "--rate", 1000, "--p99-bound", 99), *quick
    )
    assert code == 0
    assert "1000" in capsys.readouterr().out.splitlines()[0]


def test_a_peer_that_fails_stays_in_the_result(artifacts: Path, tmp_path: Path) -> None:
    setup = PeerSetup(tmp_path / "no checkpoint", threads=1, batches=(1,), folder=tmp_path, this_environment=True)
    options = PeersOptions(SHORT, ("transformers fp32",), rounds=1, peak_seconds=0.01)
    ours, peer = run_peers([artifacts / "tiny"], setup, options, provider="cpu").measurements
    assert (ours.ours, ours.error, len(ours.seconds)) == (True, None, 1)
    assert (peer.ours, peer.precision, peer.provider) == (False, "fp32", "cpu")
    assert peer.error


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("run", "TINY", "--precision", "int8"), "int8"),
        (("run", "TINY", "--pairs", "EMPTY"), "empty"),
        (("run", "TINY", "--seconds", "-1"), "-1"),
        (("run", "absent"), "absent"),
        (("peers", "CHECKPOINT", "TINY", "--peer", "mine", "--length", "32"), "'mine'"),
        (("compare", "EMPTY", "EMPTY"), "empty"),
    ],
)
def test_bad_requests_are_one_line(
    artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], fact: str
) -> None:
    (tmp_path / "empty").touch()
    places = {"TINY": artifacts / "tiny", "EMPTY": tmp_path / "empty", "CHECKPOINT": checkpoint("tiny")}
    assert bench(*(places.get(argument, argument) for argument in arguments)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert fact in line


@pytest.mark.parametrize(
    "options", [("--scenario", "fast"), ("--precision", "int4"), ("--provider", "npu"), ("--samples", "0")]
)
def test_unknown_choices_are_wrong_usage(capsys: pytest.CaptureFixture[str], options: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench("run", "TINY", *options)
    assert stopped.value.code == 2
    assert options[1] in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "peers"])
@pytest.mark.parametrize("out", ["missing/x.json", "."])
def test_a_result_that_could_not_be_written_is_refused_before_the_work(
    artifacts: Path, command: str, out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [artifacts / "tiny"] if command == "run" else [checkpoint("tiny"), artifacts / "tiny"]
    assert bench(command, *folders, "--length", 32, "--out", tmp_path / out) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1


def test_pairs_longer_than_the_model_accepts_are_refused(artifacts: Path) -> None:
    with pytest.raises(InputError) as caught:
        run_scenarios(artifacts / "tiny", ScenarioOptions(workloads=WorkloadOptions(lengths=(64, 12_000))))
    assert (caught.value.details["value"], caught.value.details["limit"]) == (12_000, 8192)


@pytest.mark.parametrize("option", ["--rate", "--p99-bound", "--peak-seconds"])
@pytest.mark.parametrize("value", ["inf", "nan", "0", "-1", "x"])
def test_what_is_no_positive_number_is_wrong_usage(artifacts: Path, option: str, value: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench("run", artifacts / "tiny", f"{option}={value}")
    assert stopped.value.code == 2
