"""The comparison of token ids with ``transformers``, by the versions of ``tokenizers`` that cut pairs differently."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import tokenizers
from tokenizers import Tokenizer

from modernrank import ArtifactError
from modernrank.artifact.folder import Artifact
from modernrank.export.verification.transformers_model import COMPARE_CUT_PARTS, check_tokenizer
from support.checkpoints import checkpoint

Install = Callable[..., None]


class StandIn:
    """Stands for ``transformers``, which is not installed here: it cuts pairs with the library's own rule.

    compares_cut_parts: cut each part to ``max_length`` first, as some versions of tokenizers do.
    side: what is cut.
    """

    def __init__(self, folder: Path, compares_cut_parts: bool, side: str) -> None:
        self._whole, self._cutting = (Tokenizer.from_file(str(folder / "tokenizer.json")) for _ in range(2))
        for tokenizer in (self._whole, self._cutting):
            tokenizer.no_padding()
            tokenizer.no_truncation()
        self._compares_cut_parts, self._side = compares_cut_parts, side

    def __call__(self, pairs: list[tuple[str, str]], truncation: bool, max_length: int) -> dict[str, list[list[int]]]:
        self._cutting.enable_truncation(max_length, direction=self._side)
        return {"input_ids": [self._cut(pair, max_length) for pair in pairs]}

    def _cut(self, pair: tuple[str, str], max_length: int) -> list[int]:
        parts = [self._whole.encode(text, add_special_tokens=False) for text in pair]
        if self._compares_cut_parts:
            for part in parts:
                part.truncate(max_length, direction=self._side)
        ids: list[int] = self._cutting.post_process(*parts).ids
        return ids


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Pretend that a version of ``tokenizers`` is installed, with a ``transformers`` that cuts as asked."""

    def change(version: str, compares_cut_parts: bool, side: str = "right") -> None:
        module = ModuleType("transformers")
        module.__version__ = "5"  # type: ignore[attr-defined]
        module.AutoTokenizer = SimpleNamespace(  # type: ignore[attr-defined]
            from_pretrained=lambda folder: StandIn(folder, compares_cut_parts, side)
        )
        monkeypatch.setitem(sys.modules, "transformers", module)
        monkeypatch.setattr(tokenizers, "__version__", version)

    return change


@pytest.fixture
def tiny(artifacts: Path) -> Artifact:
    return Artifact.open(artifacts / "tiny")


def test_every_pair_is_compared_where_the_library_compares_whole_parts(install: Install, tiny: Artifact) -> None:
    install("0.23.3", compares_cut_parts=False)
    lines: list[str] = []
    check_tokenizer(tiny, checkpoint("tiny"), lines.append)
    assert lines == []


@pytest.mark.parametrize("version", COMPARE_CUT_PARTS)
def test_a_version_that_compares_cut_parts_is_accepted_and_reported(
    install: Install, tiny: Artifact, version: str
) -> None:
    install(version, compares_cut_parts=True)
    lines: list[str] = []
    check_tokenizer(tiny, checkpoint("tiny"), lines.append)
    assert [version in line for line in lines] == [True]


def test_a_version_that_is_not_known_to_cut_differently_is_refused_by_name(install: Install, tiny: Artifact) -> None:
    install("0.99.0", compares_cut_parts=True)
    with pytest.raises(ArtifactError, match=r"tokenizers 0\.99\.0") as refused:
        check_tokenizer(tiny, checkpoint("tiny"))
    assert refused.value.details["tokenizers"] == "0.99.0"
    assert refused.value.details["max_length"] == 8


@pytest.mark.parametrize("version", ["0.23.2", "0.23.3"])
def test_other_ids_are_refused_with_every_version(install: Install, tiny: Artifact, version: str) -> None:
    install(version, compares_cut_parts=version in COMPARE_CUT_PARTS, side="left")
    with pytest.raises(ArtifactError) as refused:
        check_tokenizer(tiny, checkpoint("tiny"))
    assert refused.value.details["tokenizers"] == version
