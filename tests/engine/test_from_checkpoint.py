"""``Reranker.from_checkpoint``: exported once into a cache, again where the checkpoint changed, by one process only."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modernrank import ArtifactError, InputError, Reranker
from modernrank.artifact.manifest import Manifest
from modernrank.export.cache import cached_artifact, choose_graphs
from support.artifacts import DATA, MANIFEST, checkpoint_with_bias, flip_a_bit
from support.checkpoints import checkpoint

PAIRS = [("the terms of the license", document) for document in ("a", "derivative works", "notice " * 40)]


def exported(cache: Path) -> list[Path]:
    """The artifacts in a cache."""
    return sorted(path.parent for path in cache.rglob(MANIFEST))


def scores_of(folder: Path | str, **options: Any) -> list[float]:
    with Reranker.from_checkpoint(folder, threads=1, **options) as loaded:
        return loaded.score(PAIRS).tolist()


def test_scores_are_those_of_the_exported_artifact(tmp_path: Path, reranker: Reranker) -> None:
    assert scores_of(checkpoint("tiny"), cache=tmp_path) == reranker.score(PAIRS).tolist()
    assert len(exported(tmp_path)) == 1


def test_the_second_call_does_not_export_again(tmp_path: Path) -> None:
    scores_of(checkpoint("tiny"), cache=tmp_path)
    before = [(path, path.stat().st_mtime_ns) for path in exported(tmp_path)[0].iterdir()]
    scores_of(str(checkpoint("tiny")), cache=str(tmp_path))
    assert [(path, path.stat().st_mtime_ns) for path in exported(tmp_path)[0].iterdir()] == before


def test_a_changed_checkpoint_is_exported_again(tmp_path: Path) -> None:
    before = scores_of(checkpoint("tiny"), cache=tmp_path)
    changed = checkpoint_with_bias(tmp_path / "tiny", raised_by=2)
    after = scores_of(changed, cache=tmp_path)
    assert after == pytest.approx([score + 2 for score in before], abs=1e-5)
    assert len(exported(tmp_path)) == 2


@pytest.mark.parametrize(("variable", "below"), [("MODERNRANK_CACHE", ""), ("XDG_CACHE_HOME", "modernrank")])
def test_the_cache_folder_of_the_environment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, below: str
) -> None:
    monkeypatch.delenv("MODERNRANK_CACHE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    scores_of(checkpoint("tiny"))
    assert len(exported(tmp_path / below)) == 1


def test_an_artifact_in_a_cache_that_cannot_be_written_loads(tmp_path: Path) -> None:
    expected = scores_of(checkpoint("tiny"), cache=tmp_path)
    (artifact,) = exported(tmp_path)
    folders = [artifact, *list(artifact.parents)[: len(artifact.relative_to(tmp_path).parts)]]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert scores_of(checkpoint("tiny"), cache=tmp_path) == expected
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_cache_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="MODERNRANK_CACHE") as caught:
        Reranker.from_checkpoint(checkpoint("tiny"), cache=tmp_path / "file")
    assert caught.value.details["path"] == tmp_path / "file" / "artifacts"


def test_options_of_loading_are_passed_on(tmp_path: Path) -> None:
    with Reranker.from_checkpoint(checkpoint("tiny"), cache=tmp_path, threads=1, max_length=20) as loaded:
        assert loaded.max_length == 20
        assert loaded.info.threads == 1
    with pytest.raises(InputError) as caught:
        Reranker.from_checkpoint(checkpoint("tiny"), cache=tmp_path, max_length=0)
    assert caught.value.details["argument"] == "max_length"


@pytest.mark.slow
def test_a_precision_is_exported_where_it_is_asked_for(tmp_path: Path) -> None:
    with Reranker.from_checkpoint(checkpoint("tiny"), precision="int8", cache=tmp_path, threads=1) as loaded:
        assert loaded.info.precision == "int8"


def test_a_checkpoint_that_cannot_be_exported_leaves_no_artifact(tmp_path: Path, broken_checkpoint: Path) -> None:
    (broken_checkpoint / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError):
        Reranker.from_checkpoint(broken_checkpoint, cache=tmp_path / "cache")
    assert exported(tmp_path / "cache") == []


def test_two_processes_at_once_export_once(tmp_path: Path, reranker: Reranker) -> None:
    code = (
        "import sys; from modernrank import Reranker\n"
        "with Reranker.from_checkpoint(sys.argv[1], cache=sys.argv[2], threads=1) as r:\n"
        "    print(r.score([('the terms of the license', 'a')])[0])\n"
    )
    command = [sys.executable, "-c", code, str(checkpoint("tiny")), str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    results = [process.communicate(timeout=60) for process in both]
    assert [(process.returncode, error) for process, (_, error) in zip(both, results, strict=True)] == [(0, "")] * 2
    assert {output.strip() for output, _ in results} == {str(reranker.score(PAIRS[:1])[0])}
    assert len(exported(tmp_path)) == 1


def test_everything_that_an_export_reads_counts_in_the_cache(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(checkpoint("tiny"), tmp_path / "checkpoint"))
    before = cached_artifact(copy, cache=tmp_path / "cache")
    (copy / "special_tokens_map.json").write_text("{}")
    settings = cached_artifact(copy, cache=tmp_path / "cache")
    (copy / "evaluation").mkdir()
    (copy / "evaluation" / "queries.jsonl").write_text('{"_id": "q", "text": "x"}')
    evaluation = cached_artifact(copy, cache=tmp_path / "cache")
    assert len({before, settings, evaluation}) == 3
    assert Manifest.read(before).name == "checkpoint"


@pytest.mark.parametrize(
    ("precision", "provider", "dialect"),
    [
        ("fp32", "auto", "ort-cpu"),
        ("fp32", "cuda", "ort-cuda"),
        ("fp16", "auto", "ort-cuda"),
        ("fp16", "ort-tensorrt", "tensorrt-decomposed"),
        ("auto", "cpu", "ort-cpu"),
    ],
)
def test_the_graph_is_one_that_the_provider_runs(precision: Any, provider: Any, dialect: str) -> None:
    precisions, chosen = choose_graphs(precision, provider)
    assert chosen == dialect
    assert precisions == (("fp32", "int8") if precision == "auto" else (precision,))


@pytest.mark.parametrize(("precision", "provider"), [("fp32", "tensorrt"), ("fp16", "cpu"), ("int8", "cuda")])
def test_what_needs_an_engine_or_lacks_a_graph_is_refused_before_any_work(precision: Any, provider: Any) -> None:
    with pytest.raises(InputError) as caught:
        Reranker.from_checkpoint(checkpoint("tiny"), precision=precision, provider=provider)
    assert caught.value.details["value"] == provider


@pytest.mark.parametrize("damage", ["", "{}", None], ids=["empty", "incomplete", "missing"])
def test_a_damaged_cache_is_exported_again(tmp_path: Path, damage: str | None) -> None:
    before = scores_of(checkpoint("tiny"), cache=tmp_path)
    (folder,) = exported(tmp_path)
    leftover = folder.with_name(f".{folder.name}.0123.partial")
    leftover.mkdir()
    if damage is None:
        (folder / MANIFEST).unlink()
    else:
        (folder / MANIFEST).write_text(damage)
    assert scores_of(checkpoint("tiny"), cache=tmp_path) == before
    assert not leftover.exists()


def test_a_damaged_file_in_the_cache_is_named_with_the_folder_to_delete(tmp_path: Path) -> None:
    scores_of(checkpoint("tiny"), cache=tmp_path)
    (folder,) = exported(tmp_path)
    flip_a_bit(folder / DATA)
    with pytest.raises(ArtifactError) as caught:
        scores_of(checkpoint("tiny"), cache=tmp_path)
    assert caught.value.details["path"] == folder
    shutil.rmtree(folder)
    assert scores_of(checkpoint("tiny"), cache=tmp_path)


@pytest.mark.parametrize("argument", ["precision", "provider"])
@pytest.mark.parametrize("value", ["bogus", ["fp32"], None])
def test_unknown_choices_leave_nothing_in_the_cache(tmp_path: Path, argument: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        Reranker.from_checkpoint(checkpoint("tiny"), cache=tmp_path, **{argument: value})
    assert caught.value.details["argument"] == argument
    assert list(tmp_path.iterdir()) == []
