"""The examples of a page that need a framework: blocks of ``py``, run by the tests of the framework."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

from .layout import ROOT


def run_examples(page: str, section: str = "", known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run the ``py`` blocks of a page in order, and compare what they print with the ``text`` block behind each.

    Args:
        page: path of the page from the root of the repository.
        section: heading of the only section whose blocks are run; by default those of the whole page.
        known: names that the blocks find.

    Returns:
        The names that the blocks leave.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [
        block
        for block in re.finditer(r"^```py\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", text, re.DOTALL | re.MULTILINE)
        if not section or re.findall(r"^## (.+)$", text[: block.start()], re.MULTILINE)[-1:] == [section]
    ]
    assert blocks, f"{page} has no example {section}"
    names: dict[str, Any] = {"__name__": "__main__", **(known or {})}
    for block in blocks:
        source = "\n" * text.count("\n", 0, block.start(1)) + block[1]
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(source, page, "exec"), names)
        if block[2]:
            assert output.getvalue() == block[2]
    return names
