"""Cut a long document into overlapping parts, of which the best one counts."""

from __future__ import annotations

# Neighbouring parts share this fraction of their tokens, so a passage on the border of one part is whole in the next,
# if it is no longer than that.
OVERLAP = 1 / 4
# Minimum number of a document's tokens in a part.
MINIMUM_PART = 16


def overlapping_spans(tokens: int, room: int) -> list[tuple[int, int]]:
    """Spans ``(start, end)`` of at most ``room`` tokens that cover ``tokens``; neighbours share at least OVERLAP of it.

    >>> overlapping_spans(10, 20), overlapping_spans(40, 20)
    ([(0, 10)], [(0, 20), (15, 35), (20, 40)])
    """
    if tokens <= room:
        return [(0, tokens)]
    step = room - int(OVERLAP * room)
    starts = (min(start, tokens - room) for start in range(0, tokens - room + step, step))
    return [(start, start + room) for start in starts]
