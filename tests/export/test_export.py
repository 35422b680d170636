"""Exporting: whole or not at all, never over something else, and clear about what stood in the way."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modernrank import ArtifactError, InputError, Reranker
from modernrank.artifact.manifest import Manifest, Source
from modernrank.export import export_checkpoint
from modernrank.export.models.modernbert.published_logits import PUBLISHED, published_for
from modernrank.export.verification.result import Parity, Row
from support.checkpoints import checkpoint

TINY = checkpoint("tiny")


def test_an_existing_artifact_is_replaced_only_by_force(artifact: Path) -> None:
    with pytest.raises(ArtifactError, match="holds an artifact already; give --force to replace it"):
        export_checkpoint(TINY, artifact)
    before = Manifest.read(artifact)
    export_checkpoint(TINY, artifact, force=True)
    assert Manifest.read(artifact).files == before.files
    assert [path.name for path in artifact.parent.iterdir()] == [artifact.name]


def test_what_is_no_artifact_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="exists and is not an artifact; choose another --out"):
        export_checkpoint(TINY, tmp_path, force=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    export_checkpoint(TINY, tmp_path / "empty")


def test_a_manifest_of_something_else_is_no_licence_to_delete(tmp_path: Path, artifact: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(ArtifactError, match="has no schema_version 1"):
        export_checkpoint(TINY, site, force=True)
    (artifact / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds notes\.txt, which is no part of its artifact"):
        export_checkpoint(TINY, artifact, force=True)
    assert (site / "manifest.json").exists()
    assert (artifact / "notes.txt").read_text() == "mine"


def test_a_link_to_an_artifact_is_followed(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(artifact)
    export_checkpoint(TINY, tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact", "link"]


def test_a_failed_replacement_keeps_the_old_artifact(artifact: Path, broken_checkpoint: Path) -> None:
    weights = broken_checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ArtifactError):
        export_checkpoint(broken_checkpoint, artifact, force=True)
    Reranker.load(artifact).close()


def test_a_killed_export_leaves_no_artifact(tmp_path: Path) -> None:
    """Killed between the graph and the manifest, by a report that never returns."""
    out = tmp_path / "out"
    code = f"""
import time
from modernrank.export import export_checkpoint
def report(message):
    print(message, flush=True)
    if message == "hashing":
        time.sleep(60)
export_checkpoint({str(TINY)!r}, {str(out)!r}, report=report)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "hashing\n":
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    export_checkpoint(TINY, out)  # and what it left does not stand in the way


@pytest.mark.parametrize("out", ["/proc/modernrank/out", "{file}/out"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write to .*; choose another --out"):
        export_checkpoint(TINY, out.format(file=tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only folder")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ArtifactError, match="Permission denied"):
        export_checkpoint(TINY, tmp_path / "out")


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    """A limit on the size of a file stops the writing half-way, as a full disk does."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [sys.executable, "-m", "modernrank", "export", str(TINY), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot write" in done.stderr and "MB are free there" in done.stderr and "nothing was kept" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_unknown_graphs_and_precisions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="graph 'fast' is unknown; choose one of ort-cpu, standard, ort-cuda"):
        export_checkpoint(TINY, tmp_path / "out", graph="fast")
    with pytest.raises(InputError, match="precision 'int2' is unknown; choose one of fp32, fp16, int8"):
        export_checkpoint(TINY, tmp_path / "out", precision="int2")


def test_progress_is_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    start = time.perf_counter()
    export_checkpoint(TINY, tmp_path / "out", report=lines.append)
    assert lines == ["writing the ort-cpu graph of 6 layers", "hashing"]
    assert time.perf_counter() - start < 60


def test_published_logits_hold_for_the_pinned_revision_only() -> None:
    from modernrank.export.checkpoint.weights import DEFAULT_MODEL, DEFAULT_REVISION

    assert published_for(Source(DEFAULT_MODEL, DEFAULT_REVISION, {})) == PUBLISHED
    assert published_for(Source(DEFAULT_MODEL, "main", {})) == ()
    assert published_for(Source(None, None, {})) == ()


def test_a_parity_that_fails_says_by_how_much() -> None:
    rows = (Row(16, "alone", 2e-4, 1e-4), Row(64, "packed", 1e-6, 1e-6))
    parity = Parity("fp32", rows, 0.5, (), "transformers 5", "onnxruntime 1")
    assert not parity.passed
    assert parity.verdict().startswith("DIFFERS: largest difference 2.0e-04")
    assert "2.0e-04 / 1.0e-04" in parity.table()
    unknown = Parity(
        "fp32", (rows[1], Row(64, "rows", float("nan"), float("nan"))), 0.5, (), "transformers 5", "onnxruntime 1"
    )
    assert not unknown.passed
    good = Parity("fp32", rows[1:], 0.5, (("the card", 0.2, 0.01),), "transformers 5", "onnxruntime 1")
    assert not good.passed and "2.0e-01 from the card, at most 1e-02 allowed" in good.verdict()
