"""The other side of a verification: the checkpoint in ``transformers``, in float32."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from modernrank.arrays import FloatArray, IntArray
from modernrank.artifact.folder import Artifact
from modernrank.errors import ArtifactError, counted
from modernrank.export.checkpoint.hub import TOKENIZER
from modernrank.export.checkpoint.special_tokens import token_texts
from modernrank.export.report import Report, silent
from modernrank.options import TextLimits
from modernrank.text.encoder import parse_tokenizer

from .inputs import TEXTS, special_token_pairs

# These versions of tokenizers stop tokenising a part that has max_length tokens, and compare the lengths of what they
# have by then. Where both parts are that long and an odd number of tokens stays, the shorter part may get the odd one.
# The versions before and after them compare whole parts, as modernrank does (docs/decisions/0010-odd-token.md).
COMPARE_CUT_PARTS = ("0.23.1", "0.23.2")


class TransformersModel:
    """A checkpoint, loaded by ``transformers`` in float32, on torch's ``device``.

    ``description`` names the versions that run it.
    """

    def __init__(self, checkpoint: Path, device: str = "cpu") -> None:
        import tokenizers
        import torch
        import transformers

        torch.backends.cuda.matmul.allow_tf32 = False  # it would round to 10 bits, more than a verification allows
        self._device = device
        self._model = transformers.AutoModelForSequenceClassification.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="sdpa"
        )
        self._model = self._model.eval().to(device)
        where = "" if device == "cpu" else f" on {torch.cuda.get_device_name(device)} without TF32"
        self.description = (
            f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}, torch {torch.__version__}, "
            f"float32{where}"
        )

    def logits(self, pairs: list[IntArray], report: Report = silent) -> FloatArray:
        """Float32 logits ``[pairs, labels]`` of token ids; each pair is scored alone."""
        import torch

        logits: list[Any] = []
        with torch.inference_mode():
            for pair in pairs:
                report(f"transformers: a pair of {counted(len(pair), 'token')}")
                ids = torch.from_numpy(pair[None]).to(self._device)
                logits.append(self._model(input_ids=ids).logits[0].float().cpu().numpy())
        return np.stack(logits)


def check_tokenizer(artifact: Artifact, checkpoint: Path, report: Report = silent) -> None:
    """Compare token ids, whole and cut, with those of ``transformers``: all pairs of TEXTS, and every special token.

    With a version of COMPARE_CUT_PARTS the limits are lowered so that an even number of tokens stays, and ``report``
    receives the difference.

    Raises:
        ArtifactError: a pair becomes other ids.
    """
    import tokenizers
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    only_even = tokenizers.__version__ in COMPARE_CUT_PARTS
    if only_even:
        report(
            f"where both parts of a pair reach max_length, tokenizers {tokenizers.__version__} may keep one token more "
            "of one part and one less of the other than modernrank; install tokenizers 0.23.3 for the same scores"
        )
    encoder = artifact.encoder()
    special_tokens = len(encoder.template)
    texts = token_texts(checkpoint, parse_tokenizer(checkpoint / TOKENIZER))
    pairs = [*itertools.product(TEXTS, TEXTS), *special_token_pairs(texts)]
    prompt = artifact.manifest.tokenizer.prompt
    prompted = [(f"{prompt}{query}", document) for query, document in pairs]
    for limit in (max(8, special_tokens + 2), 64, artifact.manifest.model.max_length):
        max_length = limit - (limit - special_tokens) % 2 if only_even else limit
        # A list of pairs, as rerankers are called: given two strings, transformers treats an empty second one as none.
        expected = tokenizer(prompted, truncation=True, max_length=max_length)["input_ids"]
        # What has no token in transformers has no score there either.
        with_tokens = [(pair, ids) for pair, ids in zip(pairs, expected, strict=True) if ids]
        encoded = encoder.with_limits(TextLimits(max_length)).encode([pair for pair, _ in with_tokens])
        for (pair, theirs), ours in zip(with_tokens, encoded, strict=True):
            if ours.ids.tolist() != theirs:
                raise ArtifactError(
                    f"transformers {transformers.__version__} with tokenizers {tokenizers.__version__} encodes "
                    f"{pair!r} to other token ids at max_length {max_length}, so the scores would differ; export again "
                    "with this version of modernrank, and report it if that does not help",
                    pair=pair,
                    max_length=max_length,
                    transformers=transformers.__version__,
                    tokenizers=tokenizers.__version__,
                )
