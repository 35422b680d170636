"""Build the stub CUDA libraries that an installed ONNX Runtime needs to load its CUDA provider without a GPU.

    python tests/placement/stubs.py FOLDER [--onnxruntime FOLDER_OF_THE_PACKAGE]
    LD_LIBRARY_PATH=FOLDER python ...

Which nodes ONNX Runtime places where, what it launches, copies and allocates, and whether it accepts CUDA graphs are
then the real ones. Kernels compute nothing, so results mean nothing.

``cuda/*.c`` implements what modernrank's graphs make the provider call. The provider links more functions: for each of
them a function is generated that reports its call and fails. Requires a C compiler (``cc``) and binutils.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent / "cuda"
RUNTIME = "libcudart.so.13"
# The sources of each library. The state of the GPU lies in the runtime, which the others link.
LIBRARIES = {
    RUNTIME: ("device.c", "runtime.c"),
    "libcuda.so.1": ("driver.c",),
    "libcublas.so.13": ("cublas.c",),
    "libcublasLt.so.13": ("cublaslt.c",),
    "libcurand.so.10": (),
    "libcudnn.so.9": ("cudnn.c",),
    # `onnxruntime.preload_dlls` opens these, and prints a warning if they are missing.
    "libcufft.so.12": (),
    "libnvrtc.so.13": (),
}
FLAGS = ("-std=c11", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror")


class StubError(Exception):
    """The stubs cannot be built; the message says why."""


def cuda_provider(package: Path | None = None) -> Path:
    """The shared library of the CUDA provider in the folder ``package``, or else in the ``onnxruntime`` of Python.

    Raises:
        StubError: ONNX Runtime is not installed, or has no such provider.
    """
    if package is None:
        spec = importlib.util.find_spec("onnxruntime")
        if spec is None or spec.origin is None:
            raise StubError("onnxruntime-gpu is not installed: pip install onnxruntime-gpu, or give --onnxruntime")
        package = Path(spec.origin).parent
    library = package / "capi" / "libonnxruntime_providers_cuda.so"
    if not library.is_file():
        raise StubError(f"{package} has no CUDA provider: install onnxruntime-gpu instead of onnxruntime")
    return library


def build(out: Path, provider: Path) -> None:
    """Write the stub libraries that ``provider`` needs to the folder ``out``.

    Raises:
        StubError: a tool is missing, the provider needs a library without stubs, or a source does not compile.
    """
    for tool in ("cc", "nm", "readelf"):
        if shutil.which(tool) is None:
            raise StubError(f"{tool} is not installed: apt-get install gcc binutils")
    needed = set(re.findall(r"NEEDED.*\[(lib(?:cu|nv)[^]]+)\]", run("readelf", "-d", str(provider))))
    if missing := needed - LIBRARIES.keys():
        raise StubError(f"{provider.name} needs {', '.join(sorted(missing))}, of which there are no stubs")
    out.mkdir(parents=True, exist_ok=True)
    wanted = undefined_symbols(provider)
    for library, sources in LIBRARIES.items():
        build_library(out, library, sources, wanted.get(library, set()))


def undefined_symbols(provider: Path) -> dict[str, set[str]]:
    """The symbols of CUDA that ``provider`` wants, by library. Only the driver's have no version that names it."""
    symbols: dict[str, set[str]] = {}
    for line in run("nm", "-D", "--undefined-only", str(provider)).splitlines():
        name, _, library = line.split()[-1].partition("@")
        if library in LIBRARIES:
            symbols.setdefault(library, set()).add(name)
        elif not library and re.match(r"cu[A-Z]", name):
            symbols.setdefault("libcuda.so.1", set()).add(name)
    return symbols


def build_library(out: Path, library: str, sources: tuple[str, ...], wanted: set[str]) -> None:
    """Compile ``sources``, generate what of ``wanted`` they leave open, and link both as ``library``."""
    work = out / "build" / library
    work.mkdir(parents=True, exist_ok=True)
    objects = [compiled(SOURCES / source, work) for source in sources]
    defined = {line.split()[-1] for file in objects for line in run("nm", "--defined-only", str(file)).splitlines()}
    rest = work / "rest.c"
    rest.write_text(rest_of(sorted(wanted - defined)))
    objects.append(compiled(rest, work))
    command = ["cc", "-shared", "-o", str(out / library), *map(str, objects), f"-Wl,-soname,{library}"]
    # The loader looks for versioned symbols, such as cudaMalloc@libcudart.so.13.
    versions = work / "versions"
    versions.write_text(f"{library} {{ global: *; }};\n")
    command.append(f"-Wl,--version-script={versions}")
    if library != RUNTIME:
        command += [str(out / RUNTIME), "-Wl,-rpath,$ORIGIN"]
    run(*command, "-lpthread")


def rest_of(names: list[str]) -> str:
    """C functions with these names that report their call and fail."""
    functions = (f'int {name}(void) {{ return stub_unexpected("{name}"); }}\n' for name in names)
    return f'#include "device.h"\n{"".join(functions)}'


def compiled(source: Path, work: Path) -> Path:
    """The object file of ``source`` in the folder ``work``."""
    target = work / f"{source.stem}.o"
    run("cc", *FLAGS, f"-I{SOURCES}", "-c", str(source), "-o", str(target))
    return target


def run(*command: str) -> str:
    """What a command prints.

    Raises:
        StubError: it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StubError(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to write")
    parser.add_argument("--onnxruntime", type=Path, help="folder of the package (default: what Python would import)")
    args = parser.parse_args()
    try:
        build(args.folder, cuda_provider(args.onnxruntime))
    except StubError as error:
        raise SystemExit(str(error)) from error
    print(f"LD_LIBRARY_PATH={args.folder.resolve()}")


if __name__ == "__main__":
    main()
