"""Write a checkpoint with the target model's shapes and seeded random weights, to measure with where there is no hub.

    python -m modernrank.benchmarks.make_checkpoint OUT --like FOLDER [--style plain|outliers]

``--like`` is a folder with the target's ``config.json`` and ``tokenizer.json`` (600 MB of weights are not needed).
The scores mean nothing, but must agree with ``transformers``; shapes, tokenizer and so speed are the real model's.

plain     transformers' own initialisation: mild activations everywhere
outliers  what trained encoders show and quantisers stumble over: a few residual channels with activations of
          50 to 130 times the rest, and layer-norm gains spread log-normally

Needs ``modernrank[verify]``.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

OUTLIER_CHANNELS = 4
OUTLIER_FACTOR = 400.0  # on the weights that write to these channels
GAIN_SPREAD = 0.4  # standard deviation of the logarithm of a layer norm's gain
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def make_checkpoint(out: Path, like: Path, style: str, seed: int = 0) -> None:
    """Write ``out``: safetensors and the files of ``like``."""
    import torch
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    torch.manual_seed(seed)
    with torch.no_grad():
        model = ModernBertForSequenceClassification(ModernBertConfig.from_json_file(like / "config.json"))
        model.classifier.bias.normal_(0.0, 0.1)
        if style == "outliers":
            _add_outliers(model)
    model.save_pretrained(out)
    for name in FILES:
        if (like / name).is_file():
            shutil.copyfile(like / name, out / name)


def _add_outliers(model: Any) -> None:
    import torch

    width = model.config.hidden_size
    channels = torch.randperm(width)[:OUTLIER_CHANNELS]
    for layer in model.model.layers[2:-2]:
        for projection in (layer.attn.Wo, layer.mlp.Wo):
            projection.weight[channels] *= OUTLIER_FACTOR
        for norm in (layer.attn_norm, layer.mlp_norm):
            norm.weight.mul_(torch.exp(GAIN_SPREAD * torch.randn(width)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--like", type=Path, required=True)
    parser.add_argument("--style", choices=("plain", "outliers"), default="plain")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make_checkpoint(args.out, args.like, args.style, args.seed)


if __name__ == "__main__":
    main()
