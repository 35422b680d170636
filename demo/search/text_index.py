"""The first stage: a full-text index in SQLite, which ranks by bm25."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass

# Words that nearly every description has. FTS5 knows none of its own.
STOP_WORDS = frozenset(
    {
        *("a", "an", "and", "are", "as", "at", "be", "by", "can", "for", "from", "has", "have", "how", "in", "into"),
        *("is", "it", "its", "of", "on", "or", "that", "the", "this", "to", "what", "which", "who", "with", "you"),
    }
)


@dataclass(frozen=True)
class Hit:
    """A document that has at least one word of the query; a higher ``bm25`` is better."""

    name: str
    text: str
    bm25: float


class TextIndex:
    """An FTS5 table of documents, with stems of English words. Threads may share it.

    Args:
        documents: pairs of a name and a text.
        path: file of the database, which is made anew; by default it is in memory.

    >>> index = TextIndex([("mpc", "A client of the music player."), ("gcc", "A compiler.")])
    >>> [hit.name for hit in index.find("which compilers are there?", 5)]
    ['gcc']
    """

    def __init__(self, documents: Iterable[tuple[str, str]], path: str = ":memory:") -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        with self._database:
            self._database.execute("DROP TABLE IF EXISTS documents")
            self._database.execute(
                "CREATE VIRTUAL TABLE documents USING fts5(name UNINDEXED, text, tokenize = 'porter unicode61')"
            )
            self._database.executemany("INSERT INTO documents VALUES (?, ?)", documents)

    def __len__(self) -> int:
        with self._lock:
            return int(self._database.execute("SELECT count(*) FROM documents").fetchone()[0])

    def find(self, query: str, limit: int) -> list[Hit]:
        """The best documents that have any word of the query, ties in the order of the input.

        Args:
            query: any text; what FTS5 would read as operators is text as well.
            limit: maximum number of documents.
        """
        expression = match_expression(query)
        if not expression:
            return []
        with self._lock:
            rows = self._database.execute(
                "SELECT name, text, -bm25(documents) AS score FROM documents WHERE documents MATCH ? "
                "ORDER BY score DESC, rowid LIMIT ?",
                (expression, limit),
            ).fetchall()
        return [Hit(*row) for row in rows]


def match_expression(query: str) -> str:
    """The query in FTS5's language: any of its words, without stop words unless there are no others.

    >>> match_expression('a player OR "editor"')
    '"player" OR "editor"'
    >>> match_expression("the who")
    '"the" OR "who"'
    """
    words = list(dict.fromkeys(re.findall(r"\w+", query.lower())))
    telling = [word for word in words if word not in STOP_WORDS] or words
    return " OR ".join(f'"{word}"' for word in telling)
