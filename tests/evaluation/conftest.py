"""A small evaluation set in BEIR's layout, and the artifacts that rank its candidates."""

from __future__ import annotations

from pathlib import Path

import pytest

from modernrank.evaluation.formats import EvaluationSet, read_folder
from modernrank.export import export_checkpoint
from support.checkpoints import NAMES, checkpoint

# q3 has candidates but no judgements. The rank of a candidate counts, not the order of the lines.
FILES = {
    "queries.jsonl": """\
{"_id": "q1", "text": "a licence for the work"}
{"_id": "q2", "text": "may I change it?"}
{"_id": "q3", "text": "no one judged this"}
""",
    "corpus.jsonl": """\
{"_id": "d0", "title": "", "text": "a copy of the work"}
{"_id": "d1", "title": "", "text": "the licence grants every user the right to use the work"}
{"_id": "d2", "title": "", "text": "no warranty"}
{"_id": "d3", "title": "", "text": "you may change the work, and share what you have changed"}
{"_id": "d4", "title": "", "text": "source code"}
{"_id": "d5", "title": "", "text": "a licence ends when its terms are broken"}
""",
    "candidates.run": """\
q3 Q0 d1 2 -2 bm25
q3 Q0 d0 1 -1 bm25
q2 Q0 d3 3 -3 bm25
q2 Q0 d4 2 -2 bm25
q2 Q0 d5 1 -1 bm25
q1 Q0 d3 4 -4 bm25
q1 Q0 d2 3 -3 bm25
q1 Q0 d1 2 -2 bm25
q1 Q0 d0 1 -1 bm25
""",
    "qrels/test.tsv": """\
query-id\tcorpus-id\tscore
q1\td1\t2
q1\td3\t1
q1\td5\t1
q2\td3\t1
q2\td0\t0
""",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the evaluation set."""
    out = tmp_path / "set"
    for name, text in FILES.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    return out


@pytest.fixture
def data(folder: Path) -> EvaluationSet:
    return read_folder(folder)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts ``tiny`` of one label and ``tiny-cls`` of three, in float32 alone: quicker than those of all tests."""
    out = tmp_path_factory.mktemp("artifacts")
    for name in NAMES:
        export_checkpoint(checkpoint(name), out / name)
    return out
