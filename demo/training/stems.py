"""English stop words and stems, as BM25 and the choice of queries use them."""

from __future__ import annotations

import re

import bm25s
import Stemmer

_STOP_WORDS = frozenset(bm25s.stopwords.STOPWORDS_EN)
STEMMER = Stemmer.Stemmer("english")


def stem(word: str) -> str | None:
    """What BM25 takes a word for: its stem, or nothing for stop words and what is no word."""
    word = word.lower()
    if word in _STOP_WORDS or not re.fullmatch(r"\w\w+", word):
        return None
    return str(STEMMER.stemWord(word))


def stemmed_words(text: str) -> set[str]:
    """The stems of a text's words, each once."""
    return {found for word in re.findall(r"\b\w\w+\b", text) if (found := stem(word))}
