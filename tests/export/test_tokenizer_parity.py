"""Live, against transformers: token ids and scores of checkpoints with every kind of tokenizer.

Run by ``make parity``; requires torch and transformers. Those that are refused are shown to encode otherwise than their
``tokenizer.json`` alone.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from modernrank import ArtifactError, InputError, Reranker, TextLimits
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import FILE_NAME
from modernrank.export import export_checkpoint, verify_artifact
from modernrank.export.verification.transformers_model import check_tokenizer
from support.small_tokenizers import modernbert
from support.texts import texts
from support.tokenizer_kinds import REFUSED, SUPPORTED

pytestmark = pytest.mark.parity

PAIRS = [
    ("What is the Licence?", "The Licence is Apache 2.0"),
    ("What is the licence", ""),
    ("", "the licence"),
    ("日本の首都", "東京です。 The capital"),
    ("  two  spaces ", "\ttabs\nand lines "),
    ("émoji \U0001f600 ﬁ", "NUL \0 zero\u200bwidth"),
    ("a", "b"),
    ("A </s> [SEP] <eos>", "hidden [CLS] <bos> tokens [QUERY] x <s>"),
    ("abc", "long " * 200),
]


@dataclass(frozen=True)
class Compared:
    """A checkpoint, its artifact, and the tokenizer of ``transformers``."""

    checkpoint: Path
    artifact: Artifact
    theirs: Any


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compared]:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("kinds")
    sides = {}
    for number, (name, kind) in enumerate(SUPPORTED.items()):
        checkpoint = kind.write(folder / f"checkpoint-{number}")
        export_checkpoint(checkpoint, folder / f"artifact-{number}")
        artifact = Artifact.open(folder / f"artifact-{number}")
        sides[name] = Compared(checkpoint, artifact, AutoTokenizer.from_pretrained(checkpoint))
    return sides


@pytest.mark.parametrize("name", SUPPORTED)
def test_ids_are_those_of_transformers(compared: dict[str, Compared], name: str) -> None:
    sides = compared[name]
    encoder = sides.artifact.encoder()
    special = [*sides.theirs.get_added_vocab(), *sides.theirs.all_special_tokens]

    @settings(max_examples=80)
    @given(texts(special), texts(special), st.integers(len(encoder.template) + 1, 40) | st.none())
    def compare(query: str, document: str, max_length: int | None) -> None:
        """Without a limit, that of the tokenizer holds."""
        limited = encoder.with_limits(TextLimits(max_length))
        expected = sides.theirs([(query, document)], truncation=True, max_length=max_length)["input_ids"][0]
        if not expected:
            with pytest.raises(InputError):
                limited.encode([(query, document)])
            return
        ours = limited.encode([(query, document)])[0]
        assert ours.ids.tolist() == expected

    compare()
    check_tokenizer(sides.artifact, sides.checkpoint)


@pytest.mark.parametrize("name", SUPPORTED)
def test_scores_are_those_of_transformers(compared: dict[str, Compared], name: str) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    sides = compared[name]
    model = AutoModelForSequenceClassification.from_pretrained(sides.checkpoint, dtype=torch.float32).eval()
    with torch.inference_mode():
        # As a caller writes it, with whatever the tokenizer returns: token types too, where it has them.
        expected = [model(**sides.theirs([p], truncation=True, return_tensors="pt")).logits[0, 0].item() for p in PAIRS]
    with warnings.catch_warnings(), Reranker.load(sides.artifact.folder, threads=1) as reranker:
        warnings.simplefilter("ignore")
        scores = reranker.score(PAIRS)
    assert np.std(expected) > 0.05
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)


def test_token_types_are_returned_and_change_nothing(compared: dict[str, Compared]) -> None:
    sides = compared["token types"]
    assert 1 in sides.theirs([("a", "b")])["token_type_ids"][0]


def test_what_transformers_makes_of_a_pair_without_tokens(compared: dict[str, Compared]) -> None:
    """No ids, and its model fails, where modernrank refuses the pair by its index."""
    from transformers import AutoModelForSequenceClassification

    sides = compared["no post-processor"]
    batch = sides.theirs([("", "")], return_tensors="pt")
    assert batch["input_ids"].shape == (1, 0)
    model = AutoModelForSequenceClassification.from_pretrained(sides.checkpoint)
    with pytest.raises(RuntimeError):
        model(**batch)


DIFFERENT = [name for name, kind in REFUSED.items() if kind.text]


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_is_refused_differs_in_transformers(tmp_path: Path, name: str) -> None:
    from transformers import AutoTokenizer

    checkpoint = REFUSED[name].write(tmp_path / "checkpoint")
    alone = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(checkpoint)([("a", REFUSED[name].text)])["input_ids"][0]
    assert theirs != alone.encode("a", REFUSED[name].text).ids


@pytest.mark.parametrize("name", DIFFERENT)
def test_saving_it_again_is_the_remedy(tmp_path: Path, name: str) -> None:
    from transformers import AutoTokenizer

    checkpoint = REFUSED[name].write(tmp_path / "checkpoint")
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(checkpoint)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pad_token_id")  # one of them has the new token for padding
        export_checkpoint(checkpoint, tmp_path / "out")
    check_tokenizer(Artifact.open(tmp_path / "out"), checkpoint)


@pytest.mark.parametrize("name", DIFFERENT)
def test_verify_alone_finds_what_is_refused(tmp_path: Path, name: str) -> None:
    """An artifact of ``tokenizer.json`` alone, as versions before exported it, against the whole checkpoint."""
    checkpoint = REFUSED[name].write(tmp_path / "checkpoint")
    settings_file, others = checkpoint / "tokenizer_config.json", list(REFUSED[name].files)
    known = {file: (checkpoint / file).read_text() for file in [settings_file.name, *others]}
    for file in known:
        (checkpoint / file).unlink()
    content = (checkpoint / "tokenizer.json").read_text()
    padding_off = Tokenizer.from_str(content)
    padding_off.no_padding()
    padding_off.save(str(checkpoint / "tokenizer.json"))
    export_checkpoint(checkpoint, tmp_path / "out")
    for file, text in {**known, "tokenizer.json": content}.items():
        (checkpoint / file).write_text(text)
    with pytest.raises(ArtifactError) as refused:
        check_tokenizer(Artifact.open(tmp_path / "out"), checkpoint)
    assert "pair" in refused.value.details


def test_verify_finds_split_special_tokens(tmp_path: Path) -> None:
    checkpoint = SUPPORTED["special tokens split"].write(tmp_path / "checkpoint")
    export_checkpoint(checkpoint, tmp_path / "out")
    artifact = Artifact.open(tmp_path / "out")
    check_tokenizer(artifact, checkpoint)
    older = replace(artifact.manifest, tokenizer=replace(artifact.manifest.tokenizer, splits_special_tokens=False))
    (tmp_path / "out" / FILE_NAME).write_text(older.to_json())
    with pytest.raises(ArtifactError) as refused:
        check_tokenizer(Artifact.open(tmp_path / "out"), checkpoint)
    assert "pair" in refused.value.details


@pytest.mark.parametrize("name", ["Gemma, as mmBERT", "no post-processor", "Llama, bos and eos around each text"])
def test_verify_passes(compared: dict[str, Compared], name: str) -> None:
    assert verify_artifact(compared[name].artifact.folder, compared[name].checkpoint, longest=130).passed


@pytest.mark.parametrize(
    ("files", "name"),
    [({"vocab.txt": "vocab"}, "BertTokenizer"), ({"vocab.json": "vocab", "merges.txt": "merges"}, "RobertaTokenizer")],
)
def test_the_line_that_makes_tokenizer_json_works(tmp_path: Path, files: dict[str, str], name: str) -> None:
    """What the error says is run as it is; the export then succeeds, and agrees with transformers."""
    import json
    import shlex
    import subprocess
    import sys

    kind = SUPPORTED["WordPiece, lower case" if name == "BertTokenizer" else "RobertaProcessing"]
    checkpoint = kind.write(tmp_path / "checkpoint")
    model = json.loads((checkpoint / "tokenizer.json").read_text())["model"]
    (checkpoint / "tokenizer.json").unlink()
    if name == "BertTokenizer":
        (checkpoint / "vocab.txt").write_text("\n".join(sorted(model["vocab"], key=model["vocab"].get)))
    else:
        (checkpoint / "vocab.json").write_text(json.dumps(model["vocab"]))
        (checkpoint / "merges.txt").write_text("\n".join(" ".join(merge) for merge in model["merges"]))
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(checkpoint, tmp_path / "out")
    assert refused.value.details["converted_by"] == name
    command = shlex.split(str(refused.value).partition("python -c ")[2])[0]
    subprocess.run([sys.executable, "-c", command], check=True, capture_output=True)
    export_checkpoint(checkpoint, tmp_path / "out")
    check_tokenizer(Artifact.open(tmp_path / "out"), checkpoint)


def test_a_tokenizer_of_another_model_is_found_by_its_rows(tmp_path: Path) -> None:
    """What ``transformers`` itself does with ids beyond the table is an error of torch."""
    import torch
    from transformers import AutoModelForSequenceClassification

    kind = replace(SUPPORTED["ModernBERT"], make=modernbert, rows=599)
    checkpoint = kind.write(tmp_path / "checkpoint")
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[599]]))
    with pytest.raises(ArtifactError) as refused:
        export_checkpoint(checkpoint, tmp_path / "out")
    assert refused.value.details["largest"] == 599
