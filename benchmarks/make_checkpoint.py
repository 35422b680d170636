"""Write a checkpoint with the target model's shapes and seeded random weights, for machines that cannot reach the hub.

    python -m modernrank.benchmarks.make_checkpoint OUT --like FOLDER [--style plain|outliers]

``--like`` is a folder with the target's ``config.json`` and ``tokenizer.json``; its 600 MB of weights are not required.
Shapes and tokenizer, and therefore speed, are the real model's. The scores mean nothing, but must agree with
``transformers``.

plain     transformers' own initialisation, which gives mild activations everywhere
outliers  what makes trained encoders hard to quantise: a few residual channels with activations of 50 to 130 times the
          others, and layer-norm gains that spread log-normally

Requires ``modernrank[verify]``.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any, Literal

from modernrank.options import check_choice, names_of

Style = Literal["plain", "outliers"]
STYLES: tuple[Style, ...] = ("plain", "outliers")

OUTLIER_CHANNELS = 4
OUTLIER_FACTOR = 400.0  # factor on the weights that write to these channels
GAIN_SPREAD = 0.4  # standard deviation of the logarithm of a layer norm's gain
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def make_checkpoint(out: Path, like: Path, style: Style, seed: int = 0) -> None:
    """Write safetensors and the configuration files of ``like`` to the folder ``out``.

    Raises:
        InputError: the style is unknown.
    """
    check_choice("style", style, Style)
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
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--like", type=Path, required=True, help="folder with the target's config and tokenizer")
    parser.add_argument("--style", choices=names_of(Style), default="plain", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default: %(default)s)")
    args = parser.parse_args()
    make_checkpoint(args.out, args.like, args.style, args.seed)


if __name__ == "__main__":
    main()
