"""``Reranker``: arguments, results, order, truncation reports, streams, threads, memory, closing."""

import itertools
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from modernrank import (
    BackendError,
    ClosedError,
    InputError,
    LoadOptions,
    Reranker,
    Scorer,
    Truncation,
    TruncationWarning,
)
from modernrank.artifact.folder import Artifact
from modernrank.backends.open import open_backend
from modernrank.text.encoder import PairEncoder
from support.backends import NotANumber
from support.memory import resident_after_rounds
from support.scoring import reranker_of

QUERY = "the terms of the license"
DOCUMENTS = ["a", "derivative works of the Work " * 5, "", "notice " * 30, "a"]
PAIRS = [(QUERY, document) for document in DOCUMENTS]


def test_scores_are_float32_in_input_order(reranker: Reranker) -> None:
    scores = reranker.score(PAIRS)
    assert scores.dtype == np.float32 and scores.shape == (5,)
    assert scores[0] == scores[4]
    assert reranker.score(PAIRS[::-1]) == pytest.approx(scores[::-1], abs=1e-6)


def test_no_pairs_give_an_empty_array(reranker: Reranker, artifacts: Path) -> None:
    assert reranker.score([]).shape == (0,)
    assert reranker.rank(QUERY, []) == []
    assert list(reranker.score_iter([])) == []
    with Reranker.load(artifacts / "tiny-cls") as several_labels:
        assert several_labels.score([]).shape == (0, 3)


def test_several_labels_give_a_row_each(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny-cls") as reranker:
        assert reranker.labels == ["no", "maybe", "yes"]
        assert reranker.score(PAIRS).shape == (5, 3)
        assert reranker.score(PAIRS, activation="softmax").sum(axis=1) == pytest.approx(np.ones(5))
        assert next(reranker.score_iter(PAIRS)).shape == (3,)
        with pytest.raises(InputError, match=r"rank needs a model of one label.*3 \(no, maybe, yes\)"):
            reranker.rank(QUERY, DOCUMENTS)


def test_activations_are_computed_from_the_logits(reranker: Reranker) -> None:
    logits = reranker.score(PAIRS)
    assert reranker.score(PAIRS, activation="sigmoid") == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)
    with pytest.raises(InputError, match="activation 'tanh' is unknown; choose one of none, sigmoid, softmax"):
        reranker.score(PAIRS, activation="tanh")
    with pytest.raises(InputError, match="softmax over one label is always 1"):
        reranker.score(PAIRS, activation="softmax")


def test_rank_sorts_by_score_and_breaks_ties_by_index(reranker: Reranker) -> None:
    ranking = reranker.rank(QUERY, DOCUMENTS)
    scores = reranker.score(PAIRS)
    assert sorted(place.index for place in ranking) == [0, 1, 2, 3, 4]
    assert [place.score for place in ranking] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
    order = [place.index for place in ranking]
    assert order.index(0) + 1 == order.index(4)
    assert all(DOCUMENTS[place.index] == place.document for place in ranking)
    assert reranker.rank(QUERY, DOCUMENTS, top_k=2) == ranking[:2]
    assert reranker.rank(QUERY, iter(DOCUMENTS), top_k=99) == ranking


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ("one string", "a list of documents was expected, not str"),
        (None, "a list of documents was expected, not NoneType"),
        (["fine", None], "document 1 is not a string but NoneType"),
    ],
)
def test_rank_refuses_what_is_not_texts(reranker: Reranker, documents: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reranker.rank(QUERY, documents)  # type: ignore[arg-type]


def test_rank_refuses_a_bad_query_and_top_k(reranker: Reranker) -> None:
    with pytest.raises(InputError, match="the query is not a string but NoneType"):
        reranker.rank(None, DOCUMENTS)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="top_k is 0; it must be a whole number of at least 1"):
        reranker.rank(QUERY, DOCUMENTS, top_k=0)


def test_equal_documents_tie_however_many_there_are(reranker: Reranker) -> None:
    documents = [f"document {i}" for i in range(300)] + ["same"] * 10
    for show_progress in (False, True):
        ranking = reranker.rank(QUERY, documents, show_progress=show_progress)
        same = [place for place in ranking if place.document == "same"]
        assert len({place.score for place in same}) == 1
        assert [place.index for place in same] == list(range(300, 310))


@pytest.mark.parametrize("pairs", [None, 3, "text", {"query": "a"}])
def test_pairs_that_are_no_list_are_refused(reranker: Reranker, pairs: object) -> None:
    with pytest.raises(InputError, match="a list or another iterable of"):
        reranker.score(pairs)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a list or another iterable of"):
        reranker.score_iter(pairs)  # type: ignore[arg-type]


def test_a_stream_checks_its_arguments_at_once(reranker: Reranker) -> None:
    with pytest.raises(InputError, match="activation 'tanh' is unknown"):
        reranker.score_iter(PAIRS, activation="tanh")
    with pytest.raises(InputError, match="window is 0"):
        reranker.score_iter(PAIRS, window=0)


def test_a_bad_pair_is_named_by_its_index_in_the_whole_input(reranker: Reranker) -> None:
    pairs = [*[("a", "b")] * 5000, ("a", None)]
    with pytest.raises(InputError, match="pair 5000 is not"):
        reranker.score(pairs)  # type: ignore[arg-type]


def test_cut_pairs_are_reported_one_by_one(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", max_length=20, truncation="document") as reranker:
        cuts: list[Truncation] = []
        reranker.score(PAIRS, on_truncate=cuts.append)
        assert [cut.index for cut in cuts] == [1, 3]
        assert all(cut.query_tokens_cut == 0 and cut.document_tokens_cut > 0 for cut in cuts)
        lost = {cut.index: cut.document_tokens_cut for cut in cuts}
        assert {p.index: p.tokens_cut for p in reranker.rank(QUERY, DOCUMENTS) if p.tokens_cut} == lost


def test_cut_pairs_are_never_silent(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", max_length=20) as reranker:
        with pytest.warns(TruncationWarning, match=r"2 pairs were cut to max_length=20 .* \(the first is pair 1\)"):
            reranker.score(PAIRS)
        with pytest.warns(TruncationWarning, match="2 pairs were cut"):
            list(reranker.score_iter(PAIRS))
        stopped_early = reranker.score_iter(PAIRS)
        next(stopped_early)
        with pytest.warns(TruncationWarning, match="2 pairs were cut"):
            stopped_early.close()  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Reranker.load(artifacts / "tiny") as reranker:
            reranker.score(PAIRS)


def test_a_long_document_counts_as_its_best_part(artifacts: Path) -> None:
    documents = ["word " * 300 + "notice " * 40, "short", "word " * 8, "short"]
    with Reranker.load(artifacts / "tiny", max_length=64) as reranker:
        ranking = reranker.rank(QUERY, documents, long_documents="chunk", activation="sigmoid")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing is cut, so nothing is told of
            found = {place.index: place for place in reranker.rank(QUERY, documents, long_documents="chunk")}
        assert [place.index for place in ranking] == sorted(found, key=lambda i: (-found[i].score, i))
        assert ranking[0].score == pytest.approx(1 / (1 + np.exp(-found[ranking[0].index].score)), abs=1e-6)
        whole = reranker.score([(QUERY, documents[i]) for i in (1, 2, 3)])
        assert [found[i].score for i in (1, 2, 3)] == whole.tolist()  # these need no parts
        assert {place.tokens_cut for place in ranking} == {0}
        parts = PairEncoder(artifacts / "tiny" / "tokenizer.json", 64).encode_parts(QUERY, documents[:1])[0]
        assert len(parts) > 3
        with Scorer.load(artifacts / "tiny") as scorer:
            each = scorer.score([part.ids for part in parts])
        assert found[0].score == each.max()


def test_parts_need_room_beside_the_query(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", max_length=40) as reranker:
        with pytest.raises(InputError, match="document 1 needs parts, but beside the query's .* 16 are the least"):
            reranker.rank("the terms of the license " * 4, ["a", "x " * 100], long_documents="chunk")
        with pytest.raises(InputError, match="long_documents 'split' is unknown; choose one of truncate, chunk"):
            reranker.rank(QUERY, ["a"], long_documents="split")
        assert reranker.rank(QUERY, [], long_documents="chunk") == []


def test_a_stream_is_scored_in_order_without_reading_it_whole(reranker: Reranker) -> None:
    read = itertools.count()
    endless = ((QUERY, DOCUMENTS[next(read) % 5]) for _ in itertools.repeat(None))
    scores = list(itertools.islice(reranker.score_iter(endless, window=10), 25))
    assert scores == pytest.approx(np.tile(reranker.score(PAIRS), 5), abs=1e-6)
    assert next(read) == 30


def test_generators_and_progress(reranker: Reranker, capfd: pytest.CaptureFixture[str]) -> None:
    scores = reranker.score((pair for pair in PAIRS), show_progress=True)
    assert scores == pytest.approx(reranker.score(PAIRS))
    assert "5pair" in capfd.readouterr().err


def test_threads_may_share_a_reranker(reranker: Reranker) -> None:
    expected = reranker.score(PAIRS)
    with ThreadPoolExecutor(8) as pool:
        for scores in pool.map(lambda _: reranker.score(PAIRS), range(40)):
            assert scores == pytest.approx(expected, abs=1e-6)


def test_plan_tells_rows_and_waste_without_scoring(reranker: Reranker) -> None:
    planned = reranker.plan(PAIRS)
    assert sorted(pair for run in planned.batches for row in run.rows for pair in row) == [0, 1, 2, 3, 4]
    assert 0 <= planned.waste <= 0.25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 8193}, "max_length 8193 is above the 8192 tokens that tiny allows"),
        ({"max_length": 0}, "max_length is 0; it must be a whole number of at least 1"),
        ({"max_length": 2}, "max_length 2 leaves no room"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"truncation": "logit"}, "truncation 'none' is unknown"),
        (
            {"provider": "gpu"},
            "provider 'gpu' is unknown; choose one of auto, tensorrt, tensorrt-rtx",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(artifacts: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Reranker.load(artifacts / "tiny", **arguments)  # type: ignore[arg-type]


def test_info_tells_what_runs(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=1) as reranker:
        info = reranker.info
    assert (info.provider, info.execution_provider, info.precision, info.graph, info.threads) == (
        *("cpu", "CPUExecutionProvider", "fp32", "ort-cpu"),
        1,
    )


def test_scores_that_are_not_numbers_are_an_error_not_an_order(artifacts: Path) -> None:
    backend = NotANumber(open_backend(Artifact.open(artifacts / "tiny"), LoadOptions(provider="cpu")))
    with reranker_of(artifacts / "tiny", backend) as reranker:
        for long_documents in ("truncate", "chunk"):
            with pytest.raises(BackendError) as caught:
                reranker.rank(QUERY, DOCUMENTS, long_documents=long_documents)
            assert caught.value.details["pairs"] == 4  # distinct ones


def test_a_closed_reranker_says_so(artifacts: Path) -> None:
    reranker = Reranker.load(artifacts / "tiny")
    reranker.close()
    reranker.close()
    with pytest.raises(ClosedError):
        reranker.score(PAIRS)


def test_an_idle_reranker_burns_no_processor_time(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=2) as reranker:
        reranker.score(PAIRS)
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from /proc")
def test_memory_returns_after_long_pairs(artifacts: Path) -> None:
    """Growing and shrinking inputs; the tiny model is so small that the allocator's own noise counts.

    ``make parity`` holds a model of full size to 20 %.
    """
    levels = resident_after_rounds(artifacts / "tiny", (5, 200, 1000, 4000, 6500, 1000, 200, 5), rounds=4)
    assert max(levels) - levels[0] < 64e6
