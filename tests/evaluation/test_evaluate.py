"""``modernrank eval`` parses, compares and prints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from modernrank.cli import main
from support.artifacts import edit_manifest


def test_the_table_is_printed(folder: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(artifacts / "tiny"), "--beir", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("note: 1 query ")
    assert lines[1].startswith("2 queries;")
    assert [line.partition("  ")[0] for line in lines[3:]] == ["first stage", "tiny fp32"]


def test_the_figures_are_printed_and_written_as_json(
    folder: Path, artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    assert main(["eval", str(artifacts / "tiny"), "--beir", str(folder), "--json", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text())
    assert set(printed["results"]) == {"first stage", "tiny fp32"}
    assert set(printed["results"]["tiny fp32"]["MAP"]) == {"mean", "low", "high", "change", "p"}


def test_figures_of_one_query_are_valid_json(folder: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No candidate is relevant, so that all means are 0."""
    (folder / "qrels" / "test.tsv").write_text("q1\td5\t1\n")
    assert main(["eval", str(artifacts / "tiny"), "--beir", str(folder), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    undefined = {"low": None, "high": None, "change": None, "p": None}
    assert figures["results"]["tiny fp32"]["MAP"] == {"mean": 0.0, **undefined}


def test_running_options_reach_the_model(
    folder: Path, artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--provider",
        "cpu",
        "--threads",
        "1",
        "--workers",
        "1",
        "--max-length",
        "32",
        "--long-documents",
        "chunk",
    ]
    runs = ["--runs", str(tmp_path / "runs")]
    assert main(["eval", str(artifacts / "tiny"), "--beir", str(folder), *options, *runs]) == 0
    provenance = json.loads((tmp_path / "runs" / "tiny-fp32.run.json").read_text())
    assert provenance["provider"] == "cpu"
    assert provenance["max_length"] == 32
    assert provenance["long_documents"] == "chunk"


def test_several_folders_have_figures_of_their_own_and_a_mean(
    folder: Path, artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "qrels" / "test.tsv").write_text("q1\td5\t1\n")
    arguments = ["eval", str(artifacts / "tiny"), "--beir", str(folder), "--beir", str(other)]
    runs = ["--runs", str(tmp_path / "runs")]

    assert main([*arguments, *runs, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert main([*arguments, *runs]) == 0
    lines = capsys.readouterr().out.splitlines()

    of_sets = [figures["sets"][name]["results"]["tiny fp32"]["MAP"]["mean"] for name in (folder.name, "other")]
    assert of_sets[1] == 0.0 < of_sets[0]
    assert figures["mean"]["tiny fp32"]["MAP"] == sum(of_sets) / 2
    assert {folder.name, "other"} <= set(lines)
    assert (tmp_path / "runs" / "other" / "tiny-fp32.run").is_file()
    assert float(lines[-1].split()[-1]) == pytest.approx(sum(of_sets) / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["--beir", "{folder}", "--beir", "{folder}"], "name"),
        (["--beir", "{folder}", "--beir", "x", "--candidates", "y"], "--candidates"),
        ([], "--queries, --candidates, --qrels"),
        (["--beir", "x", "--qrels", "y"], "--qrels"),
        (["--beir", "nowhere"], "nowhere"),
        (["--beir", "{folder}", "--precision", "auto", "--precision", "fp32"], "tiny fp32"),
        (["--beir", "{folder}", "--out", "nowhere/figures.json"], "nowhere"),
        (["--queries", "nowhere", "--candidates", "x", "--qrels", "y"], "nowhere"),
        (["--beir", "{folder}", "--provider", "cpu", "--device", "0"], "devices"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    arguments: list[str], fact: str, artifacts: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(folder=folder) for argument in arguments]
    assert main(["eval", str(artifacts / "tiny"), *given]) == 1
    assert fact in capsys.readouterr().err


@pytest.mark.parametrize("length", ["0", "-1", "many"])
def test_the_maximum_length_is_positive(length: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["eval", "anywhere", "--beir", "x", "--max-length", length])
    assert raised.value.code == 2


def test_runs_stay_in_their_folder_whatever_an_artifact_is_called(folder: Path, artifact: Path, tmp_path: Path) -> None:
    edit_manifest(artifact, lambda manifest: manifest.update(name="../../escaped"))
    runs = tmp_path / "a" / "b"
    assert main(["eval", str(artifact), "--beir", str(folder), "--runs", str(runs)]) == 0
    assert [file.parent for file in tmp_path.rglob("*escaped*")] == [runs] * 2
