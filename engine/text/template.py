"""The special tokens that a tokenizer puts around one text or two, found by encoding some.

    [CLS] query [SEP] document [SEP]      two texts, and three gaps around them
    [CLS] query [SEP]                     one text, and two gaps

A tokenizer without a post-processor, or with one for single texts only, has empty gaps around a pair.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from modernrank.errors import ArtifactError

# Characters of many scripts, so that every vocabulary has a token for one of them at least.
MARKS = "a B 1 . é я α ا あ ア 中 한 ก अ"
# What is between the texts must not depend on them: short, long, white space alone, and none at all.
PROBES = (MARKS, "a", "b c\n", "  ", "x" * 40, "")


@dataclass(frozen=True)
class Template:
    """The special tokens around texts: ``gaps[0] text gaps[1] text gaps[2]``. There is one gap more than texts."""

    gaps: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        """The number of special tokens."""
        return sum(map(len, self.gaps))

    def join(self, *texts: Sequence[int]) -> list[int]:
        """The token ids of ``texts``, each without special tokens, with those around and between them.

        >>> Template(((1,), (2,), (2,))).join([7, 8], [9])
        [1, 7, 8, 2, 9, 2]
        """
        ids = list(self.gaps[0])
        for text, gap in zip(texts, self.gaps[1:], strict=True):
            ids += text
            ids += gap
        return ids


def find_template(tokenizer: Tokenizer, file: Path, texts: int = 2) -> Template:
    """Find the special tokens around so many ``texts``, and check that they are the same for different texts.

    Args:
        tokenizer: without padding and truncation.
        file: its ``tokenizer.json``, for errors.
        texts: 1 or 2.

    Raises:
        ArtifactError: the tokenizer encodes texts in another order, more than once, or in a way that depends on what
            stands beside them.
    """
    template = Template(_gaps(_encode(tokenizer, [MARKS] * texts), file, texts))
    for combination in itertools.product(PROBES, repeat=texts):
        alone = [tokenizer.encode(text, add_special_tokens=False).ids for text in combination]
        together = _encode(tokenizer, combination).ids
        if template.join(*alone) != together:
            raise ArtifactError(
                f"{file}: post_processor does not put the same special tokens around every text: {combination!r} "
                f"becomes the token ids {together}, and {template.join(*alone)} were expected; modernrank supports "
                "templates in which each text occurs once, as in '[CLS] $A [SEP] $B [SEP]'",
                path=file,
                field="post_processor",
                texts=combination,
                ids=together,
                expected=template.join(*alone),
            )
    return template


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Encoding:
    return tokenizer.encode(texts[0], texts[1] if len(texts) > 1 else None)


def _gaps(encoding: Encoding, file: Path, texts: int) -> tuple[tuple[int, ...], ...]:
    """The ids that belong to no text, before, between and after the texts. Every text has tokens."""
    gaps: list[list[int]] = [[] for _ in range(texts + 1)]
    order = [text for text, _ in itertools.groupby(encoding.sequence_ids) if text is not None]
    if order != list(range(texts)):
        raise _wrong_order(order, encoding, file, texts)
    current = -1
    for token, text in zip(encoding.ids, encoding.sequence_ids, strict=True):
        if text is None:
            gaps[current + 1].append(token)
        else:
            current = text
    return tuple(map(tuple, gaps))


def _wrong_order(order: list[int], encoding: Encoding, file: Path, texts: int) -> ArtifactError:
    if len(set(order)) < texts:
        return ArtifactError(
            f"{file} has no token for any character of {MARKS!r}, so its template cannot be found; it is not the "
            "tokenizer of a text model",
            path=file,
            field="model.vocab",
            value=list(encoding.tokens),
        )
    return ArtifactError(
        f"{file}: post_processor puts the texts in the order {', '.join(str(text + 1) for text in order)}; modernrank "
        "supports templates in which each text occurs once and the first comes first, as in "
        "'[CLS] $A [SEP] $B [SEP]'",
        path=file,
        field="post_processor",
        order=order,
    )
