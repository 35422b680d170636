"""What a model does to its process: output, threads at the end, idle time, memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from modernrank import Reranker
from support.memory import resident_after_rounds
from support.processes import run_python

PAIRS = [("the terms of the license", "notice " * (i % 9)) for i in range(40)]


def test_nothing_is_printed_by_default(artifacts: Path) -> None:
    code = """
import sys
from modernrank import Reranker
with Reranker.load(sys.argv[1], threads=2) as reranker:
    reranker.score([("a", f"b {i}") for i in range(40)])
    reranker.rank("a", ["b", "c"])
"""
    done = run_python(code, artifacts / "tiny")
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr == ""


def test_a_worker_thread_finishes_its_list_after_the_main_thread_has_ended(artifacts: Path) -> None:
    """Python starts nothing more in pools from then on; the model's own workers are such a pool."""
    code = """
import sys, threading, time
import concurrent.futures.thread as pools
from modernrank import Reranker

reranker = Reranker.load(sys.argv[1], threads=2)
documents = [f"document {i} " * (1 + i % 9) for i in range(40)]
before = reranker.rank("a query", documents)

def work():
    while not pools._shutdown:
        time.sleep(0.01)
    print(len(reranker.rank("a query", documents)), reranker.rank("a query", documents) == before)

threading.Thread(target=work).start()
"""
    done = run_python(code, artifacts / "tiny")
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.split() == ["40", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_scores_with_the_model_of_its_parent(artifacts: Path) -> None:
    """As gunicorn's workers with --preload: the parent's threads and held locks do not exist in the child."""
    code = """
import os, sys, warnings
from modernrank import Reranker

warnings.simplefilter("ignore", DeprecationWarning)
reranker = Reranker.load(sys.argv[1], threads=2)
pairs = [("a query", f"document {i} " * (20 + i % 30)) for i in range(60)]
expected = reranker.score(pairs).tolist()
assert len(reranker.plan(pairs).schedule.side_by_side) > 1
child = os.fork()
if child == 0:
    os._exit(0 if reranker.score(pairs).tolist() == expected else 7)
assert reranker.score(pairs).tolist() == expected
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = run_python(code, artifacts / "tiny")
    assert done.stderr == ""
    assert done.stdout == "0\n"


def test_an_idle_model_uses_no_processor_time(artifacts: Path) -> None:
    with Reranker.load(artifacts / "tiny", threads=2) as reranker:
        reranker.score(PAIRS)
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from /proc")
def test_memory_returns_after_long_pairs(artifacts: Path) -> None:
    """Growing and shrinking inputs; the tiny model is so small that the allocator's own noise counts.

    ``make parity`` holds a model of full size to 20 %.
    """
    levels = resident_after_rounds(artifacts / "tiny", (5, 200, 1000, 4000, 6500, 1000, 200, 5), rounds=4)
    assert max(levels) - levels[0] < 64e6


def test_nothing_is_written_into_the_home_of_the_user(artifacts: Path, tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would write an id of the device there, and contact its maker."""
    code = """
import sys
from modernrank import Reranker
with Reranker.load(sys.argv[1], threads=1) as reranker:
    reranker.score([("a", "b")])
"""
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = run_python(code, artifacts / "tiny", env={**kept, **home})
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_fork_waits_for_the_runs_of_other_threads(artifacts: Path) -> None:
    """A library that is interrupted in a run may hold a lock of its own, for ever in the child."""
    code = """
import os, sys, threading, warnings
from modernrank import Reranker

warnings.simplefilter("ignore", DeprecationWarning)
reranker = Reranker.load(sys.argv[1], threads=2)
pairs = [("a query", f"document {i} " * (20 + i % 30)) for i in range(60)]
expected = reranker.score(pairs).tolist()
ended = threading.Event()

def work():
    while not ended.is_set():
        assert reranker.score(pairs).tolist() == expected

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
codes = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        assert reranker.metrics.running == 0
        os._exit(0 if reranker.score(pairs).tolist() == expected else 7)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
ended.set()
for thread in threads:
    thread.join()
print(set(codes))
"""
    done = run_python(code, artifacts / "tiny", timeout=120)
    assert done.stdout == "{0}\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_two_threads_that_fork_at_once_wait_for_each_other(artifacts: Path) -> None:
    code = """
import os, sys, threading, warnings
from modernrank import Reranker

warnings.simplefilter("ignore", DeprecationWarning)
rerankers = [Reranker.load(sys.argv[1], threads=2) for _ in range(2)]
pairs = [("a query", f"document {i} " * (20 + i % 30)) for i in range(60)]
expected = rerankers[0].score(pairs).tolist()
codes, ended = [], threading.Event()

def score(reranker):
    while not ended.is_set():
        assert reranker.score(pairs).tolist() == expected

def fork():
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(0 if all(reranker.score(pairs).tolist() == expected for reranker in rerankers) else 7)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

scoring = [threading.Thread(target=score, args=(reranker,)) for reranker in rerankers]
forking = [threading.Thread(target=fork) for _ in range(2)]
for thread in scoring + forking:
    thread.start()
for thread in forking:
    thread.join()
ended.set()
print(codes)
"""
    done = run_python(code, artifacts / "tiny", timeout=120)
    assert done.stdout == f"{[0] * 6}\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_an_async_reranker_works_in_a_forked_process(artifacts: Path) -> None:
    code = """
import asyncio, os, sys, warnings
from modernrank import AsyncReranker, Reranker

warnings.simplefilter("ignore", DeprecationWarning)
reranker = Reranker.load(sys.argv[1], threads=2)
shared = AsyncReranker(reranker)
pairs = [("a query", f"document {i} " * (20 + i % 30)) for i in range(60)]
expected = asyncio.run(shared.score(pairs)).tolist()
child = os.fork()
if child == 0:
    os._exit(0 if asyncio.run(shared.score(pairs)).tolist() == expected else 7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = run_python(code, artifacts / "tiny")
    assert done.stdout == "0\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_what_does_not_survive_a_fork_says_so_at_once(artifacts: Path) -> None:
    code = """
import os, sys, warnings
from modernrank import BackendError, LoadOptions
from modernrank.artifact.folder import Artifact
from modernrank.backends.open import open_backend
from modernrank.scorer import Scorer

warnings.simplefilter("ignore", DeprecationWarning)
artifact = Artifact.open(sys.argv[1])
backend = open_backend(artifact, LoadOptions())
backend.survives_fork = False  # as on GPUs
scorer = Scorer(backend, artifact.manifest.model, 0)
child = os.fork()
if child == 0:
    try:
        scorer.score([])
    except BackendError as error:
        scorer.close()
        os._exit(0 if "after the fork" in str(error) else 8)
    os._exit(7)
assert scorer.score([]).shape == (0, 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = run_python(code, artifacts / "tiny")
    assert done.stdout == "0\n", done.stderr


APPLICATION = """
import json, sys, warnings
from modernrank import Reranker

reranker = Reranker.load({folder!r}, threads=2)
pairs = [("a query", f"document {{i}} " * (20 + i % 30)) for i in range(40)]
reranker.score(pairs)  # starts the threads, before gunicorn forks its workers

def app(environ, start_response):
    count = int(environ["QUERY_STRING"])
    scores = reranker.score(pairs[:count]).tolist()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(scores).encode()]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn forks")
def test_a_real_gunicorn_with_preload(artifacts: Path, reranker: Reranker, tmp_path: Path) -> None:
    """Requests of 1 and of 40 documents, to two workers that were forked after the model had scored a list."""
    (tmp_path / "application.py").write_text(APPLICATION.format(folder=str(artifacts / "tiny")))
    arguments = ("--preload", "--workers", "2", "--bind", "127.0.0.1:0", "--timeout", "30", "application:app")
    command = [sys.executable, "-m", "gunicorn", *arguments]
    pairs = [("a query", f"document {i} " * (20 + i % 30)) for i in range(40)]
    expected = reranker.score(pairs).tolist()
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://[\d.:]+", line)))
            for count in (1, 40) * 5:
                with urllib.request.urlopen(f"{address}/?{count}", timeout=20) as answer:
                    assert json.load(answer) == expected[:count]
        finally:
            server.terminate()
            server.communicate(timeout=30)
