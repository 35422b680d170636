"""The examples of a page that need a framework: blocks of ``py``, run by the tests of the framework."""

from __future__ import annotations

import contextlib
import io
import re

from .layout import ROOT


def run_examples(page: str) -> None:
    """Run the ``py`` blocks of a page in order, and compare what they print with the ``text`` block behind each."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```py\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", text, re.DOTALL | re.MULTILINE))
    assert blocks, f"{page} has no example"
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        source = "\n" * text.count("\n", 0, block.start(1)) + block[1]
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(source, page, "exec"), names)
        if block[2]:
            assert output.getvalue() == block[2]
