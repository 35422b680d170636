"""The command line as a user runs it: in a process of its own, on files and pipes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modernrank import Reranker
from support.checkpoints import checkpoint

QUERY = "the terms"
DOCUMENTS = ["of the license", "of the contract " * 30, "größe"]


def run(*arguments: object, stdin: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modernrank", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, encoding="utf-8", **options)  # type: ignore[call-overload, no-any-return]


def lines(pairs: list[dict[str, object]]) -> str:
    return "".join(json.dumps(pair) + "\n" for pair in pairs)


PAIRS = lines([{"query": QUERY, "document": document, "id": f"d{i}"} for i, document in enumerate(DOCUMENTS)])


def expected(artifact: Path) -> list[float]:
    with Reranker.load(artifact) as reranker:
        return [float(score) for score in reranker.score([(QUERY, document) for document in DOCUMENTS])]


def test_score_reads_and_writes_json_lines(artifacts: Path) -> None:
    done = run("score", artifacts / "tiny", stdin=PAIRS + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["id"] for record in records] == ["d0", "d1", "d2"]
    assert [record["score"] for record in records] == pytest.approx(expected(artifacts / "tiny"), abs=1e-5)
    assert all(set(record) == {"id", "score"} for record in records)


def test_score_takes_files_and_reports_cuts(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(PAIRS)
    options = ["--max-length", 30, "--truncation", "document", "--activation", "sigmoid", "--window", 2, "--threads", 1]
    done = run(
        "score", artifacts / "tiny", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl", *options
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [("document_tokens_cut" in record) for record in records] == [False, True, False]
    assert all(0 < record["score"] < 1 for record in records)


def test_score_of_several_labels_is_a_list(artifacts: Path) -> None:
    done = run("score", artifacts / "tiny-cls", stdin=PAIRS)
    assert [len(json.loads(line)["score"]) for line in done.stdout.splitlines()] == [3, 3, 3]


def test_plan_explains_itself(artifacts: Path) -> None:
    done = run("plan", artifacts / "tiny", "--threads", 2, stdin=lines([{"query": QUERY, "document": "b"}] * 3))
    assert done.returncode == 0
    assert done.stdout.startswith("3 pairs of ") and "threads" in done.stdout


def test_rank_prints_a_table_or_json(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "docs.txt").write_text("\n".join(DOCUMENTS) + "\n", encoding="utf-8")
    table = run("rank", artifacts / "tiny", "--query", QUERY, "--documents", tmp_path / "docs.txt")
    assert table.returncode == 0
    assert table.stdout.splitlines()[0].split() == ["rank", "score", "index", "document"]
    assert len(table.stdout.splitlines()) == 4 and "größe" in table.stdout and "…" in table.stdout
    (tmp_path / "docs.jsonl").write_text(lines([{"document": document} for document in DOCUMENTS]))
    found = run(
        "rank", artifacts / "tiny", "--query", QUERY, "--documents", tmp_path / "docs.jsonl", "--top-k", 2, "--json"
    )
    records = [json.loads(line) for line in found.stdout.splitlines()]
    scores = expected(artifacts / "tiny")
    assert [record["score"] for record in records] == pytest.approx(sorted(scores, reverse=True)[:2], abs=1e-5)
    assert [DOCUMENTS[record["index"]] for record in records] == [record["document"] for record in records]


def test_export_and_info(tmp_path: Path) -> None:
    done = run("export", checkpoint("tiny"), "--out", tmp_path / "a")
    assert done.returncode == 0 and f"next:\nmodernrank rank {tmp_path / 'a'} --query" in done.stderr
    info = run("info", tmp_path / "a")
    assert info.returncode == 0
    for part in (
        "ModernBertForSequenceClassification, 6 layers",
        "mean pooling",
        "fp32, ort-cpu, for cpu",
        "not measured yet",
    ):
        assert part in info.stdout
    assert json.loads(run("info", tmp_path / "a", "--json").stdout)["schema_version"] == 1


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        ("{not json}\n", "line 1 of standard input is not JSON"),
        ("\n[1]\n", "line 2 of standard input is not a JSON object but list"),
        ('{"query": "a"}\n', 'line 1 of standard input has no "document"'),
        (
            '{"query": "a", "document": null}\n',
            "line 1 of standard input is not a (query, document) tuple of two strings but (str, NoneType)",
        ),
        ('{"query": "a", "document": "b", "score": 1}\n', 'line 1 of standard input has a field "score" already'),
        (
            '{"query": "a", "document": "b", "x": NaN}\n',
            "line 1 of standard input is not JSON: NaN is not a JSON value",
        ),
        ('{"query": "a", "document": "\\ud800"}\n', "line 1 of standard input: its document holds a lone surrogate"),
    ],
)
def test_bad_lines_end_with_one_line_and_code_1(artifacts: Path, stdin: str, message: str) -> None:
    done = run("score", artifacts / "tiny", stdin=stdin)
    assert done.returncode == 1
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_other_fields_come_through_whatever_they_hold(artifacts: Path) -> None:
    fields = {"id": "\ud800", "more": {"x": [1, None, "größe"]}, "long": 10**30}
    done = run("score", artifacts / "tiny", stdin=lines([{"query": "a", "document": "b", **fields}]))
    record = json.loads(done.stdout)
    assert record.pop("score") is not None
    assert record == fields


def test_a_byte_order_mark_is_no_part_of_the_text(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbfof the license\n")
    done = run("rank", artifacts / "tiny", "--query", QUERY, "--documents", tmp_path / "marked.txt", "--json")
    record = json.loads(done.stdout)
    assert record["document"] == "of the license"
    assert record["score"] == pytest.approx(expected(artifacts / "tiny")[0], abs=1e-5)


def test_the_input_is_never_overwritten(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(PAIRS)
    done = run("score", artifacts / "tiny", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "in.jsonl")
    assert done.returncode == 1
    assert "is the input; give it another name" in done.stderr
    assert (tmp_path / "in.jsonl").read_text() == PAIRS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_one_line(artifacts: Path) -> None:
    done = run("score", artifacts / "tiny", "--output", "/dev/full", stdin=PAIRS)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "No space left on device" in done.stderr


def test_bytes_that_are_no_utf8_are_refused(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"query": "a", "document": "\xff"}\n')
    done = run("score", artifacts / "tiny", "--input", tmp_path / "in.jsonl")
    assert done.returncode == 1 and "in.jsonl is not UTF-8" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "/no/artifact"], "there is no artifact folder /no/artifact"),
        (["score", "ARTIFACT", "--input", "/no/file"], "cannot read /no/file: No such file or directory"),
        (["score", "ARTIFACT", "--output", "/no/folder/out"], "cannot write /no/folder/out"),
        (["score", "ARTIFACT", "--max-length", "9000"], "max_length 9000 is above the 8192 tokens"),
        (["rank", "ARTIFACT", "--query", "q", "--documents", "/dev/null"], "/dev/null holds no documents"),
        (["export", "/no/checkpoint", "--out", "/tmp/never"], "neither a folder nor a hub id"),
        (["info", "/"], "is not an artifact"),
    ],
)
def test_refusals_are_one_line_and_code_1(artifacts: Path, arguments: list[str], message: str) -> None:
    done = run(*(artifacts / "tiny" if a == "ARTIFACT" else a for a in arguments))
    assert done.returncode == 1
    assert done.stderr.startswith("modernrank: ") and message in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["score"], ["rank", "x"], ["score", "x", "--threads", "0"], ["score", "x", "--provider", "npu"]],
)
def test_wrong_usage_is_one_line_and_code_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "--help" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_reader_that_goes_away_ends_it_quietly(artifacts: Path) -> None:
    """More output than a pipe holds, and a reader that takes one line."""
    many = PAIRS * 5000
    command = f"{sys.executable} -m modernrank score {artifacts / 'tiny'} --window 50 | head -n 1"
    done = subprocess.run(command, shell=True, input=many, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""


def test_ctrl_c_ends_it_quietly(artifacts: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "modernrank", "score", str(artifacts / "tiny"), "--window", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's children ignore it
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(PAIRS.encode())
    process.stdin.flush()
    assert process.stdout.readline()  # it is running, and now waits for input
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130 and errors == b""


def test_a_missing_extra_is_named(artifacts: Path, tmp_path: Path) -> None:
    """With `onnx` hidden, as where only modernrank[cpu] is installed."""
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('no onnx', name='onnx')")
    done = run("export", checkpoint("tiny"), "--out", tmp_path / "out", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "`modernrank export` needs onnx, which is not installed: pip install 'modernrank[export]'" in done.stderr
