"""The example of a search in two stages, as its page runs it: on the command line and in a browser."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from modernrank import Reranker
from modernrank.evaluation.formats import read_folder
from support.checkpoints import DEMO
from support.layout import ROOT

PAGE = (ROOT / "docs" / "search.md").read_text()
FIND, MEASURE = (
    next(line for line in PAGE.splitlines() if line.startswith("python -m demo.search") and verb in line)
    for verb in (" find ", " measure")
)
SHOWN = re.findall(r"^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^ *(\d+)(?: \( *(\d+)\))? +(-?[\d.]+)  (\S+)", re.MULTILINE)


def search(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo.search", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)


def of_page(command: str, artifact: Path) -> subprocess.CompletedProcess[str]:
    return search(*(artifact if word == "artifacts/demo" else word for word in shlex.split(command)[3:]))


def test_both_rankings_of_a_query_are_shown_as_on_the_page(demo: Path) -> None:
    done = of_page(FIND, demo)

    assert done.returncode == 0, done.stderr
    rows, expected = ROW.findall(done.stdout), ROW.findall(SHOWN[0])
    assert [(rank, before, name) for rank, before, _, name in rows[:4]] == [
        (rank, before, name) for rank, before, _, name in expected[:4]
    ]  # the others are as good as equal in score
    scores = [[float(row[2]) for row in table[:4]] for table in (rows, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)  # int8 rounds differently from processor to processor


def test_results_are_those_of_the_reranker(demo: Path) -> None:
    done = search(demo, "--candidates", 10, "find", "a player for music files", "--top-k", 10)

    rows = [(int(rank), int(before or 0), float(score), name) for rank, before, score, name in ROW.findall(done.stdout)]
    by_words, reranked = rows[:10], rows[10:]
    scores = [score for _, _, score, _ in by_words]
    assert scores == sorted(scores, reverse=True)
    texts = {name[:18]: text for name, text in read_folder(DEMO / "evaluation").documents.items()}
    names = [name for *_, name in by_words]
    with Reranker.load(demo) as reranker:
        ranked = reranker.rank("a player for music files", [texts[name] for name in names])
    assert [(before, score) for _, before, score, _ in reranked] == [
        (place.index + 1, pytest.approx(place.score, abs=0.006)) for place in ranked
    ]


@pytest.mark.parametrize("query", ["", "the", '"', 'NEAR("a" b) NOT *', "zzzz"])
def test_any_text_is_a_query(query: str, demo: Path) -> None:
    done = search(demo, "--candidates", 3, "find", query)

    assert done.returncode == 0, done.stderr


def test_what_cannot_be_read_is_refused_in_one_line(demo: Path, tmp_path: Path) -> None:
    for arguments in [(tmp_path, "measure"), (demo, "--beir", tmp_path, "measure")]:
        done = search(*arguments)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
    assert search(demo, "--candidates", 0, "measure").returncode == 2


def test_the_gain_is_measured(demo: Path, some_of_the_evaluation: Path) -> None:
    done = search(demo, "--beir", some_of_the_evaluation, "--candidates", 20, "measure")

    assert done.returncode == 0, done.stderr
    figures = re.findall(r"^(bm25|reranked) +(\d\.\d+)", done.stdout, re.MULTILINE)
    assert [name for name, _ in figures] == ["bm25", "reranked"]
    assert "20 queries" in done.stdout


@pytest.mark.slow
def test_the_gain_is_what_the_page_says(demo: Path) -> None:
    done = of_page(MEASURE, demo)

    before, after = (float(value) for value in re.findall(r"^(?:bm25|reranked) +(\d\.\d+)", done.stdout, re.MULTILINE))
    shown = [float(value) for value in re.findall(r"^(?:bm25|reranked) +(\d\.\d+)", SHOWN[1], re.MULTILINE)]
    assert before == pytest.approx(shown[0], abs=0.002)  # versions of SQLite may break ties differently
    assert after == pytest.approx(shown[1], abs=0.005)
    assert after > before * 1.08


def test_the_page_shows_both_rankings_and_escapes_texts(demo: Path) -> None:
    command = [sys.executable, "-m", "demo.search", str(demo), "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            empty = read(address)
            found = read(f"{address}?q=music+player+%3Cb%3E")
            with pytest.raises(urllib.error.HTTPError):
                read(f"{address}other")
        finally:
            server.terminate()
    assert "4,341" in empty and "<ol>" not in empty
    assert found.count("<li>") == 20
    assert "&lt;b&gt;" in found and "<b>" not in found


def read(address: str) -> str:
    with urllib.request.urlopen(address, timeout=60) as answer:
        content: str = answer.read().decode()
    return content
