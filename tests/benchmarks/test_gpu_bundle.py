"""Bundles for GPU machines: what is removed from a library, and that parts come together only whole. No network."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from modernrank.benchmarks import gpu_bundle
from modernrank.benchmarks.fat_binary import (
    ARCHITECTURE_AT,
    CUBIN,
    ENTRY,
    EXACT,
    FAMILY,
    HEADER,
    MAGIC,
    PTX,
    ZSTD,
    Capability,
    Entry,
    fat_binaries,
    kernels,
    slim,
)
from modernrank.benchmarks.gpu_bundle import Bundle, packages, write_parts, write_script
from modernrank.errors import InputError, ModernRankError

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
HOPPER = Capability(9, 0)


def elf(sections: dict[str, bytes]) -> bytes:
    """A 64-bit ELF file with sections, a table of their names and nothing else."""
    sections = {"": b"", **sections, ".shstrtab": b""}
    names = b"".join(name.encode() + b"\0" for name in sections)
    sections[".shstrtab"] = names
    headers, content, name_at = b"", bytes(64), 0
    for name, data in sections.items():
        headers += struct.pack("<IIQQQQIIQQ", name_at, 1, 0, 0, len(content), len(data), 0, 0, 8, 0)
        content += data + bytes(-len(data) % 8)
        name_at += len(name) + 1
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 0, len(content), 0, 64, 0, 0, 64,
                         len(sections), len(sections) - 1)  # fmt: skip
    return header + content[64:] + headers


def cubin(*names: str) -> bytes:
    return elf({f".text.{name}": b"machine code" for name in names})


def entry(architecture: int, code: bytes, kind: int = CUBIN, flags: int = 0) -> bytes:
    padded = code + bytes(-len(code) % 8)
    compressed = len(code) if flags & ZSTD else 0
    fields = (kind, 0x101, ENTRY.size, len(padded), compressed, 0, 0, 0, architecture, 0, 0, flags, 0, 0)
    return ENTRY.pack(*fields) + padded


def library(*binaries: list[bytes]) -> bytearray:
    """A library with fat binaries of these entries."""
    packed = b""
    for entries in binaries:
        content = b"".join(entries)
        packed += MAGIC + HEADER.pack(0, 1, HEADER.size, len(content))[4:] + content
    return bytearray(elf({".text": b"code of the processor", ".nv_fatbin": packed, ".data": b"data"}))


def codes(slimmed: bytearray) -> list[list[bytes]]:
    """The code of each entry without padding; empty where it was removed."""
    return [
        [bytes(slimmed[found.start : found.start + found.size]).rstrip(b"\0") for found in entries]
        for entries in fat_binaries(slimmed)
    ]


def test_the_code_of_other_architectures_is_removed_and_nothing_moves() -> None:
    before = library([entry(80, b"eight"), entry(90, b"nine"), entry(120, b"twelve")])
    after = bytearray(before)
    slimmed = slim(after, HOPPER)
    assert codes(after) == [[b"", b"nine", b""]]
    assert (slimmed.kept, slimmed.other_architectures, slimmed.architectures) == (8, 16, (80, 90, 120))
    assert len(after) == len(before)
    assert [[found.architecture for found in entries] for entries in fat_binaries(after)] == [[80, 90, 120]]


@pytest.mark.parametrize(
    ("architecture", "flags", "kind", "capability", "runs"),
    [
        (90, 0, CUBIN, "9.0", True),
        (90, EXACT, CUBIN, "9.0", True),
        (86, 0, CUBIN, "8.9", True),
        (89, 0, CUBIN, "8.6", False),
        (80, 0, CUBIN, "9.0", False),
        (120, EXACT, CUBIN, "12.1", False),
        (100, FAMILY, CUBIN, "10.3", True),
        (100, FAMILY, PTX, "12.0", False),
        (80, 0, PTX, "9.0", True),
        (90, EXACT, PTX, "10.0", False),
        (120, 0, PTX, "9.0", False),
    ],
)
def test_which_code_runs_on_a_gpu(architecture: int, flags: int, kind: int, capability: str, runs: bool) -> None:
    assert Entry(0, 0, 0, 0, kind, architecture, flags).runs_on(Capability.parse(capability)) is runs


def test_each_fat_binary_keeps_its_best_code() -> None:
    slimmed = library(
        [entry(80, b"older"), entry(86, b"best"), entry(80, b"ptx", PTX)],
        [entry(75, b"other"), entry(75, b"old ptx", PTX), entry(80, b"new ptx", PTX)],
        [entry(86, b"plain"), entry(86, b"second"), entry(90, b"exact", flags=EXACT)],
    )
    slim(slimmed, Capability(8, 9))
    assert codes(slimmed) == [[b"", b"best", b""], [b"", b"", b"new ptx"], [b"plain", b"second", b""]]


def test_unused_kernels_are_removed_and_hidden_from_the_gpu() -> None:
    mixture, mixed = cubin("_Z3moeA", "_Z3moeB"), cubin("_Z3moeA", "_Z9layernorm")
    slimmed = library([entry(90, mixture)], [entry(90, mixed)], [entry(90, cubin())], [entry(90, b"ptx", PTX)])
    result = slim(slimmed, HOPPER, [b"moe"])
    assert codes(slimmed) == [[b""], [mixed.rstrip(b"\0")], [cubin().rstrip(b"\0")], [b"ptx"]]
    assert result.unused == len(mixture)
    ((hidden,), *_) = fat_binaries(slimmed)
    assert not hidden.runs_on(HOPPER)
    assert struct.unpack_from("<I", slimmed, hidden.at + ARCHITECTURE_AT) == (75,)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
def test_names_of_compressed_kernels_are_read() -> None:
    compressed = subprocess.run(["zstd", "-cq"], input=cubin("_Z3moe"), capture_output=True, check=True).stdout
    slimmed = library([entry(90, compressed, flags=ZSTD)])
    assert slim(slimmed, HOPPER, [b"moe"]).kept == 0


def test_without_zstd_compressed_kernels_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="zstd"):
        slim(library([entry(90, b"compressed", flags=ZSTD)]), HOPPER, [b"moe"])


def test_kernels_are_named_by_their_sections() -> None:
    assert kernels(cubin("_Z1a", "_Z1b")) == [b"_Z1a", b"_Z1b"]


@pytest.mark.parametrize("content", [b"text", elf({".text": b"code"})])
def test_a_file_without_gpu_code_is_refused(content: bytes) -> None:
    with pytest.raises(InputError):
        slim(bytearray(content), HOPPER)


@pytest.mark.parametrize(
    ("capability", "takes_rtx"), [("7.5", True), ("8.9", True), ("9.0", False), ("10.0", False), ("12.1", True)]
)
def test_tensorrt_rtx_travels_to_gpus_that_it_supports(capability: str, takes_rtx: bool) -> None:
    assert ("tensorrt-rtx-cu13-libs" in packages(Capability.parse(capability))) is takes_rtx


@pytest.mark.parametrize("wrong", [{"capability": "90"}, {"python": "3"}, {"part_size": 0}])
def test_a_bundle_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Bundle(**{"out": Path("out"), "capability": "9.0", "python": "3.12", **wrong})  # type: ignore[arg-type]


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)


def without_registry(monkeypatch: pytest.MonkeyPatch, cuda: bytearray) -> None:
    """Let made-up wheels stand in for those of a registry."""

    def make_wheel(source: Path, wheels: Path) -> None:
        wheel(wheels, "modernrank", {"modernrank/__init__.py": b"", "modernrank-1.data/purelib/more.py": b""})

    def download(bundle: Bundle, wheels: Path, report: object) -> None:
        files = {f"onnxruntime/{name}": b"" for name in ("__init__.py", "tools/a.py", "capi/libonnxruntime.so.1.31.1")}
        wheel(wheels, "onnxruntime_gpu", {**files, gpu_bundle.CUDA_LIBRARY: bytes(cuda)})

    monkeypatch.setattr(gpu_bundle, "make_wheel", make_wheel)
    monkeypatch.setattr(gpu_bundle, "download", download)


def test_the_command_packs_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_registry(monkeypatch, library([entry(80, b"eight"), entry(90, cubin("_Z1a"))]))
    arguments = [str(tmp_path / "out"), "--compute-capability", "9.0", "--python", PYTHON]
    assert gpu_bundle.main(arguments) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["part-00", "sha256sums", "unpack.sh"]
    assert unpack(tmp_path / "out", tmp_path / "there").returncode == 0
    site = tmp_path / "there" / "site"
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert files == {
        *(".made-from", "more.py", "modernrank/__init__.py", "onnxruntime/__init__.py"),
        gpu_bundle.CUDA_LIBRARY,
    }
    ((other, ours),) = codes(bytearray((site / gpu_bundle.CUDA_LIBRARY).read_bytes()))
    assert (other, ours != b"") == (b"", True)


def test_a_gpu_without_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_registry(monkeypatch, library([entry(90, b"nine", flags=EXACT)]))
    arguments = [str(tmp_path / "out"), "--compute-capability", "10.0", "--python", "3.12"]
    assert gpu_bundle.main(arguments) == 1
    assert "sm_90" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def load(tmp_path: Path) -> Path:
    """A bundle of several parts, made from a folder with 3,000 bytes that do not compress."""
    site = tmp_path / "packed"
    (site / "package").mkdir(parents=True)
    (site / "package" / "noise").write_bytes(os.urandom(3000))
    (site / "package" / "__init__.py").write_text("")
    bundle = Bundle(tmp_path / "load", "9.0", PYTHON)
    write_parts(site, bundle.out, 1000)
    write_script(bundle)
    return bundle.out


def unpack(load: Path, folder: Path, torch: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``unpack.sh`` with this Python as ``python3``, and torch in the folder ``torch``."""
    tools = load.parent / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "python3").unlink(missing_ok=True)
    (tools / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    (tools / "python3").chmod(0o755)
    variables = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(torch or "")}
    return subprocess.run(["bash", load / "unpack.sh", folder], capture_output=True, text=True, env=variables)


def test_parts_come_together_and_again(load: Path, tmp_path: Path) -> None:
    assert len(list(load.glob("part-*"))) > 3
    assert all(part.stat().st_size <= 1000 for part in load.glob("part-*"))
    for _ in range(2):
        done = unpack(load, tmp_path / "there")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"export PYTHONPATH={tmp_path / 'there' / 'site'}"
        assert "torch" in done.stderr
        for path in ("package/noise", "package/__init__.py"):
            assert (tmp_path / "there" / "site" / path).read_bytes() == (tmp_path / "packed" / path).read_bytes()


def test_equal_folders_give_equal_parts(load: Path, tmp_path: Path) -> None:
    os.utime(tmp_path / "packed" / "package", (1, 1))
    write_parts(tmp_path / "packed", tmp_path / "again", 1000)
    assert (tmp_path / "again" / "sha256sums").read_bytes() == (load / "sha256sums").read_bytes()


def test_parts_arrive_one_load_at_a_time(load: Path, tmp_path: Path) -> None:
    (load / "part-01").rename(tmp_path / "part-01")
    first = unpack(load, tmp_path / "there")
    assert first.returncode == 3
    assert "part-01" in first.stderr and "part-00" not in first.stderr
    assert not (tmp_path / "there" / "site").exists()
    for part in load.glob("part-*"):
        part.unlink()
    (load / "sha256sums").unlink()
    (tmp_path / "part-01").rename(load / "part-01")
    assert unpack(load, tmp_path / "there").returncode == 0


def test_a_damaged_part_is_refused(load: Path, tmp_path: Path) -> None:
    content = (load / "part-02").read_bytes()
    (load / "part-02").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = unpack(load, tmp_path / "there")
    assert done.returncode == 1
    assert "part-02" in done.stderr
    assert not (tmp_path / "there" / "site").exists()
    (load / "part-02").write_bytes(content)
    assert unpack(load, tmp_path / "there").returncode == 0


def test_a_relative_folder_is_printed_in_full(load: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert unpack(load, Path("there")).stdout.strip() == f"export PYTHONPATH={tmp_path / 'there' / 'site'}"


def test_another_python_is_refused(load: Path, tmp_path: Path) -> None:
    write_script(Bundle(load, "9.0", "3.99"))
    done = unpack(load, tmp_path / "there")
    assert done.returncode == 1
    assert "3.99" in done.stderr and PYTHON in done.stderr
    assert not (tmp_path / "there").exists()


def test_a_folder_of_someone_else_is_not_replaced(load: Path, tmp_path: Path) -> None:
    (tmp_path / "there" / "site").mkdir(parents=True)
    (tmp_path / "there" / "site" / "mine").write_text("")
    assert unpack(load, tmp_path / "there").returncode == 1
    assert (tmp_path / "there" / "site" / "mine").exists()


def test_a_newer_bundle_replaces_the_older(load: Path, tmp_path: Path) -> None:
    assert unpack(load, tmp_path / "there").returncode == 0
    (tmp_path / "packed" / "package" / "__init__.py").rename(tmp_path / "packed" / "package" / "new.py")
    write_parts(tmp_path / "packed", load, 10_000)
    assert unpack(load, tmp_path / "there").returncode == 0
    assert sorted(path.name for path in (tmp_path / "there" / "site" / "package").iterdir()) == ["new.py", "noise"]


def test_the_cuda_libraries_of_torch_are_linked(load: Path, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    (packages / "torch").mkdir(parents=True)
    (packages / "torch" / "__init__.py").write_text("raise ImportError('torch is found, not imported')")
    (packages / "nvidia" / "cu13").mkdir(parents=True)
    for _ in range(2):
        done = unpack(load, tmp_path / "there", torch=packages)
        assert done.returncode == 0, done.stderr
        link = tmp_path / "there" / "site" / "nvidia"
        assert link.is_symlink() and link.resolve() == (packages / "nvidia").resolve()
    assert done.stdout.strip() == f"export PYTHONPATH={tmp_path / 'there' / 'site'}"


def test_outside_a_clone_no_wheel_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_bundle, "ROOT", tmp_path)
    with pytest.raises(ModernRankError, match="clone"):
        gpu_bundle.make_wheel(tmp_path / "source", tmp_path / "wheels")
