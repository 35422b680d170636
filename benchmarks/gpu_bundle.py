"""Pack what a GPU machine without a package registry needs, in parts that travel one by one.

    python -m modernrank.benchmarks.gpu_bundle OUT --compute-capability 9.0 --python 3.12

OUT gets ``part-00``, ``part-01`` and so on, ``sha256sums`` and ``unpack.sh``, which puts them together over there. The
parts are one .tar.xz of a folder for ``PYTHONPATH``: modernrank, and for the GPU's compute capability

onnxruntime-gpu              with CUDA only, and of its GPU code only what this GPU and ModernBERT models run
tensorrt-rtx-cu13-libs, ..   where TensorRT-RTX supports the GPU

The machine must have an NVIDIA driver, CUDA 13 and cuDNN 9 (torch brings both), numpy, tokenizers, and the packages
that onnxruntime requires. ``--with NAME==VERSION`` adds a wheel. A bundle is for measurements on that GPU, never for
publication.

Requires a clone of the repository, a package registry and, to read the names of kernels, the program ``zstd``. It takes
one to three minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from modernrank.errors import InputError, ModernRankError
from modernrank.export.report import Report
from modernrank.options import positive

from .fat_binary import Capability, slim

MB = 1_000_000
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")
# TensorRT-RTX 1.7 supports these and every 12.x; data-centre Hopper and Blackwell are missing.
RTX_CAPABILITIES = {Capability(7, 5), Capability(8, 0), Capability(8, 6), Capability(8, 9)}
RTX_PACKAGES = ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings")
CUDA_LIBRARY = "onnxruntime/capi/libonnxruntime_providers_cuda.so"
# What modernrank does not use: the TensorRT provider, the library for C programs, tools and examples in Python.
NOT_NEEDED = (
    "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
)
# In the names of kernels that only mixtures of experts and weights in 2 to 8 bits launch. ModernBERT has neither.
UNUSED_KERNELS = (
    b"CollectiveMmaArrayMixedInput",
    b"MoeFCGemm",
    b"fused_moe",
    b"moe_gemv",
    b"GemmFpAIntB",
    b"fpA_intB",
    b"cutlass_kernels",
)
NOT_SOURCE = (".*", "build", "dist", "artifacts", "tests", "demo", "results", "*.egg-info", "__pycache__")
UNPACK_SCRIPT = Path(__file__).with_name("unpack_gpu_bundle.sh")
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Bundle:
    """What is packed.

    out:         the folder for the parts. Files of an earlier bundle in it are replaced.
    capability:  the GPU's compute capability, such as 9.0.
    python:      the version of Python over there, such as 3.12.
    part_size:   the maximum size of a part in MB.
    extra:       more wheels, as NAME or NAME==VERSION.
    all_kernels: keep kernels that ModernBERT models do not run.

    Raises:
        InputError: a field is not of its form.
    """

    out: Path
    capability: str
    python: str
    part_size: int = 50
    extra: tuple[str, ...] = ()
    all_kernels: bool = False

    def __post_init__(self) -> None:
        Capability.parse(self.capability)
        positive("part_size", self.part_size)
        if not re.fullmatch(r"3\.\d+", self.python):
            raise InputError(f"python is {self.python!r}; write it as 3.12", argument="python", value=self.python)


def make_bundle(bundle: Bundle, report: Report) -> list[Path]:
    """Download, slim and pack; returns the parts.

    Raises:
        InputError: no package has code for the GPU, or ``zstd`` is not installed.
        ModernRankError: pip failed, or this is not a clone of the repository.
    """
    with tempfile.TemporaryDirectory() as scratch:
        wheels, site = Path(scratch) / "wheels", Path(scratch) / "site"
        report("making the wheel of modernrank")
        make_wheel(Path(scratch) / "source", wheels)
        download(bundle, wheels, report)
        for wheel in sorted(wheels.glob("*.whl")):
            report(f"unpacking {wheel.name}")
            unpack_wheel(wheel, site)
        remove_what_is_not_needed(site)
        slim_onnxruntime(site, bundle, report)
        report("compressing, which takes a minute or more")
        parts = write_parts(site, bundle.out, bundle.part_size * MB)
    write_script(bundle)
    return parts


def packages(capability: Capability) -> tuple[str, ...]:
    """Which packages can run on a GPU.

    >>> packages(Capability(9, 0))
    ('onnxruntime-gpu',)
    """
    takes_rtx = capability in RTX_CAPABILITIES or capability.major == 12
    return ("onnxruntime-gpu", *(RTX_PACKAGES if takes_rtx else ()))


def make_wheel(source: Path, wheels: Path) -> None:
    """Build modernrank's wheel from a copy in the folder ``source``: a build in the clone takes up its old builds.

    Raises:
        ModernRankError: this is not a clone of the repository, or pip failed.
    """
    if not (ROOT / "pyproject.toml").is_file():
        raise ModernRankError(f"{ROOT} is not a clone of the repository; run this in one")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(source))


def download(bundle: Bundle, wheels: Path, report: Report) -> None:
    """Bring the wheels of the packages.

    Raises:
        ModernRankError: pip failed.
    """
    names = (*packages(Capability.parse(bundle.capability)), *bundle.extra)
    report(f"downloading {', '.join(names)}")
    platforms = [option for platform in PLATFORMS for option in ("--platform", platform)]
    target = ["--python-version", bundle.python, "--implementation", "cp", *platforms]
    _pip("download", "--no-deps", "--only-binary=:all:", *target, "--dest", str(wheels), *names)


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ModernRankError(f"pip {arguments[0]} failed: {done.stderr.strip()[-2000:]}")


def unpack_wheel(wheel: Path, site: Path) -> None:
    """Unpack a wheel as pip would, without scripts."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for data in site.glob("*.data"):
        for folder in (data / "purelib", data / "platlib"):
            if folder.is_dir():
                shutil.copytree(folder, site, dirs_exist_ok=True)
        shutil.rmtree(data)


def remove_what_is_not_needed(site: Path) -> None:
    """Remove the files of NOT_NEEDED."""
    for pattern in NOT_NEEDED:
        for path in site.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def slim_onnxruntime(site: Path, bundle: Bundle, report: Report) -> None:
    """Leave in ONNX Runtime's CUDA library what the GPU runs; without any such code, remove ONNX Runtime.

    Raises:
        InputError: the library has no code for the GPU, and TensorRT-RTX does not support it either.
    """
    path = site / CUDA_LIBRARY
    capability = Capability.parse(bundle.capability)
    library = bytearray(path.read_bytes())
    slimmed = slim(library, capability, () if bundle.all_kernels else UNUSED_KERNELS)
    if slimmed.kept == 0:
        message = (
            f"onnxruntime-gpu has no code for compute capability {capability}; "
            f"it has code for {', '.join(f'sm_{architecture}' for architecture in slimmed.architectures)}"
        )
        if packages(capability) == ("onnxruntime-gpu",):
            raise InputError(message, argument="capability", value=bundle.capability)
        report(f"{message}; the bundle holds TensorRT-RTX only")
        for folder in site.glob("onnxruntime*"):
            shutil.rmtree(folder)
        return
    path.write_bytes(library)
    report(
        f"GPU code: kept {slimmed.kept / MB:.1f} MB, removed {slimmed.other_architectures / MB:.1f} MB of other "
        f"architectures and {slimmed.unused / MB:.1f} MB that ModernBERT does not run"
    )


def write_parts(site: Path, out: Path, part_size: int) -> list[Path]:
    """Write a folder as one .tar.xz in parts of at most ``part_size`` bytes, and ``sha256sums``; returns the parts.

    Equal folders give equal parts: no times, owners or order of the file system are in them.
    """
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("part-[0-9]*"), *out.glob("sha256sums")):
        old.unlink()
    # Most of it is code of x86 processors, and the filter makes its jumps alike.
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
    with tempfile.TemporaryFile(dir=out) as whole:
        with (
            lzma.open(whole, "wb", filters=filters) as compressed,
            tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in sorted(site.rglob("*")):
                archive.add(path, str(path.relative_to(site)), recursive=False, filter=_without_owner)
        return _split(whole, out, part_size)


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _split(whole: BinaryIO, out: Path, part_size: int) -> list[Path]:
    parts: list[Path] = []
    sums = ""
    whole.seek(0)
    while content := whole.read(part_size):
        part = out / f"part-{len(parts):02d}"
        part.write_bytes(content)
        sums += f"{hashlib.sha256(content).hexdigest()}  {part.name}\n"
        parts.append(part)
    (out / "sha256sums").write_text(sums, encoding="utf-8")
    return parts


def write_script(bundle: Bundle) -> None:
    """Write ``unpack.sh`` for the bundle's version of Python."""
    script = UNPACK_SCRIPT.read_text(encoding="utf-8").replace("@PYTHON@", bundle.python)
    (bundle.out / "unpack.sh").write_text(script, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the parts")
    parser.add_argument("--compute-capability", required=True, help="of the GPU, such as 9.0")
    parser.add_argument("--python", required=True, help="version of Python over there, such as 3.12")
    parser.add_argument("--part-size", type=int, default=50, help="maximum size of a part in MB (default: %(default)s)")
    parser.add_argument("--with", dest="extra", action="append", default=[], help="another wheel; repeat it for more")
    parser.add_argument("--all-kernels", action="store_true", help="keep kernels that ModernBERT does not run")
    args = parser.parse_args(arguments)
    try:
        bundle = Bundle(
            out=args.out,
            capability=args.compute_capability,
            python=args.python,
            part_size=args.part_size,
            extra=tuple(args.extra),
            all_kernels=args.all_kernels,
        )
        parts = make_bundle(bundle, lambda message: print(message, file=sys.stderr))
    except ModernRankError as error:
        print(f"gpu_bundle: {error}", file=sys.stderr)
        return 1
    for part in parts:
        print(f"{part}  {part.stat().st_size / MB:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
