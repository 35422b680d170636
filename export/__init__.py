"""From a ModernBERT checkpoint to an artifact: ``export_checkpoint``, and ``verify_artifact`` against ``transformers``.

Needs ``pip install 'modernrank[export]'``; verification needs ``modernrank[verify]`` as well.
"""

from modernrank.export.checkpoint.weights import DEFAULT_MODEL

from .export import export_checkpoint

__all__ = ["DEFAULT_MODEL", "export_checkpoint"]
