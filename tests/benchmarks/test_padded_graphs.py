"""Padded graphs side by side: what is run, and what the result keeps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from modernrank import InputError
from modernrank.artifact.manifest import FILE_NAME
from modernrank.benchmarks import padded_graphs
from modernrank.benchmarks.padded_graphs import MIXED_BATCHES, MIXED_ROWS, MIXED_TOKENS, compare_padded, make_batches
from modernrank.benchmarks.reporting.result import Result


@pytest.fixture
def reference(artifacts: Path, tmp_path: Path) -> Path:
    """Our own graph under the name of optimum's, which cannot be exported here."""
    folder = Path(shutil.copytree(artifacts / "tiny-padded", tmp_path / "reference"))
    manifest = json.loads((folder / FILE_NAME).read_text())
    manifest["graphs"][0]["dialect"] = "reference"
    (folder / FILE_NAME).write_text(json.dumps(manifest))
    return folder


def test_the_result_has_every_sample_of_both(artifacts: Path, reference: Path) -> None:
    lines: list[str] = []
    result = compare_padded(
        [artifacts / "tiny-padded", reference], threads=1, shapes=[(2, 9)], rounds=3, report=lines.append
    )
    assert [(m.contender, m.workload, m.ours, len(m.seconds)) for m in result.measurements] == [
        ("modernrank fp32 padded", "2 x 9 tokens", True, 3),
        ("optimum fp32", "2 x 9 tokens", False, 3),
        ("modernrank fp32 padded", "16 x 20 to 400 tokens", True, 3),
        ("optimum fp32", "16 x 20 to 400 tokens", False, 3),
    ]
    assert len(lines) == 2
    assert result.measurements[0].tokens == 3 * 2 * 9
    assert result.measurements[3].pairs == 3 * MIXED_ROWS * MIXED_BATCHES
    assert all(m.fidelity["largest_difference"] == 0 for m in result.measurements)
    assert result.environment["threads"] == 1


def test_mixed_lengths_have_padding_and_others_none() -> None:
    *uniform, mixed = make_batches([(1, 128), (8, 16)], vocabulary=512)
    assert [batches.padding for batches in uniform] == [0, 0]
    assert 0.2 < mixed.padding < 0.7
    for inputs in mixed.inputs:
        lengths = inputs["attention_mask"].sum(axis=1)
        assert inputs["input_ids"].shape == (MIXED_ROWS, lengths.max())
        assert MIXED_TOKENS[0] <= lengths.min()
        assert lengths.max() <= MIXED_TOKENS[1]


def test_a_packed_graph_is_refused(artifacts: Path) -> None:
    with pytest.raises(InputError) as refused:
        compare_padded([artifacts / "tiny"])
    assert refused.value.details["value"] == str(artifacts / "tiny")


def test_the_same_kind_twice_is_refused(artifacts: Path) -> None:
    with pytest.raises(InputError, match="modernrank fp32 padded"):
        compare_padded([artifacts / "tiny-padded", artifacts / "tiny-padded"])


def test_the_command_prints_a_table_and_writes_the_result(
    artifacts: Path,
    reference: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "result.json"
    arguments = [str(artifacts / "tiny-padded"), str(reference), "--threads", "1", "--rounds", "1", "--out", str(out)]
    padded_graphs.main(arguments)
    assert len(Result.read(out).measurements) == 2 * (len(padded_graphs.SHAPES) + 1)
    assert "speed-up" in capsys.readouterr().out
