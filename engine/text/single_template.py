"""Find the special tokens that a tokenizer puts around a single text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from modernrank.errors import ArtifactError


@dataclass(frozen=True)
class SingleTemplate:
    """The special tokens around a single text: ``before text after``."""

    before: list[int]
    after: list[int]

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


def find_single_template(tokenizer: Tokenizer, file: Path) -> SingleTemplate:
    """Encode a mark, and ask the tokenizer which of the tokens belong to it.

    Args:
        tokenizer: with neither padding nor truncation.
        file: names it in errors.

    Raises:
        ArtifactError: the tokenizer encodes a text as something else than special tokens around it.
    """
    encoding, mark = tokenizer.encode("a"), tokenizer.encode("a", add_special_tokens=False)
    positions = [at for at, sequence in enumerate(encoding.sequence_ids) if sequence is not None]
    start, end = (positions[0], positions[-1] + 1) if positions else (0, 0)
    if not mark.ids or encoding.ids[start:end] != mark.ids:
        raise ArtifactError(
            f"{file} does not encode a text as special tokens around it, which scoring single texts requires; score "
            "pairs instead",
            path=file,
        )
    return SingleTemplate(encoding.ids[:start], encoding.ids[end:])
