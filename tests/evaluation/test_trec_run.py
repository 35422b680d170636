"""A run file keeps whole rankings, and nothing of another evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modernrank import InputError
from modernrank.evaluation.formats import EvaluationSet
from modernrank.evaluation.trec_run import Ranking, RunFile

RANKINGS: dict[str, Ranking] = {
    "q1": [("d3", 1.5), ("d0", 0.1), ("d2", -1e-7), ("d1", -2.25)],
    "q2": [("d3", 0.3), ("d4", 0.2), ("d5", 0.1)],
}


@pytest.fixture
def run_file(tmp_path: Path, data: EvaluationSet) -> RunFile:
    """A complete run."""
    file = RunFile(tmp_path / "runs" / "a b.run", {"precision": "fp32"})
    file.resume(data)
    for query, ranking in RANKINGS.items():
        file.add(query, ranking)
    return file


def test_a_new_run_is_empty(tmp_path: Path, data: EvaluationSet) -> None:
    assert RunFile(tmp_path / "new.run", {}).resume(data) == {}


def test_a_complete_run_is_read_to_the_last_bit(run_file: RunFile, data: EvaluationSet) -> None:
    assert run_file.resume(data) == RANKINGS


def test_the_format_is_that_of_trec(run_file: RunFile) -> None:
    assert run_file.path.read_text().splitlines()[:2] == ["q1 Q0 d3 1 1.5 a-b", "q1 Q0 d0 2 0.1 a-b"]


def test_the_provenance_is_recorded(run_file: RunFile) -> None:
    assert json.loads(Path(f"{run_file.path}.json").read_text()) == {"precision": "fp32"}


def test_resuming_leaves_a_complete_file_as_it_is(run_file: RunFile, data: EvaluationSet) -> None:
    before = run_file.path.read_text()
    run_file.resume(data)
    assert run_file.path.read_text() == before


@pytest.mark.parametrize(
    ("complete", "damaged"),
    [
        ("q2 Q0 d4 2 0.2 a-b\nq2 Q0 d5 3 0.1 a-b\n", "q2 Q0 d4"),  # stopped in a line
        ("q2 Q0 d4 2 0.2 a-b\nq2 Q0 d5 3 0.1 a-b\n", ""),  # stopped after a line
        ("q2 Q0 d5 3 0.1 a-b\n", "q2 Q0 d5 3 x a-b\n"),  # not a score
        ("q2 Q0 d5 3 0.1 a-b\n", "q2 Q0 d0 3 0.1 a-b\n"),  # not a candidate
    ],
)
def test_a_query_that_is_not_whole_is_removed(
    run_file: RunFile, data: EvaluationSet, complete: str, damaged: str
) -> None:
    text = run_file.path.read_text()
    assert complete in text
    run_file.path.write_text(text.replace(complete, damaged))
    assert run_file.resume(data) == {"q1": RANKINGS["q1"]}
    assert "q2" not in run_file.path.read_text()


def test_a_run_of_another_evaluation_is_refused(run_file: RunFile, data: EvaluationSet) -> None:
    other = RunFile(run_file.path, {"precision": "int8", "provider": "cpu"})
    with pytest.raises(InputError) as raised:
        other.resume(data)
    assert raised.value.details == {"file": str(run_file.path), "differing": ["precision", "provider"]}


def test_a_run_of_unknown_provenance_is_refused(run_file: RunFile, data: EvaluationSet) -> None:
    Path(f"{run_file.path}.json").unlink()
    with pytest.raises(InputError) as raised:
        run_file.resume(data)
    assert raised.value.details["differing"] == ["precision"]


def test_a_query_whose_lines_are_damaged_is_removed(run_file: RunFile, data: EvaluationSet) -> None:
    content = run_file.path.read_bytes()
    run_file.path.write_bytes(content.replace(b"q2 Q0", b"q2 Q\xff", 1).replace(b"q2 Q\xff", b"\xff2 Q0", 1))
    assert run_file.resume(data) == {"q1": RANKINGS["q1"]}
