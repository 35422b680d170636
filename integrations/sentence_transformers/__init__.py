"""modernrank behind the interface of ``sentence_transformers.CrossEncoder``.

``CrossEncoder`` is a class with its constructor, ``predict`` and ``rank``, which requires neither torch nor
sentence-transformers. ``module`` is what runs modernrank inside the real class, in a folder that ``modernrank export
--with sentence-transformers`` wrote; importing it requires both.
"""

from __future__ import annotations

from .cross_encoder import CrossEncoder

__all__ = ["CrossEncoder"]
