"""Small tokenizers of every kind, trained in a moment on the licence's text and some Japanese."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from .layout import ROOT

JAPANESE = [
    "日本の首都は東京です。",
    "圧縮ファイルを読み書きするライブラリ。",
    "天気が良いので散歩に行きましょう。",
] * 5


@functools.cache
def _english() -> list[str]:
    return (ROOT / "LICENSE").read_text(encoding="utf-8").splitlines()


def with_template(tokenizer: Tokenizer, single: str, pair: str) -> Tokenizer:
    """A copy with a template, in the notation of the library."""
    copied = Tokenizer.from_str(tokenizer.to_str())
    names = sorted({name.split(":")[0] for name in f"{single} {pair}".split() if not name.startswith("$")})
    copied.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(name, copied.token_to_id(name)) for name in names]
    )
    return copied


def edited(tokenizer: Tokenizer, edit: Callable[[dict[str, Any]], object]) -> Tokenizer:
    """A copy whose JSON ``edit`` has changed."""
    content = json.loads(tokenizer.to_str())
    edit(content)
    return Tokenizer.from_str(json.dumps(content))


@functools.cache
def _byte_fallback(specials: tuple[str, ...]) -> Tokenizer:
    """BPE with a token for each byte, as Llama and Gemma have it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_previous")
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=[*specials, *bytes_], show_progress=False)
    tokenizer.train_from_iterator([*_english(), *JAPANESE], trainer)

    def clean(content: dict[str, Any]) -> None:
        content["added_tokens"] = [a for a in content["added_tokens"] if not a["content"].startswith("<0x")]
        content["model"] |= {"byte_fallback": True, "fuse_unk": True}

    return edited(tokenizer, clean)


def gemma(single: str = "<bos> $A <eos>", pair: str = "<bos> $A <eos> $B <eos>") -> Tokenizer:
    tokenizer = Tokenizer.from_str(_byte_fallback(("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")).to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return with_template(tokenizer, single, pair)


def llama(single: str = "<s> $A </s>", pair: str = "<s> $A </s> $B </s>", metaspace: bool = False) -> Tokenizer:
    tokenizer = Tokenizer.from_str(_byte_fallback(("<unk>", "<s>", "</s>", "<pad>", "<mask>")).to_str())
    if metaspace:
        tokenizer = edited(tokenizer, lambda content: content.update(normalizer=None))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer = edited(tokenizer, lambda content: content.update(pre_tokenizer=None))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return with_template(tokenizer, single, pair)


@functools.cache
def unigram(scheme: str) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    specials = ["<unk>", "<s>", "</s>", "<pad>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=specials, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([*_english(), *JAPANESE], trainer)
    return with_template(tokenizer, "<s> $A </s>", "<s> $A </s> $B </s>")


def unigram_without_a() -> Tokenizer:
    """A text "a" becomes two tokens."""

    def discourage(content: dict[str, Any]) -> None:
        vocabulary = content["model"]["vocab"]
        content["model"]["vocab"] = [[word, -20.0 if word in ("▁a", "▁b") else p] for word, p in vocabulary]

    return edited(unigram("always"), discourage)


def characters() -> Tokenizer:
    """Japanese characters only: every Latin letter is the unknown token."""
    known = ["<unk>", "<s>", "</s>", "<pad>", "<mask>", *sorted(set("".join(JAPANESE)))]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(known)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.add_special_tokens(known[:5])
    return with_template(tokenizer, "<s> $A </s>", "<s> $A </s> $B </s>")


@functools.cache
def wordpiece(lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        _english(), trainers.WordPieceTrainer(vocab_size=800, special_tokens=specials, show_progress=False)
    )
    return with_template(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")


@functools.cache
def _bytes(specials: tuple[str, ...]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, special_tokens=list(specials), show_progress=False
    )
    tokenizer.train_from_iterator(_english(), trainer)
    return tokenizer


def byte_level(specials: tuple[str, ...] = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")) -> Tokenizer:
    """Without a post-processor."""
    return Tokenizer.from_str(_bytes(specials).to_str())


def modernbert(pair: str = "[CLS] $A [SEP] $B [SEP]") -> Tokenizer:
    return with_template(byte_level(), "[CLS] $A [SEP]", pair)


def single_only() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def in_sequence() -> Tokenizer:
    """The template inside a sequence of post-processors."""
    tokenizer = modernbert()
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), tokenizer.post_processor])
    return tokenizer


def roberta(add_prefix_space: bool = False) -> Tokenizer:
    tokenizer = byte_level(("<s>", "<pad>", "</s>", "<unk>", "<mask>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=add_prefix_space)
    return tokenizer


def bert_processing() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tokenizer


def embedding(direction: str = "right") -> Tokenizer:
    """Padding and truncation in the file."""
    tokenizer = modernbert()
    tokenizer.enable_truncation(8, strategy="only_second", direction=direction)
    tokenizer.enable_padding(length=64, pad_id=3, pad_token="[PAD]")
    return tokenizer


def with_added_tokens() -> Tokenizer:
    """Added tokens of every flag, some of them special, and white space as in ModernBERT's own tokenizer."""
    tokenizer = modernbert()
    tokenizer.add_tokens(
        [
            AddedToken("|||EMAIL|||", normalized=False),
            AddedToken("Größe", normalized=True),
            AddedToken("left", lstrip=True),
            AddedToken("right", rstrip=True),
            AddedToken("word", single_word=True),
            AddedToken("   ", normalized=True),
        ]
    )
    tokenizer.add_special_tokens([AddedToken("[QUERY]", lstrip=True, rstrip=True)])
    return tokenizer


def lower_case() -> Tokenizer:
    """Everything in lower case without accents, and special tokens that are found after that."""
    tokenizer = modernbert()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]
    )
    tokenizer.add_special_tokens([AddedToken("[query]", normalized=True)])
    return tokenizer


def without_unknown() -> Tokenizer:
    """Characters that it does not know vanish, so that some texts have no token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.train_from_iterator(
        ["abc ab bc ca"] * 3,
        trainers.BpeTrainer(vocab_size=40, special_tokens=["[PAD]", "[CLS]", "[SEP]"], show_progress=False),
    )
    return with_template(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]")


def in_vocabulary_only() -> Tokenizer:
    """[MASK] is a token of the model, and not an added one."""

    def remove(content: dict[str, Any]) -> None:
        content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "[MASK]"]

    return edited(modernbert(), remove)


def padded_with_another_token() -> Tokenizer:
    tokenizer = modernbert()
    tokenizer.enable_padding(pad_token="<none>")
    return tokenizer


def dropping_out() -> Tokenizer:
    return edited(modernbert(), lambda content: content["model"].update(dropout=0.5))
