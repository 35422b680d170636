"""The other side of a verification for modular rerankers: the checkpoint in sentence-transformers, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from modernrank.arrays import FloatArray, IntArray
from modernrank.errors import counted
from modernrank.export.report import Report, silent


class SentenceTransformersModel:
    """A checkpoint, loaded by ``CrossEncoder`` of sentence-transformers in float32, on torch's ``device``.

    ``description`` names the versions that run it.
    """

    def __init__(self, checkpoint: Path, device: str = "cpu") -> None:
        import sentence_transformers
        import torch
        import transformers

        torch.backends.cuda.matmul.allow_tf32 = False  # it would round to 10 bits, more than a verification allows
        self._device = device
        self._model: Any = sentence_transformers.CrossEncoder(
            str(checkpoint),
            device=device,
            local_files_only=True,
            model_kwargs={"dtype": torch.float32, "attn_implementation": "sdpa"},
        )
        self._model = self._model.float().eval()  # weights of modules may be stored in half precision
        where = "" if device == "cpu" else f" on {torch.cuda.get_device_name(device)} without TF32"
        versions = [
            f"{module.__name__} {module.__version__}" for module in (sentence_transformers, transformers, torch)
        ]
        self.description = f"{', '.join(versions)}, float32{where}"

    def logits(self, pairs: list[IntArray], report: Report = silent) -> FloatArray:
        """Float32 ``[pairs, labels]`` of token ids, before the activation; each pair is scored alone."""
        import torch

        logits: list[Any] = []
        with torch.inference_mode():
            for pair in pairs:
                report(f"sentence-transformers: a pair of {counted(len(pair), 'token')}")
                ids = torch.from_numpy(pair[None]).to(self._device)
                features = self._model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
                logits.append(features["scores"][0].float().cpu().numpy())
        return np.stack(logits)
