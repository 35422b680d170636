"""Exporting: whole or not at all, never over something else, and clear about what prevented it."""

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import modernrank.export
from modernrank import ArtifactError, InputError, Reranker
from modernrank.artifact.manifest import Manifest
from modernrank.export import export_checkpoint
from support.checkpoints import checkpoint

TINY = checkpoint("tiny")
PUBLIC = ("build_engine", "export_checkpoint", "record_parity", "verify_artifact")


def test_an_existing_artifact_is_replaced_only_by_force(artifact: Path) -> None:
    with pytest.raises(ArtifactError, match="--force"):
        export_checkpoint(TINY, artifact)
    before = Manifest.read(artifact)
    export_checkpoint(TINY, artifact, force=True)
    assert Manifest.read(artifact).files == before.files
    assert [path.name for path in artifact.parent.iterdir()] == [artifact.name]


def test_what_is_no_artifact_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(TINY, tmp_path, force=True)
    assert refused.value.details["path"] == tmp_path
    assert (tmp_path / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    export_checkpoint(TINY, tmp_path / "empty")


def test_a_manifest_of_something_else_is_no_licence_to_delete(tmp_path: Path, artifact: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(TINY, site, force=True)
    assert refused.value.details["path"] == site
    (artifact / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(TINY, artifact, force=True)
    assert refused.value.details["foreign"] == ["notes.txt"]
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
    export_checkpoint(TINY, out)  # what the killed one left does not prevent this


@pytest.mark.parametrize("out", ["/proc/modernrank/out", "{file}/out"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("")
    place = Path(out.format(file=tmp_path / "file"))
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(TINY, place)
    assert refused.value.details["path"] == place.parent


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
    assert str(tmp_path / "out") in done.stderr
    assert "MB are free" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_unknown_graphs_and_precisions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        export_checkpoint(TINY, tmp_path / "out", graph="fast")
    assert refused.value.details["argument"] == "graph"
    assert {"ort-cpu", "tensorrt", "reference"} <= set(refused.value.details["choices"])
    with pytest.raises(InputError) as refused:
        export_checkpoint(TINY, tmp_path / "out", precision="int2")
    assert refused.value.details["argument"] == "precision"
    assert refused.value.details["choices"] == ("fp32", "fp16", "int8")
    with pytest.raises(InputError) as refused:
        export_checkpoint(TINY, tmp_path / "out", precision=[])
    assert refused.value.details["argument"] == "precision"


def test_progress_is_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    start = time.perf_counter()
    export_checkpoint(TINY, tmp_path / "out", report=lines.append)
    assert lines == ["writing the ort-cpu graph of 6 layers", "hashing"]
    assert time.perf_counter() - start < 60


def test_files_have_the_permissions_of_any_other(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        export_checkpoint(TINY, tmp_path / "out")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "out").iterdir()} == {0o640}


def test_the_umask_of_the_process_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another thread makes meanwhile would be writable by everybody."""

    def refuse(mask: int) -> int:
        raise AssertionError(f"os.umask({mask}) changes every thread's files")

    monkeypatch.setattr(os, "umask", refuse)
    export_checkpoint(TINY, tmp_path / "out")


def modules_after(code: str) -> set[str]:
    """The top-level modules that a process has imported after ``code``."""
    shown = f"{code}\nimport sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_an_exact_export_needs_neither_scipy_nor_ir_measures(tmp_path: Path) -> None:
    code = f"from modernrank.export import export_checkpoint; export_checkpoint({str(TINY)!r}, {str(tmp_path / 'x')!r})"
    assert not {"scipy", "ir_measures"} & modules_after(code)


def test_the_public_functions_are_imported_when_they_are_used() -> None:
    assert not {"onnx", "safetensors", "onnxruntime", "scipy"} & modules_after("import modernrank.export")
    assert all(callable(getattr(modernrank.export, name)) for name in PUBLIC)
    assert set(PUBLIC) < set(modernrank.export.__all__)
    with pytest.raises(AttributeError):
        modernrank.export.no_such_name  # noqa: B018
