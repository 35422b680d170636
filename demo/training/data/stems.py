"""English stop words and stems, the same for BM25's index, BM25's scores and the choice of queries."""

from __future__ import annotations

import re

import bm25s
import Stemmer

STEMMER = Stemmer.Stemmer("english")
_STOP_WORDS = frozenset(bm25s.stopwords.STOPWORDS_EN)


def stem(word: str) -> str | None:
    """Return the word's stem (Snowball's English), or None for a stop word, a punctuation mark or a single character.

    >>> stem("Libraries"), stem("the"), stem("-")
    ('librari', None, None)
    """
    word = word.lower()
    if word in _STOP_WORDS or not re.fullmatch(r"\w\w+", word):
        return None
    return str(STEMMER.stemWord(word))


def distinct_stems(text: str) -> set[str]:
    """Return the stems of the text's words.

    >>> sorted(distinct_stems("a library, and libraries for sound"))
    ['librari', 'sound']
    """
    stems = (stem(word) for word in re.findall(r"\b\w\w+\b", text))
    return {each for each in stems if each}
