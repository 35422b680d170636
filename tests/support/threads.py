"""Work in a thread of its own."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable


def run_in_thread(work: Callable[[], None]) -> None:
    """Do ``work`` in a new thread, wait for its end, and collect what it left."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    gc.collect()
