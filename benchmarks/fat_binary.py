"""Remove from a CUDA library the code that one kind of GPU never runs, so that the library compresses small.

nvcc stores a kernel's machine code once for each architecture in a fat binary, and all fat binaries of a library in its
section ``.nv_fatbin``. ``slim`` writes zeros over the code of other architectures, and over kernels that the caller
names. Nothing moves, so the library loads as before.

No removed entry names the GPU's architecture afterwards. To CUDA such a fat binary is one without code for the GPU, of
which libraries have many: only the launch of a removed kernel fails, with ``cudaErrorNoKernelImageForDevice``.

NVIDIA does not document the format. The fields here are those that nvcc 11 to 13 writes.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from modernrank.errors import InputError

MAGIC = b"\x50\xed\x55\xba"
HEADER = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes of all entries
ENTRY = struct.Struct("<HHIQIIHHIIIQQQ")
ARCHITECTURE_AT = 28  # in an entry
SECTION = ".nv_fatbin"

PTX, CUBIN = 1, 2
ZSTD = 0x8000
EXACT = 0x100000  # as sm_90a: runs on this architecture alone
FAMILY = 0x200000  # as sm_100f: runs on later ones of the same generation too
ANOTHER_GENERATION = {True: 90, False: 75}  # whether the GPU is of generation 7


class Capability(NamedTuple):
    """A GPU's compute capability.

    >>> Capability.parse("9.0").architecture
    90
    """

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Capability:
        """Read a capability such as 9.0.

        Raises:
            InputError: it is not two whole numbers with a point between them.
        """
        if not re.fullmatch(r"\d{1,2}\.\d", text):
            raise InputError(f"compute capability is {text!r}; write it as 9.0", argument="capability", value=text)
        major, minor = text.split(".")
        return cls(int(major), int(minor))

    @property
    def architecture(self) -> int:
        """The number that compilers use: 90 for 9.0."""
        return 10 * self.major + self.minor

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True)
class Entry:
    """A kernel's code for one architecture, in a library.

    at:           its offset in the library.
    start:        the offset of its code.
    size:         bytes of its code, with padding.
    compressed:   bytes of its code without padding, if it is compressed.
    kind:         PTX or CUBIN.
    architecture: such as 90.
    flags:        ZSTD, EXACT, FAMILY and others.
    """

    at: int
    start: int
    size: int
    compressed: int
    kind: int
    architecture: int
    flags: int

    def runs_on(self, capability: Capability) -> bool:
        """Return whether the GPU can run it: https://docs.nvidia.com/cuda/cuda-c-programming-guide, compatibility."""
        if self.flags & EXACT:
            return self.architecture == capability.architecture
        if self.architecture > capability.architecture:
            return False
        is_any = self.kind == PTX and not self.flags & FAMILY
        return is_any or self.architecture // 10 == capability.major


@dataclass(frozen=True)
class Slimmed:
    """What ``slim`` did.

    kept, other_architectures, unused: bytes of code that stayed, and that were removed for each reason.
    architectures: for which architectures the library had code.
    """

    kept: int
    other_architectures: int
    unused: int
    architectures: tuple[int, ...]


def slim(library: bytearray, capability: Capability, unused: Sequence[bytes] = ()) -> Slimmed:
    """Write zeros over the code that a GPU does not run; ``library`` is an ELF file, and is changed in place.

    In each fat binary the best architecture that runs on the GPU stays, and PTX where there is no machine code for it.
    Of these, machine code is removed if the name of each of its kernels contains one of ``unused``.

    Raises:
        InputError: the library is not a 64-bit ELF file or has no section ``.nv_fatbin``, or kernels have to be read
            and the program ``zstd`` is not installed.
    """
    kept = other = dropped = 0
    architectures: set[int] = set()
    for entries in fat_binaries(library):
        best = _best(entries, capability)
        architectures.update(entry.architecture for entry in entries)
        for entry in entries:
            if entry not in best:
                other += _remove(library, entry)
            elif unused and entry.kind == CUBIN and _is_unused(library, entry, unused):
                dropped += _remove(library, entry)
                hidden = ANOTHER_GENERATION[capability.major == 7]
                struct.pack_into("<I", library, entry.at + ARCHITECTURE_AT, hidden)
            else:
                kept += entry.size
    return Slimmed(kept, other, dropped, tuple(sorted(architectures)))


def fat_binaries(library: bytes | bytearray) -> Iterator[list[Entry]]:
    """Find the fat binaries of a library; yields the entries of each.

    Raises:
        InputError: as ``slim``.
    """
    at, end = _section(library, SECTION)
    while (at := library.find(MAGIC, at, end)) >= 0:
        _, _, header, size = HEADER.unpack_from(library, at)
        if header != HEADER.size or at + header + size > end:
            raise InputError(f"the fat binary at {at:#x} has a header that is not known", argument="library", value=at)
        yield list(_entries(library, at + header, at + header + size))
        at += header + size


def kernels(cubin: bytes) -> list[bytes]:
    """Return the mangled names of the kernels in machine code: its sections ``.text.NAME``."""
    return [name.removeprefix(b".text.") for name, _, _ in _sections(cubin) if name.startswith(b".text.")]


def _entries(library: bytes | bytearray, at: int, end: int) -> Iterator[Entry]:
    while at < end:
        kind, _, header, size, compressed, _, _, _, architecture, _, _, flags, _, _ = ENTRY.unpack_from(library, at)
        yield Entry(at, at + header, size, compressed, kind, architecture, flags)
        at += header + size


def _best(entries: Sequence[Entry], capability: Capability) -> list[Entry]:
    for kind in (CUBIN, PTX):
        able = [entry for entry in entries if entry.kind == kind and entry.runs_on(capability)]
        if able:
            best = max(entry.architecture for entry in able)
            return [entry for entry in able if entry.architecture == best]
    return []


def _remove(library: bytearray, entry: Entry) -> int:
    library[entry.start : entry.start + entry.size] = bytes(entry.size)
    return entry.size


def _is_unused(library: bytearray, entry: Entry, unused: Sequence[bytes]) -> bool:
    code = bytes(library[entry.start : entry.start + (entry.compressed or entry.size)])
    names = kernels(_decompressed(code) if entry.flags & ZSTD else code)
    return bool(names) and all(any(family in name for family in unused) for name in names)


def _decompressed(code: bytes) -> bytes:
    program = shutil.which("zstd")
    if program is None:
        raise InputError(
            "kernels are compressed, and the program zstd is not installed; install it or keep all kernels",
            argument="unused",
        )
    return subprocess.run([program, "-dcq"], input=code, stdout=subprocess.PIPE, check=True).stdout


def _section(elf: bytes | bytearray, wanted: str) -> tuple[int, int]:
    for name, offset, size in _sections(elf):
        if name == wanted.encode():
            return offset, offset + size
    raise InputError(f"the library has no section {wanted}, so no GPU code", argument="library")


def _sections(elf: bytes | bytearray) -> Iterator[tuple[bytes, int, int]]:
    """The name, offset and size of each section of a 64-bit little-endian ELF file."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise InputError("this is not a 64-bit ELF file", argument="library")
    (table,) = struct.unpack_from("<Q", elf, 40)
    size, count, names_at = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + size * index) for index in range(count)]
    names = headers[names_at][4] if headers else 0
    for name, _, _, _, offset, length in headers:
        start = names + name
        yield bytes(elf[start : elf.index(b"\0", start)]), offset, length
