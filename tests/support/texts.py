"""Texts for tests of tokenizers: random characters between pieces that tokenizers treat in ways of their own."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

PIECES = (
    "",
    " ",
    "   ",
    "\t\n",
    "the Licence",
    "Größe",
    "e\u0301",
    "日本の首都",
    "ﬁ \U0001f600",
    "NUL \0 zero\u200bwidth",
    "▁",
    "<0x41>",
    "abc ab",
)
CHARACTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def texts(special: Sequence[str]) -> st.SearchStrategy[str]:
    """Texts in which the ``special`` ones occur often, beside anything."""
    return st.lists(st.one_of(CHARACTERS, st.sampled_from([*PIECES, *special])), max_size=6).map("".join)
