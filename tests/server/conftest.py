"""A running server of the ``tiny`` artifact, once for all tests that leave it as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serving import RunningServer, serving


@pytest.fixture(scope="session")
def server(artifacts: Path) -> Iterator[RunningServer]:
    with serving(artifacts / "tiny", "--span-tokens", "16", "--log-level", "debug") as running:
        yield running
