"""The benchmark suite on a tiny model: what is measured and kept, never how fast it is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modernrank import InputError, ModernRankError, Reranker
from modernrank.benchmarks.measure import scenarios
from modernrank.benchmarks.measure.environment import describe, matrix_product_peak, peak_memory
from modernrank.benchmarks.measure.scenarios import Budget, Subject
from modernrank.benchmarks.measure.workload import MIX, Workload, fixed, from_file, mix
from modernrank.benchmarks.peers.environments import PeerError, environment_of
from modernrank.benchmarks.peers.peer_process import PEERS
from modernrank.benchmarks.peers.turns import Contender, own_precisions, race
from modernrank.benchmarks.reporting.result import Result
from support.checkpoints import checkpoint

BUDGET = Budget(seconds=0.01, samples=4)
WORKLOAD = Workload("two", [[("a b", "c d e"), ("a b", "f")], [("g", "h i")]])


def quiet(message: str) -> None:
    """No progress."""


@pytest.fixture
def subject(reranker: Reranker) -> Subject:
    return Subject.of(reranker)


def tokens(reranker: Reranker, workload: Workload) -> list[int]:
    return [reranker.plan([pair]).pair_tokens for pair in workload.pairs]


@pytest.mark.parametrize("length", [24, 128, 512])
def test_fixed_workloads_have_exactly_their_length(reranker: Reranker, length: int) -> None:
    made = fixed(length, 3, 2, lambda pair: reranker.plan([pair]).pair_tokens, seed=1)
    assert made.name == f"{length} tokens" and [len(group) for group in made.queries] == [3, 3]
    assert tokens(reranker, made) == [length] * 6


def test_a_length_below_the_query_is_refused(reranker: Reranker) -> None:
    with pytest.raises(InputError, match="5 tokens are too few for the query"):
        fixed(5, 1, 1, lambda pair: reranker.plan([pair]).pair_tokens, seed=0)


def test_the_mix_follows_its_histogram_and_its_seed(reranker: Reranker) -> None:
    def made(seed: int) -> Workload:
        return mix(40, 1, lambda pair: reranker.plan([pair]).pair_tokens, seed)

    lengths = sorted(tokens(reranker, made(0)))
    assert MIX[0] <= lengths[0] and lengths[-1] <= MIX[-1] and MIX[5] < lengths[20] < MIX[15]
    assert made(0) == made(0) != made(1)


def test_a_file_is_grouped_by_query(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps({"query": q, "document": d}) + "\n" for q, d in ["ax", "by", "az", "aw"]))
    assert from_file(str(file), documents=2).queries == [[("a", "x"), ("a", "z")], [("b", "y")]]
    file.write_text("\n")
    with pytest.raises(InputError, match=r"pairs.jsonl holds no pairs"):
        from_file(str(file))


@pytest.mark.parametrize(("name", "pairs"), [("query", 6), ("single", 4), ("offline", 12)])
def test_scenarios_keep_samples_counts_and_stages(subject: Subject, name: str, pairs: int) -> None:
    found = getattr(scenarios, name)(subject, WORKLOAD, Budget(seconds=0, samples=4), quiet)
    assert (found.contender, found.scenario, found.workload) == ("modernrank fp32", name, "two")
    assert len(found.seconds) == 4 and found.pairs == pairs and found.tokens > pairs
    assert found.stages.keys() == {"tokenise", "plan", "pack", "run", "unpack"}
    assert found.stages["run"] > 0 and found.padding == 0 and found.runtime["provider"] == "cpu"


def test_a_measurement_lasts_as_long_as_it_must(subject: Subject) -> None:
    found = scenarios.single(subject, WORKLOAD, Budget(seconds=0.2, samples=1), quiet)
    assert found.elapsed >= 0.2 and len(found.seconds) > 1


def test_the_server_scenario_answers_every_arrival(subject: Subject) -> None:
    rates = [50.0, 100.0]
    found = list(scenarios.server(subject, WORKLOAD, rates, Budget(0.2, 20), seed=3, report=quiet))
    assert [m.parameters for m in found] == [{"rate": 50.0}, {"rate": 100.0}]
    assert all(len(m.seconds) == 20 and min(m.seconds) > 0 for m in found)
    again = list(scenarios.server(subject, WORKLOAD, rates, Budget(0.2, 20), seed=3, report=quiet))
    assert [m.tokens for m in found] == [m.tokens for m in again], "arrivals must follow from the seed"
    assert scenarios.rate_within(found, 1e9) is None, "20 samples carry no p99"


def test_a_cold_start_is_told_in_parts(subject: Subject, artifacts: Path) -> None:
    found = scenarios.cold(subject, artifacts / "tiny", WORKLOAD, Budget(0, 2), quiet)
    assert len(found.seconds) == len(found.details["parts"]) == 2
    for whole, parts in zip(found.seconds, found.details["parts"], strict=True):
        assert parts.keys() == {"import", "load", "first_score"}
        assert sum(parts.values()) < whole
    with pytest.raises(ModernRankError, match="a new process could not score a pair: .*no/artifact"):
        scenarios.cold(subject, Path("no/artifact"), WORKLOAD, BUDGET, quiet)


def test_the_environment_is_complete() -> None:
    found = describe(seed=7)
    assert found.keys() == {"command", "created", "commit", "seed", "machine", "versions"}
    assert found["machine"]["processor"] and found["machine"]["threads"] >= 1
    assert peak_memory() > 10_000_000
    assert matrix_product_peak("fp32", 0.05) > 0 and matrix_product_peak("int8", 0.05) > 0


def test_a_race_compares_all_and_keeps_those_that_fail(artifacts: Path) -> None:
    code = "import sys; print('loading', file=sys.stderr); raise RuntimeError('no such architecture')"
    broken = Contender("broken", lambda: [sys.executable, "-c", code], (1, 8))
    killed = Contender("killed", lambda: [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], (1,))
    contenders = [*own_precisions([artifacts / "tiny", artifacts / "tiny-int8"], threads=1), broken, killed]
    found = {m.contender: m for m in race(contenders, WORKLOAD, 30, rounds=2, report=quiet)}
    assert list(found) == ["modernrank fp32", "modernrank int8", "broken", "killed"]
    for name in ("modernrank fp32", "modernrank int8"):
        assert len(found[name].seconds) == 2 and found[name].pairs == 6 and found[name].tokens == 60
        assert found[name].peak_memory and found[name].parameters == {"documents": 3}
    assert found["broken"].error == "RuntimeError: no such architecture"
    assert "killed by signal 9, as for lack of memory" in str(found["killed"].error)


def test_every_peer_has_an_environment_and_an_unknown_one_is_named() -> None:
    assert {environment_of(peer) for peer in PEERS} == {"torch", "optimum", "openvino"}
    with pytest.raises(PeerError, match="there is no peer 'mine'; choose from: transformers fp32; "):
        environment_of("mine")


def bench(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "modernrank", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_measures_reports_draws_and_compares(artifacts: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    quick = ("--seconds", 0.01, "--samples", 5, "--out", out)
    done = bench("run", artifacts / "tiny", "--length", 32, "--length", 64, "--scenario", "single", *quick)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| modernrank fp32 | single |") == 2
    result = Result.read(out)
    assert result.environment["peak"].keys() == {"int8", "fp32"} and result.environment["artifact"]["linear_flops"]
    shown = bench("report", out, "--plots", tmp_path / "plots", "--format", "png")
    assert shown.returncode == 0 and shown.stdout == done.stdout
    assert (tmp_path / "plots" / "length.png").is_file()
    same = bench("compare", out, out)
    assert same.returncode == 0 and same.stdout.count("the same") == 2


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("run", "TINY", "--scenario", "fast"), "invalid choice: 'fast'", 2),
        (("run", "TINY", "--precision", "int8"), "int8", 1),
        (("run", "TINY", "--pairs", "EMPTY"), "holds no pairs", 1),
        (("run", "absent"), "absent", 1),
        (("peers", "CHECKPOINT", "TINY", "--peer", "mine", "--length", "32"), "there is no peer 'mine'", 1),
        (("compare", "EMPTY", "EMPTY"), "is not a result of", 1),
    ],
)
def test_bad_requests_are_one_line(
    artifacts: Path, tmp_path: Path, arguments: tuple[str, ...], message: str, code: int
) -> None:
    (tmp_path / "empty").touch()
    places = {"TINY": artifacts / "tiny", "EMPTY": tmp_path / "empty", "CHECKPOINT": checkpoint("tiny")}
    done = bench(*(places.get(argument, argument) for argument in arguments))
    assert done.returncode == code
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
