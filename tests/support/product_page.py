"""The settings that the page of products over HTTP shows, for the tests that use them."""

from __future__ import annotations

import re

from .layout import ROOT

# The address and the key of the server on the page.
HOST, KEY = "http://modernrank:8080", "secret"
PAGE = (ROOT / "docs" / "integrations" / "over-http.md").read_text(encoding="utf-8")


def section(product: str) -> str:
    """What the page says about a product."""
    return PAGE.partition(f"\n## {product}\n")[2].partition("\n## ")[0]


def blocks(product: str, language: str) -> list[str]:
    """The blocks of code in a product's section."""
    return re.findall(rf"^```{language}\n(.*?)^```", section(product), re.DOTALL | re.MULTILINE)


def variables(product: str) -> dict[str, str]:
    """The first block of environment variables."""
    return dict(line.split("=", 1) for line in blocks(product, "ini")[0].splitlines())
