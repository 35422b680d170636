"""Each folder here has an environment of its own; the default suite does not even import its tests."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the folders of frameworks out, unless ``-m integrations`` asks for them."""
    is_of_a_framework = collection_path.is_dir() and collection_path.parent == HERE
    return True if is_of_a_framework and config.option.markexpr != "integrations" else None
