"""Workloads, scenarios and the machine, on a tiny model: what is measured and kept, never how fast it is."""

import dataclasses
import json
from pathlib import Path

import pytest

from modernrank import InputError, ModernRankError, Reranker
from modernrank.artifact.folder import Artifact
from modernrank.benchmarks.measure import concurrent, scenarios
from modernrank.benchmarks.measure.concurrent import Arrivals, Concurrency
from modernrank.benchmarks.measure.environment import describe
from modernrank.benchmarks.measure.machine_peak import cpu_peaks
from modernrank.benchmarks.measure.scenarios import Budget, Subject
from modernrank.benchmarks.measure.workload import (
    MIX,
    CountTokens,
    Workload,
    WorkloadOptions,
    fixed,
    from_file,
    make_workloads,
    mix,
)
from modernrank.benchmarks.op_counts import count_graph
from modernrank.export.report import silent
from modernrank.text.checks import Pair

WORKLOAD = Workload("two", [[("a b", "c d e"), ("a b", "f")], [("g", "h i")]])


@pytest.fixture
def subject(reranker: Reranker, artifacts: Path) -> Subject:
    return Subject(Artifact.open(artifacts / "tiny"), reranker, {"threads": 1})


def tokens(reranker: Reranker, workload: Workload) -> list[int]:
    return [reranker.plan([pair]).pair_tokens for pair in workload.pairs]


@pytest.fixture
def count(subject: Subject) -> CountTokens:
    return subject.artifact.encoder().count


@pytest.mark.parametrize("length", [24, 128, 512])
def test_fixed_workloads_have_exactly_their_length(reranker: Reranker, count: CountTokens, length: int) -> None:
    made = fixed(length, 3, 2, count, seed=1)
    assert made.tokens_per_pair == length
    assert [len(group) for group in made.queries] == [3, 3]
    assert tokens(reranker, made) == [length] * 6


def test_a_length_below_the_query_is_refused(count: CountTokens) -> None:
    with pytest.raises(InputError) as error:
        fixed(5, 1, 1, count, seed=0)
    assert error.value.details["value"] == 5
    assert error.value.details["limit"] > 5


def test_the_mix_follows_its_histogram_and_its_seed(reranker: Reranker, count: CountTokens) -> None:
    made = mix(40, 1, count, seed=0)
    lengths = sorted(tokens(reranker, made))
    assert MIX[0] <= lengths[0]
    assert lengths[-1] <= MIX[-1]
    assert MIX[5] < lengths[20] < MIX[15]
    assert made.tokens_per_pair is None
    assert made == mix(40, 1, count, seed=0)
    assert made != mix(40, 1, count, seed=1)


def write_pairs(file: Path, pairs: list[Pair]) -> str:
    file.write_text("".join(json.dumps({"query": q, "document": d}) + "\n" for q, d in pairs))
    return str(file)


def test_a_file_is_grouped_by_query(tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "pairs.jsonl", [("a", "x"), ("b", "y"), ("a", "z"), ("a", "w")])
    assert from_file(file, documents=2).queries == [[("a", "x"), ("a", "z")], [("b", "y")]]


def test_a_file_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pairs\.jsonl"):
        from_file(write_pairs(tmp_path / "pairs.jsonl", []))


def test_workloads_are_files_then_lengths_then_the_mix(tmp_path: Path, count: CountTokens) -> None:
    file = write_pairs(tmp_path / "pairs.jsonl", [("a", "x")])
    options = WorkloadOptions((file,), (32, 64), mix=True, documents=2, queries=3)
    made = make_workloads(options, count)
    assert [workload.name for workload in made] == ["pairs.jsonl", "32 tokens", "64 tokens", "mix"]
    assert [len(workload.pairs) for workload in made] == [1, 6, 6, 6]


def test_the_default_workload_is_a_query_of_passages(count: CountTokens) -> None:
    (workload,) = make_workloads(WorkloadOptions(), count)
    assert workload.name == "mix"
    assert [len(query) for query in workload.queries] == [100]


@pytest.mark.parametrize(("name", "pairs"), [("query", 6), ("single", 4), ("offline", 12)])
def test_scenarios_keep_samples_counts_and_stages(subject: Subject, name: str, pairs: int) -> None:
    m = getattr(scenarios, name)(subject, WORKLOAD, Budget(seconds=0, samples=4), silent)
    assert (m.contender, m.scenario, m.workload) == ("modernrank fp32", name, "two")
    assert (m.ours, m.precision, m.provider, m.tokens_per_pair) == (True, "fp32", "cpu", None)
    assert len(m.seconds) == 4
    assert m.pairs == pairs
    assert m.tokens > pairs
    assert m.stages.keys() == {"tokenise", "plan", "pack", "run", "unpack"}
    assert m.stages["run"] > 0
    assert m.padding == 0
    assert m.runtime["provider"] == "cpu"


def test_the_operations_are_those_of_the_graph_that_ran(artifacts: Path, tmp_path: Path) -> None:
    folder = artifacts / "tiny-int8"
    artifact = Artifact.open(folder)
    (graph,) = artifact.manifest.graphs
    fp32 = dataclasses.replace(graph, precision="fp32", file="another.onnx")
    several = dataclasses.replace(artifact, manifest=dataclasses.replace(artifact.manifest, graphs=[fp32, graph]))
    with Reranker.load(folder, precision="int8", threads=1) as reranker:
        m = scenarios.single(Subject(several, reranker), WORKLOAD, Budget(0, 1), silent)
    assert m.flops_per_token == count_graph(folder / graph.file).linear_flops


def test_a_measurement_lasts_as_long_as_its_budget(subject: Subject) -> None:
    m = scenarios.single(subject, WORKLOAD, Budget(seconds=0.2, samples=1), silent)
    assert m.elapsed >= 0.2
    assert len(m.seconds) > 1


def test_the_server_scenario_answers_every_arrival(subject: Subject) -> None:
    arrivals, budget = Arrivals((50, 100), seed=3), Budget(0.1, 10)
    first, again = (list(concurrent.server(subject, WORKLOAD, arrivals, budget, silent)) for _ in range(2))
    assert [m.parameters for m in first] == [{"rate": 50}, {"rate": 100}]
    assert all(len(m.seconds) == 10 and min(m.seconds) > 0 for m in first)
    assert [m.tokens for m in first] == [m.tokens for m in again], "arrivals must follow from the seed"


def test_the_rate_within_a_bound_requires_a_p99(subject: Subject) -> None:
    rates = Arrivals((100.0,))
    (few,) = concurrent.server(subject, WORKLOAD, rates, Budget(0, 10), silent)
    enough = dataclasses.replace(few, seconds=[0.1] * 100)
    assert concurrent.rate_within([few], 1e9) is None
    assert concurrent.rate_within([few, enough], 0.2) == 100.0
    assert concurrent.rate_within([few, enough], 0.05) is None


def test_the_mixed_scenario_measures_each_class_alone_and_beside_the_other(subject: Subject) -> None:
    concurrency = Concurrency(list_priority=1)
    budget = Budget(0.1, 30)
    measured = list(concurrent.mixed(subject, WORKLOAD, Arrivals((200.0,)), concurrency, budget, silent))
    assert [(m.parameters["class"], m.parameters["beside"]) for m in measured] == [
        ("queries", "nothing"),
        ("lists", "nothing"),
        ("queries", "lists"),
        ("lists", "queries"),
    ]
    assert [len(m.seconds) for m in measured] == [30, 3, 30, 3]
    assert {m.parameters["list priority"] for m in measured} == {1}
    assert all(m.pairs > 0 and m.pairs_per_second > 0 for m in measured)
    assert measured[0].details["loop late max"] >= measured[0].details["loop late p50"]


def test_many_callers_take_turns_with_one_list(subject: Subject) -> None:
    one, many = concurrent.callers(subject, WORKLOAD, Concurrency(callers=4), Budget(0.3, 1), silent)
    assert (one.parameters, many.parameters) == ({"callers": 1}, {"callers": 4})
    assert (one.pairs, len(one.seconds)) == (9, 3)
    assert many.pairs >= 4 * 3 and len(many.seconds) >= 4 * 3


def test_impossible_concurrency_is_refused() -> None:
    for options in ({"callers": 0}, {"list_priority": -1}):
        with pytest.raises(InputError):
            Concurrency(**options)


def test_a_cold_start_has_parts(subject: Subject) -> None:
    m = scenarios.cold(subject, WORKLOAD, Budget(0, 1), silent)
    (whole,), (parts,) = m.seconds, m.details["parts"]
    assert parts.keys() == {"import", "load", "first_score"}
    assert sum(parts.values()) < whole


def test_a_cold_start_that_fails_names_the_error(subject: Subject) -> None:
    moved = dataclasses.replace(subject, artifact=dataclasses.replace(subject.artifact, folder=Path("no/artifact")))
    with pytest.raises(ModernRankError, match="no/artifact"):
        scenarios.cold(moved, WORKLOAD, Budget(0, 1), silent)


@pytest.mark.parametrize("options", [(Budget, (-1.0,)), (Budget, (1.0, 0)), (Arrivals, ((0.0,),))])
def test_impossible_options_are_refused(options: tuple[type, tuple[object, ...]]) -> None:
    kind, arguments = options
    with pytest.raises(InputError):
        kind(*arguments)


def test_the_environment_is_complete() -> None:
    environment = describe(seed=7)
    assert environment.keys() == {"command", "created", "commit", "seed", "machine", "versions"}
    assert environment["machine"]["processor"]
    assert environment["machine"]["threads"] >= 1


def test_the_peak_of_matrix_products_is_measured() -> None:
    peaks = cpu_peaks(0.05)
    assert peaks.keys() == {"int8", "fp32"}
    assert min(peaks.values()) > 0
