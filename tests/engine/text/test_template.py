"""The special tokens around a single text, for every way in which a tokenizer can state them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from modernrank import ArtifactError
from modernrank.text.encoder import load_tokenizer
from modernrank.text.template import find_template
from support.checkpoints import checkpoint

FILE = Path("tokenizer.json")
CLS, SEP = ("[CLS]", 508), ("[SEP]", 509)


def template(single: str, pair: str = "[CLS] $A [SEP] $B [SEP]") -> processors.PostProcessor:
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=[CLS, SEP])


@pytest.mark.parametrize(
    ("processor", "before", "after"),
    [
        (template("[CLS] $A [SEP]"), [508], [509]),
        (template("[CLS] $A"), [508], []),
        (template("$A [SEP]"), [], [509]),
        (template("$A"), [], []),
        (template("[CLS] [CLS] $A [SEP] [SEP]"), [508, 508], [509, 509]),
        (processors.BertProcessing(SEP, CLS), [508], [509]),
        (processors.RobertaProcessing(SEP, CLS), [508], [509]),
        (processors.Sequence([processors.ByteLevel(), template("[CLS] $A [SEP]")]), [508], [509]),
        (processors.ByteLevel(), [], []),
    ],
)
def test_it_is_found(processor: processors.PostProcessor, before: list[int], after: list[int]) -> None:
    tokenizer = load_tokenizer(checkpoint("tiny") / "tokenizer.json")
    tokenizer.post_processor = processor
    found = find_template(tokenizer, FILE, texts=1)
    assert (found.gaps, len(found)) == ((tuple(before), tuple(after)), len(before) + len(after))
    text = "größe of a word"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert found.join(ids) == tokenizer.encode(text).ids


def test_a_mark_of_several_tokens_is_found_too() -> None:
    """As in vocabularies of words with a separate token for the space before them."""
    vocabulary = {"▁": 0, "a": 1, "b": 2, "[CLS]": 508, "[SEP]": 509, "[UNK]": 3}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Prepend("▁")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = template("[CLS] $A [SEP]")
    assert tokenizer.encode("a").ids == [508, 0, 1, 509]
    found = find_template(tokenizer, FILE, texts=1)
    assert found.gaps == ((508,), (509,))


def test_a_text_in_several_pieces_is_refused() -> None:
    tokenizer = load_tokenizer(checkpoint("tiny") / "tokenizer.json")
    tokenizer.post_processor = template("[CLS] $A [SEP] $A")
    with pytest.raises(ArtifactError) as refused:
        find_template(tokenizer, FILE, texts=1)
    assert refused.value.details["path"] == FILE


def test_a_tokenizer_without_a_token_for_any_character_is_refused() -> None:
    tokenizer = Tokenizer(models.WordLevel({"word": 0}, unk_token="word"))
    tokenizer.normalizer = normalizers.Replace(Regex("."), "")
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ArtifactError):
        find_template(tokenizer, FILE, texts=1)
