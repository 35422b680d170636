#!/usr/bin/env python3
"""Write the tiny checkpoints and the golden logits that the default test suite reads. Needs torch, transformers
and sentence-transformers.

    python tests/make_test_data.py

Two checkpoints of random weights, in ``tests/data``:

tiny       like the real model: mean pooling, one label, no biases, window of 128, old spelling of the config
tiny-cls   everything else: cls pooling, three labels, all biases, window of 32, other layers, new spelling

``modular-golden.json`` holds what sentence-transformers makes of the encoder of ``tiny`` with the heads of
``support/modular.py``. Only it can be written anew alone: ``python tests/make_test_data.py modular``.

``demo-golden.json`` holds what the trained model of ``demo/model`` makes of a query with the documents of ``demo``, and
of texts of many lengths.

The golden logits are those of ``transformers`` in float32, with the token ids, for pairs of many lengths. Beside them
stand the logits of models with one of the mistakes that others made: a test shows that ours are not those.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import sentence_transformers
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, ModernBertConfig, ModernBertForSequenceClassification

from support.modular import CHAINS, GOLDEN, write_modular

DATA = Path(__file__).resolve().parent / "data"
TEXT = (DATA.parents[1] / "LICENSE").read_text(encoding="utf-8")
SPECIALS = {"[UNK]": 507, "[CLS]": 508, "[SEP]": 509, "[PAD]": 510, "[MASK]": 511}
SMALL = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "bos_token_id": SPECIALS["[CLS]"],
    "cls_token_id": SPECIALS["[CLS]"],
    "sep_token_id": SPECIALS["[SEP]"],
    "eos_token_id": SPECIALS["[SEP]"],
    "pad_token_id": SPECIALS["[PAD]"],
}
CONFIGS = {
    "tiny": {**SMALL, "classifier_pooling": "mean", "id2label": {0: "LABEL_0"}},
    "tiny-cls": {
        **SMALL,
        "classifier_pooling": "cls",
        "id2label": {0: "no", 1: "maybe", 2: "yes"},
        "local_attention": 32,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"] * 2,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 50_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 3_000.0},
        },
        "hidden_activation": "silu",
        "classifier_activation": "gelu_pytorch_tanh",
        "norm_eps": 1e-3,
        "norm_bias": True,
        "attention_bias": True,
        "mlp_bias": True,
        "classifier_bias": True,
    },
}
# One change each to the config of `tiny`: what others got wrong with this model.
MISTAKES = {
    "cls pooling": {"classifier_pooling": "cls"},
    "window one too narrow": {"local_attention": 126},
    "window one too wide": {"local_attention": 130},
    "no window": {"layer_types": ["full_attention"] * 6},
    "rope thetas swapped": {
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 160_000.0},
        }
    },
}


def make_tokenizer(path: Path) -> None:
    """A byte-level BPE of 507 entries, with the traps of the real one: embedded padding and truncation."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=507, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT.splitlines(), trainer)
    tokenizer.add_special_tokens(list(SPECIALS))
    assert {name: tokenizer.token_to_id(name) for name in SPECIALS} == SPECIALS
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(name, SPECIALS[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.enable_padding(length=8000, pad_id=SPECIALS["[PAD]"], pad_token="[PAD]")
    tokenizer.enable_truncation(8000)
    tokenizer.save(str(path))


def make_model(settings: dict) -> ModernBertForSequenceClassification:
    """Random weights, wide enough that every token and every layer moves the logits."""
    torch.manual_seed(0)
    model = ModernBertForSequenceClassification(ModernBertConfig(**settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.normal_(1.0, 0.2)
            elif parameter.ndim == 1:
                parameter.normal_(0.0, 0.2)
            else:
                parameter.normal_(0.0, 1.5 * parameter.shape[1] ** -0.5)
    return model


def golden_pairs() -> list[tuple[str, str]]:
    """Pairs of about 3 to 1,100 tokens, cut from the licence's text, and some odd ones."""
    query = "You may reproduce and distribute copies of the Work"
    lengths = (0, 1, 20, 90, 110, 130, 150, 170, 190, 210, 240, 270, 300, 350, 400, 450, 600, 900, 1500, 2500)
    cut = [(query, TEXT[start : start + n]) for start, n in zip(range(0, 4000, 190), lengths, strict=False)]
    odd = [
        ("", ""),
        ("", "a document without a query"),
        ("Größe 北京 \U0001f600", "NUL \0 and e\u0301"),
        (TEXT[:700], "short"),
    ]
    return cut + odd


@torch.inference_mode()
def logits(model: ModernBertForSequenceClassification, ids: list[list[int]]) -> list[list[float]]:
    return [model(input_ids=torch.tensor([i])).logits[0].tolist() for i in ids]


def with_mistake(settings: dict, mistake: dict, weights: dict) -> ModernBertForSequenceClassification:
    model = ModernBertForSequenceClassification(ModernBertConfig(**{**settings, **mistake})).eval()
    model.load_state_dict(weights)
    return model


def write(name: str, settings: dict) -> None:
    folder = DATA / name
    shutil.rmtree(folder, ignore_errors=True)
    model = make_model(settings)
    model.save_pretrained(folder)
    make_tokenizer(folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": 8192, "tokenizer_class": "PreTrainedTokenizerFast", "truncation_side": "right"})
    )
    if name == "tiny":
        config = json.loads((folder / "config.json").read_text())
        for new in ("rope_parameters", "layer_types", "dtype"):
            config.pop(new, None)
        config.update(global_rope_theta=160000.0, local_rope_theta=10000.0, global_attn_every_n_layers=3)
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        model = ModernBertForSequenceClassification.from_pretrained(folder).eval()
    pairs = golden_pairs()
    ids = AutoTokenizer.from_pretrained(folder)(pairs)["input_ids"]
    right = logits(model, ids)
    golden = {
        "made_by": f"tests/make_test_data.py, transformers {transformers.__version__}, torch {torch.__version__}",
        "pairs": pairs,
        "input_ids": ids,
        "logits": right,
        "mistakes": {},
    }
    if name == "tiny":
        for mistake, change in MISTAKES.items():
            golden["mistakes"][mistake] = logits(with_mistake(settings, change, model.state_dict()), ids)
            difference = (torch.tensor(golden["mistakes"][mistake]) - torch.tensor(right)).abs().max()
            print(f"{mistake}: moves a logit by up to {difference:.3f}")
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    print(name, "tokens", sorted(map(len, ids)), "logits", min(right), max(right))


def write_demo() -> None:
    folder = DATA.parents[1] / "demo"
    model = ModernBertForSequenceClassification.from_pretrained(folder / "model", dtype=torch.float32).eval()
    query = "play music in a terminal"
    documents = (folder / "documents.txt").read_text(encoding="utf-8").splitlines()
    pairs = [*((query, document) for document in documents), *golden_pairs()]
    ids = AutoTokenizer.from_pretrained(folder / "model")(pairs, truncation=True)["input_ids"]
    golden = {
        "made_by": f"tests/make_test_data.py, transformers {transformers.__version__}, torch {torch.__version__}",
        "query": query,
        "documents": documents,
        "pairs": pairs,
        "input_ids": ids,
        "logits": [logit for (logit,) in logits(model, ids)],
    }
    (DATA / "demo-golden.json").write_text(json.dumps(golden) + "\n")


def write_modular_golden() -> None:
    pairs = json.loads((DATA / "tiny" / "golden.json").read_text())["pairs"]
    golden: dict = {"made_by": f"tests/make_test_data.py, sentence-transformers {sentence_transformers.__version__}"}
    for name, chain in CHAINS.items():
        with tempfile.TemporaryDirectory() as folder:
            model = sentence_transformers.CrossEncoder(str(write_modular(Path(folder) / "model", chain)))
            scores = model.predict(pairs, activation_fn=torch.nn.Identity(), batch_size=1)
        golden[name] = np.reshape(scores, (len(pairs), -1)).tolist()
        print(name, "scores", np.min(scores), np.max(scores), "deviation", np.std(scores, axis=0))
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    write_modular_golden()
    if sys.argv[1:] == ["modular"]:
        sys.exit()
    write_demo()
    for name, settings in CONFIGS.items():
        write(name, settings)
