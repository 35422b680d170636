"""What the stub GPU counted, read from its library."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator
from pathlib import Path


class StubGpu:
    """The stub GPU of this process.

    Args:
        library: ``libcudart.so.13`` in a folder of stubs, or its bare name if the loader finds it there.
    """

    def __init__(self, library: str | Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.library.stub_count.restype = ctypes.c_longlong
        self.library.stub_count_name.restype = self.library.stub_message.restype = ctypes.c_char_p
        self.library.stub_kernel.restype = ctypes.c_char_p

    def reset(self) -> None:
        """Set all counts to zero but that of the allocated bytes, where ``peak_bytes`` starts anew."""
        self.library.stub_reset()

    def counts(self) -> dict[str, int]:
        """Each count by its name in ``cuda/device.c``."""
        names = self._strings(self.library.stub_count_name)
        return {name: self.library.stub_count(name.encode()) for name in names}

    def kernels(self) -> dict[str, int]:
        """How often each kernel was launched since ``reset``, captures included, by its mangled name."""
        found: dict[str, int] = {}
        launches = ctypes.c_longlong()
        for index in itertools.count():
            name = self.library.stub_kernel(index, ctypes.byref(launches))
            if name is None:
                break
            found[name.decode()] = launches.value
        return found

    def messages(self) -> list[str]:
        """What was forbidden in a capture, and which functions without a stub were called."""
        return list(self._strings(self.library.stub_message))

    @staticmethod
    def _strings(function: ctypes._NamedFuncPointer) -> Iterator[str]:
        return (text.decode() for text in itertools.takewhile(bool, map(function, itertools.count())))
