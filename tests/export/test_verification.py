"""A verification without ``transformers``: its grid, its verdict, and which checkpoint and graph it accepts."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from modernrank import ArtifactError, InputError, Scorer
from modernrank.arrays import FloatArray, IntArray
from modernrank.artifact.folder import Artifact
from modernrank.artifact.manifest import Source
from modernrank.backends.profiles import ProfileShapes, default_profiles, fit
from modernrank.evaluation.agreement import Fidelity
from modernrank.export import export_checkpoint, record_parity, verify_artifact
from modernrank.export.checkpoint.hub import DEFAULT_MODEL, DEFAULT_REVISION, locate
from modernrank.export.models.published_logits import PUBLISHED, published_for
from modernrank.export.report import Report, silent
from modernrank.export.verification import reference, verify
from modernrank.export.verification.inputs import LENGTHS, LONGEST_SHARED, arrangements, random_pairs
from modernrank.export.verification.result import ARRANGEMENTS, Parity, Row
from modernrank.export.verification.verify import check_same_checkpoint, choose_graph
from support.checkpoints import checkpoint

GOOD, BAD = Row(64, "packed", 1e-6, 1e-6), Row(16, "alone", 2e-4, 1e-4)
UNKNOWN = Row(64, "rows", float("nan"), float("nan"))


def parity(*rows: Row, published: tuple[tuple[str, float, float], ...] = ()) -> Parity:
    return Parity("fp32", rows, 0.5, published, "transformers 5", "onnxruntime 1")


def with_fidelity(precision: str, rms: float, top10: float, row: Row = BAD) -> Parity:
    return Parity(precision, (row,), 0.5, (), "x", "y", Fidelity(100, 10, rms, 0.99, 0.99, top10))


def test_a_difference_above_the_tolerance_fails() -> None:
    assert parity(GOOD).passed
    assert not parity(BAD, GOOD).passed
    assert not parity(GOOD, UNKNOWN).passed


def test_the_table_and_the_verdict_hold_the_figures() -> None:
    failed = parity(BAD, GOOD)
    assert "2.0e-04" in failed.verdict()
    assert "2.0e-04 / 1.0e-04" in failed.table()


def test_published_logits_have_tolerances_of_their_own() -> None:
    assert parity(GOOD, published=(("the card", 0.005, 0.01),)).passed
    failed = parity(GOOD, published=(("the card", 0.2, 0.01),))
    assert not failed.passed
    assert "2.0e-01 from the card" in failed.verdict()


@pytest.mark.parametrize(("precision", "rms", "top10"), [("fp16", 0.01, 0.95), ("int8", 0.05, 0.9)])
def test_the_fidelity_decides_where_a_precision_is_not_exact(precision: str, rms: float, top10: float) -> None:
    assert with_fidelity(precision, rms, top10).passed
    assert not with_fidelity(precision, rms * 1.01, top10).passed
    assert not with_fidelity(precision, rms, top10 * 0.99).passed
    assert not with_fidelity(precision, rms, top10, UNKNOWN).passed


def test_published_logits_hold_for_the_pinned_revision_only() -> None:
    assert published_for(Source(DEFAULT_MODEL, DEFAULT_REVISION, {})) == PUBLISHED[DEFAULT_MODEL, DEFAULT_REVISION]
    assert published_for(Source(DEFAULT_MODEL, "main", {})) == ()
    assert published_for(Source(None, None, {})) == ()


def test_published_logits_are_one_for_each_pair() -> None:
    for model, published in PUBLISHED.items():
        assert all(len(entry.pairs) == len(entry.logits) and entry.tolerance > 0 for entry in published), model


def test_every_pair_is_in_every_arrangement() -> None:
    batches = dict(arrangements(LENGTHS, True, 8192))
    assert tuple(batches) == ARRANGEMENTS
    shared = {pair for pair, length in enumerate(LENGTHS) if length <= LONGEST_SHARED}
    pairs = {name: {pair for b in batches[name] for row in b.rows for pair in row} for name in batches}
    assert pairs == {"alone": set(range(len(LENGTHS))), "packed": shared, "rows": shared}


def test_every_batch_fits_the_profiles_of_a_gpu() -> None:
    profiles = default_profiles(8192)
    batches = dict(arrangements(LENGTHS, True, 8192, ProfileShapes(tuple(profiles)).most_rows))
    for batch in itertools.chain(*batches.values()):
        fit(profiles, len(batch.rows), batch.width)  # raises if none accepts it
    assert max(len(batch.rows) for batch in batches["rows"]) > 4
    everywhere = dict(arrangements(LENGTHS, True, 8192))
    assert {p for b in batches["rows"] for row in b.rows for p in row} == {
        p for b in everywhere["rows"] for row in b.rows for p in row
    }


@pytest.mark.parametrize("longest", [63, 100, 512, 2048])
def test_a_short_model_is_packed_into_rows_that_it_accepts(longest: int) -> None:
    lengths = [length for length in LENGTHS if length <= longest]
    profiles = default_profiles(longest)
    widest = profiles[-1].tokens[2]
    batches = dict(arrangements(lengths, True, widest, ProfileShapes(tuple(profiles)).most_rows))
    for batch in itertools.chain(*batches.values()):
        fit(profiles, len(batch.rows), batch.width)
    assert batches["packed"] or longest < 100


def test_rows_are_as_wide_as_their_pairs_need() -> None:
    for batch in itertools.chain(*(batches for _, batches in arrangements(LENGTHS, True, 8192))):
        assert all(sum(LENGTHS[pair] for pair in row) <= batch.width for row in batch.rows)


def test_a_padded_graph_has_one_pair_in_a_row() -> None:
    batches = dict(arrangements(LENGTHS, False, 8192))
    assert "packed" not in batches
    assert all(len(row) == 1 for name in batches for batch in batches[name] for row in batch.rows)


def test_random_pairs_have_the_lengths_that_were_asked_for(artifacts: Path) -> None:
    assert [len(pair) for pair in random_pairs(Artifact.open(artifacts / "tiny"), (3, 64, 8192))] == [3, 64, 8192]


class SecondRuntime:
    """Stands for ``transformers``, which is not installed here: the same model in the standard dialect."""

    description = "the standard dialect"
    artifact: Path

    def __init__(self, checkpoint: Path, device: str) -> None:
        self._scorer = Scorer.load(self.artifact)

    def logits(self, pairs: list[IntArray], report: Report = silent) -> FloatArray:
        return self._scorer.score(pairs)


@pytest.fixture
def second_runtime(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecondRuntime, "artifact", artifacts / "tiny-standard", raising=False)
    monkeypatch.setattr(reference, "TransformersModel", SecondRuntime)
    monkeypatch.setattr(verify, "check_tokenizer", lambda artifact, checkpoint, report: None)


def test_the_grid_is_compared_and_recorded(second_runtime: None, artifact: Path) -> None:
    parity = verify_artifact(artifact, checkpoint("tiny"), longest=130)
    assert parity.passed
    assert {row.arrangement for row in parity.rows} == set(ARRANGEMENTS)
    assert {row.length for row in parity.rows} == {length for length in LENGTHS if length <= 130}
    assert parity.against == SecondRuntime.description
    assert Artifact.open(artifact).manifest.parity["fp32"] == json.loads(json.dumps(parity.as_json()))


def test_a_verification_is_recorded_only_if_it_should_be(second_runtime: None, artifact: Path) -> None:
    parity = verify_artifact(artifact, checkpoint("tiny"), longest=64, record=False)
    assert Artifact.open(artifact).manifest.parity == {}
    record_parity(artifact, parity)
    assert Artifact.open(artifact).manifest.parity["fp32"]["passed"] is True


def test_another_precision_is_judged_by_its_fidelity(second_runtime: None, artifacts: Path) -> None:
    parity = verify_artifact(artifacts / "tiny-int8", checkpoint("tiny"), longest=64, precision="int8", record=False)
    assert parity.fidelity is not None
    assert parity.fidelity.queries == 12
    assert 0 < parity.fidelity.rms < 0.2
    assert not parity.passed  # a model this narrow exceeds the bound for models of full size
    assert parity.largest > 1e-4


def test_a_float16_graph_is_emulated_on_the_processor(second_runtime: None, tmp_path: Path) -> None:
    export_checkpoint(checkpoint("tiny"), tmp_path / "half", precision="fp16")
    parity = verify_artifact(tmp_path / "half", checkpoint("tiny"), longest=64, record=False)
    assert parity.precision == "fp16"
    assert parity.ran_on.endswith("on cpu, float16 emulated")
    assert parity.passed


@pytest.fixture
def exported(broken_checkpoint: Path, tmp_path: Path) -> Artifact:
    export_checkpoint(broken_checkpoint, tmp_path / "artifact")
    return Artifact.open(tmp_path / "artifact")


def test_the_checkpoint_itself_is_accepted(exported: Artifact, broken_checkpoint: Path) -> None:
    check_same_checkpoint(exported, locate(str(broken_checkpoint)))


def test_another_checkpoint_is_refused_by_its_files(exported: Artifact) -> None:
    with pytest.raises(ArtifactError) as refused:
        check_same_checkpoint(exported, locate(str(checkpoint("tiny-cls"))))
    assert "model.safetensors" in refused.value.details["files"]


def test_an_artifact_without_a_record_of_the_activation_file_still_compares_equal(
    exported: Artifact, broken_checkpoint: Path
) -> None:
    """Older artifacts recorded only the files that decide a logit."""
    settings = {"activation_fn": "torch.nn.modules.linear.Identity"}
    (broken_checkpoint / "config_sentence_transformers.json").write_text(json.dumps(settings))
    check_same_checkpoint(exported, locate(str(broken_checkpoint)))


def test_a_change_of_the_activation_file_is_noticed_once_it_is_recorded(
    broken_checkpoint: Path, tmp_path: Path
) -> None:
    file = broken_checkpoint / "config_sentence_transformers.json"
    file.write_text(json.dumps({"activation_fn": "torch.nn.modules.linear.Identity"}))
    export_checkpoint(broken_checkpoint, tmp_path / "artifact")
    file.write_text(json.dumps({"activation_fn": "torch.nn.modules.activation.Sigmoid"}))
    with pytest.raises(ArtifactError) as refused:
        check_same_checkpoint(Artifact.open(tmp_path / "artifact"), locate(str(broken_checkpoint)))
    assert refused.value.details["files"] == [file.name]


def test_arguments_are_checked_before_anything_runs(artifacts: Path) -> None:
    for argument, value in (("longest", 62), ("provider", "tpu"), ("precision", "int2")):
        with pytest.raises(InputError) as refused:
            verify_artifact(artifacts / "tiny", checkpoint("tiny"), **{argument: value})
        assert refused.value.details["argument"] == argument
        assert refused.value.details["value"] == value


def test_auto_compares_the_most_exact_graph(artifacts: Path) -> None:
    artifact = Artifact.open(artifacts / "tiny")
    (exact,) = artifact.manifest.graphs
    half = replace(exact, precision="fp16", dialect="tensorrt")
    both = Artifact(artifact.folder, replace(artifact.manifest, graphs=[half, exact]))
    assert choose_graph(both, "auto", "cpu") == exact
    assert choose_graph(both, "fp16", "cpu") == half
    alone = Artifact(artifact.folder, replace(artifact.manifest, graphs=[half]))
    assert choose_graph(alone, "auto", "cpu") == half
    with pytest.raises(ArtifactError):
        choose_graph(alone, "fp32", "cpu")


def test_a_copy_of_an_artifact_verifies_like_it(exported: Artifact, broken_checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported.folder, tmp_path / "copy"))
    check_same_checkpoint(Artifact.open(copy), locate(str(broken_checkpoint)))
