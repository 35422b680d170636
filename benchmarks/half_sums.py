"""What it costs in accuracy if float16 products add up in float16, as GPU libraries may choose to do.

    python -m modernrank.benchmarks.half_sums CHECKPOINT --out FILE

It runs a checkpoint three times on a processor, on pairs of the calibration set: in float32, with the inputs and
results of linear layers rounded to float16 and sums in float32, and with sums in float16 too. Tensor cores add STEP
products exactly, and then round the sum so far. Requires ``modernrank[verify]``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from modernrank.arrays import FloatArray
from modernrank.export.precision.calibration import held_out_pairs

from .measure.environment import describe

STEP = 16
PAIRS = 24
MAX_LENGTH = 96
Linear = Callable[..., Any]


def linear_in_half(sums: str) -> Linear:
    """A linear layer of torch whose inputs, weights and results are float16 values.

    Args:
        sums: the type in which products are added up, ``"float32"`` or ``"float16"``.
    """
    import torch

    def half(x: Any) -> Any:
        return x.to(torch.float16).to(torch.float32)

    def linear(x: Any, weight: Any, bias: Any = None) -> Any:
        x, weight = half(x), half(weight)
        if sums == "float32":
            total = x @ weight.T
        else:
            total = torch.zeros(*x.shape[:-1], len(weight))
            for start in range(0, x.shape[-1], STEP):
                part = slice(start, start + STEP)
                total = half(total + x[..., part] @ weight[:, part].T)
        return half(total if bias is None else total + bias)

    return linear


def scores(checkpoint: Path, linear: Linear | None) -> FloatArray:
    """Logits of the first label for PAIRS pairs, with ``linear`` in place of torch's in the encoder's layers."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    if linear is not None:
        for module in model.model.layers.modules():
            if isinstance(module, torch.nn.Linear):
                module.forward = lambda x, module=module: linear(x, module.weight, module.bias)
    inputs = tokenizer(
        held_out_pairs()[:PAIRS], padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
    )
    with torch.inference_mode():
        logits: FloatArray = model(**inputs).logits[:, 0].numpy()
    return logits


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="write the result as JSON")
    args = parser.parse_args()
    exact = scores(args.checkpoint, None)
    result: dict[str, Any] = {"environment": describe(seed=0), "pairs": len(exact), "rms": {}}
    for sums in ("float32", "float16"):
        difference = scores(args.checkpoint, linear_in_half(sums)) - exact
        result["rms"][sums] = float(np.sqrt(np.mean(difference**2)) / exact.std())
        print(f"sums in {sums}: RMS difference {result['rms'][sums]:.2%} of the scores' standard deviation", flush=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
