"""Numbers as people read them."""

MEBIBYTE = 2**20


def mebibytes(size: int) -> str:
    """A number of bytes.

    >>> mebibytes(16 * MEBIBYTE), mebibytes(1500)
    ('16 MiB', '1,500 bytes')
    """
    return f"{size / MEBIBYTE:g} MiB" if size >= MEBIBYTE and size % (MEBIBYTE // 4) == 0 else f"{size:,} bytes"
