"""Checkpoints with every kind of tokenizer: what is exported encodes as the library does; the rest is refused by name.

``test_tokenizer_parity.py`` compares the same checkpoints with ``transformers``.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from modernrank import ArtifactError, InputError, Reranker, TextLimits
from modernrank.artifact.folder import Artifact
from modernrank.export import export_checkpoint
from modernrank.text.encoder import PairEncoder
from modernrank.text.template import find_template
from support.small_checkpoint import write_small_checkpoint
from support.small_tokenizers import edited, modernbert
from support.texts import PIECES, texts
from support.tokenizer_kinds import BERT, GENERIC, REFUSED, SUPPORTED, decoder

# What is between the texts of a pair, in tokens, where it is not "[CLS] query [SEP] document [SEP]".
TEMPLATES = {
    "Gemma, as mmBERT": (["<bos>"], ["<eos>"], ["<eos>"]),
    "Gemma, eos only in the settings": (["<bos>"], ["<bos>"], []),
    "Gemma, doubled separator": (["<bos>"], ["<eos>", "<eos>"], ["<eos>"]),
    "Llama, bos and eos around each text": (["<s>"], ["</s>", "<s>"], ["</s>"]),
    "Llama, eos only in the settings": (["<s>"], ["<s>"], []),
    "Unigram, two tokens for a": (["<s>"], ["</s>"], ["</s>"]),
    "characters, none of them Latin": (["<s>"], ["</s>"], ["</s>"]),
    "no post-processor": ([], [], []),
    "no last separator": (["[CLS]"], ["[SEP]"], []),
    "template of single texts only": ([], [], []),
    "template in a sequence": (["[CLS]"], ["[SEP]"], ["[SEP]"]),
    "RobertaProcessing": (["<s>"], ["</s>", "</s>"], ["</s>"]),
    "unknown characters vanish": (["[CLS]"], ["[SEP]"], ["[SEP]"]),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The artifact of every supported kind."""
    folder = tmp_path_factory.mktemp("kinds")
    artifacts = {}
    for number, (name, kind) in enumerate(SUPPORTED.items()):
        checkpoint = kind.write(folder / f"checkpoint-{number}")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # no kind is suspicious
            export_checkpoint(checkpoint, folder / f"artifact-{number}")
        artifacts[name] = Artifact.open(folder / f"artifact-{number}")
    return artifacts


def library(artifact: Artifact) -> Tokenizer:
    """The tokenizer of the library, whole."""
    record = artifact.manifest.tokenizer
    tokenizer = Tokenizer.from_file(str(artifact.folder / record.file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = record.splits_special_tokens
    return tokenizer


@pytest.mark.parametrize("name", SUPPORTED)
def test_ids_are_those_of_the_library(exported: dict[str, Artifact], name: str) -> None:
    artifact = exported[name]
    whole, cutting, encoder = library(artifact), library(artifact), artifact.encoder()
    own = [token.content for token in whole.get_added_tokens_decoder().values()]

    @settings(max_examples=60)
    @given(texts(own), texts(own), st.integers(len(encoder.template) + 1, 40))
    def compare(query: str, document: str, max_length: int) -> None:
        limited = encoder.with_limits(TextLimits(max_length))
        cutting.enable_truncation(max_length, direction=artifact.manifest.tokenizer.truncation_side)
        parts = [whole.encode(text, add_special_tokens=False) for text in (query, document)]
        expected = cutting.post_process(*parts).ids
        if not expected:
            with pytest.raises(InputError) as refused:
                limited.encode([(query, document)])
            assert refused.value.details["index"] == 0
            return
        assert limited.encode([(query, document)])[0].ids.tolist() == expected

    compare()


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_template_is_found(exported: dict[str, Artifact], name: str) -> None:
    artifact = exported[name]
    gaps = [[library(artifact).id_to_token(i) for i in gap] for gap in artifact.encoder().template.gaps]
    assert gaps == list(TEMPLATES[name])


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_template_of_a_single_text_is_found(exported: dict[str, Artifact], name: str) -> None:
    tokenizer = library(exported[name])
    template = find_template(tokenizer, Path("tokenizer.json"), texts=1)
    for text in PIECES:
        alone = tokenizer.encode(text, add_special_tokens=False).ids
        assert template.join(alone) == tokenizer.encode(text).ids


@pytest.mark.parametrize("name", SUPPORTED)
def test_characters_of_a_part_are_in_its_document(exported: dict[str, Artifact], name: str) -> None:
    """In order, and not beyond its end."""
    document = "The Licence, 日本の首都 and é. " * 20
    encoder = exported[name].encoder(256)
    (parts,) = encoder.encode_parts("a", [document], part_tokens=40, with_characters=True)
    spans = [part.characters for part in parts if part.characters]
    assert len(spans) == len(parts) > 1
    assert all(0 <= start < end <= len(document) for start, end in spans)
    assert spans == sorted(spans)


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_kind_scores(exported: dict[str, Artifact], name: str) -> None:
    with Reranker.load(exported[name].folder, threads=1) as reranker:
        pairs = [("日本の首都 the Licence", "東京 Licence"), ("abc", "a [SEP] </s> b")]
        scores = reranker.score(pairs, on_truncate=lambda cut: None)
    assert np.isfinite(scores).all()


def test_a_pair_without_tokens_is_refused(exported: dict[str, Artifact]) -> None:
    with Reranker.load(exported["no post-processor"].folder, threads=1) as reranker:
        assert np.isfinite(reranker.score([("", "a"), ("a", "")])).all()
        with pytest.raises(InputError) as refused:
            reranker.score([("a", "b"), ("", "")])
        assert refused.value.details["index"] == 1
        with pytest.raises(InputError):
            reranker.rank("", ["a", ""], long_documents="chunk")


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("ModernBERT", "right"),
        ("padding and truncation in the file", "right"),
        ("left truncation in the file", "left"),
        ("left truncation in the settings", "left"),
        ("left padding", "right"),
    ],
)
def test_the_side_that_is_cut_is_recorded(exported: dict[str, Artifact], name: str, side: str) -> None:
    assert exported[name].manifest.tokenizer.truncation_side == side


def test_split_special_tokens_are_recorded_and_split(exported: dict[str, Artifact]) -> None:
    split, whole = exported["special tokens split"], exported["added tokens"]
    assert (split.manifest.tokenizer.splits_special_tokens, whole.manifest.tokenizer.splits_special_tokens) == (
        True,
        False,
    )
    counts = [artifact.encoder().count(("a", "[SEP]")) for artifact in (split, whole)]
    assert counts[0] > counts[1] == 5
    # Added tokens that are not special are not split.
    assert [artifact.encoder().count(("a", "|||EMAIL|||")) for artifact in (split, whole)] == [5, 5]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path: Path, name: str) -> None:
    kind = REFUSED[name]
    checkpoint = kind.write(tmp_path / "checkpoint")
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(checkpoint, tmp_path / "out")
    details = refused.value.details
    assert details.get("field", details.get("argument")) == kind.field
    assert Path(details["path"]).parent == checkpoint
    assert Path(details["path"]).name in str(refused.value)
    assert not (tmp_path / "out").exists()


# Files that transformers converts, and the class of transformers that does it.
CONVERTIBLE = {
    ("tokenizer.model",): "AutoTokenizer",
    ("sentencepiece.bpe.model",): "XLMRobertaTokenizer",
    ("spiece.model",): "T5Tokenizer",
    ("vocab.txt",): "BertTokenizer",
    ("vocab.json", "merges.txt"): "RobertaTokenizer",
}


@pytest.mark.parametrize("files", CONVERTIBLE, ids=" ".join)
def test_without_tokenizer_json_the_error_says_how_to_make_it(tmp_path: Path, files: tuple[str, ...]) -> None:
    checkpoint = write_small_checkpoint(tmp_path / "checkpoint", modernbert(), {"tokenizer_class": GENERIC})
    (checkpoint / "tokenizer.json").unlink()
    for file in files:
        (checkpoint / file).write_text("")
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(checkpoint, tmp_path / "out")
    assert refused.value.details["found"] == list(files)
    assert refused.value.details["converted_by"] == CONVERTIBLE[files]
    assert str(checkpoint) in str(refused.value)


def test_the_class_that_the_settings_name_converts(tmp_path: Path) -> None:
    checkpoint = write_small_checkpoint(tmp_path / "checkpoint", modernbert(), {"tokenizer_class": "GPT2TokenizerFast"})
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "vocab.json").write_text("{}")
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(checkpoint, tmp_path / "out")
    assert refused.value.details["found"] == []  # without merges.txt
    (checkpoint / "merges.txt").write_text("")
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(checkpoint, tmp_path / "out")
    assert refused.value.details["converted_by"] == "GPT2Tokenizer"


def test_unknown_fields_are_warned_of_by_name(tmp_path: Path) -> None:
    settings_ = {**BERT, "tokenizer_truncation": {}, "do_lower_case": True}
    checkpoint = write_small_checkpoint(tmp_path / "checkpoint", modernbert(), settings_, pad_token_id=3)
    with pytest.warns(UserWarning, match="tokenizer_truncation") as caught:
        export_checkpoint(checkpoint, tmp_path / "out")
    assert not any(re.search("do_lower_case", str(warning.message)) for warning in caught)


def test_padding_of_another_id_is_warned_of(tmp_path: Path) -> None:
    checkpoint = write_small_checkpoint(
        tmp_path / "checkpoint", modernbert(), BERT, pad_token_id=4, config={"cls_token_id": 1, "sep_token_id": 2}
    )
    with pytest.warns(UserWarning, match="pad_token_id = 4"):
        export_checkpoint(checkpoint, tmp_path / "out")


def test_a_tokenizer_that_is_much_smaller_than_the_table_is_warned_of(tmp_path: Path) -> None:
    checkpoint = write_small_checkpoint(tmp_path / "checkpoint", modernbert(), BERT, pad_token_id=3, rows=1000)
    with pytest.warns(UserWarning, match="1000"):
        export_checkpoint(checkpoint, tmp_path / "out")


def test_ids_beyond_the_table_are_refused(tmp_path: Path) -> None:
    checkpoint = write_small_checkpoint(tmp_path / "checkpoint", modernbert(), BERT, pad_token_id=3, rows=599)
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(checkpoint, tmp_path / "out")
    assert (refused.value.details["largest"], refused.value.details["rows"]) == (599, 599)
    assert refused.value.details["path"] == checkpoint / "tokenizer.json"


def test_an_older_manifest_splits_nothing(exported: dict[str, Artifact]) -> None:
    """The field has a default, and is written."""
    manifest = json.loads((exported["ModernBERT"].folder / "manifest.json").read_text())
    assert manifest["tokenizer"].pop("splits_special_tokens") is False
    (exported["ModernBERT"].folder / "manifest.json").write_text(json.dumps(manifest))
    assert Artifact.open(exported["ModernBERT"].folder).manifest.tokenizer.splits_special_tokens is False


def test_a_template_that_depends_on_the_texts_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    REFUSED["first text twice"].make().save(str(file))
    with pytest.raises(ArtifactError) as refused:
        PairEncoder(file, 100)
    assert refused.value.details["field"] == "post_processor"


def test_a_decoder_that_says_the_same_is_accepted(tmp_path: Path) -> None:
    settings_ = {**BERT, **decoder("[SEP]", 2), "padding_side": "left"}
    checkpoint = write_small_checkpoint(tmp_path / "checkpoint", modernbert(), settings_, pad_token_id=3)
    assert export_checkpoint(checkpoint, tmp_path / "out").tokenizer.pad_token_id == 3


def test_a_flag_without_effect_may_differ(tmp_path: Path) -> None:
    """Without a normaliser, ``normalized`` says nothing."""
    tokenizer = edited(modernbert(), lambda content: content.update(normalizer=None))
    settings_ = {**BERT, **decoder("[SEP]", 2, normalized=True)}
    checkpoint = write_small_checkpoint(tmp_path / "checkpoint", tokenizer, settings_, pad_token_id=3)
    assert export_checkpoint(checkpoint, tmp_path / "out").tokenizer.pad_token_id == 3
