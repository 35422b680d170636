"""The command line as a user runs it: in a process of its own, with pipes, signals, closed streams and a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.checkpoints import checkpoint
from support.commands import run

PAIRS = "".join(
    json.dumps({"query": "the terms", "document": document, "id": i}) + "\n"
    for i, document in enumerate(["of the license", "of the contract " * 30, "größe"])
)


def test_a_pipeline_of_json_lines(artifacts: Path) -> None:
    done = run("score", artifacts / "tiny", stdin=PAIRS + "\n")
    assert done.stderr == ""
    assert done.returncode == 0
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [0, 1, 2]


def test_wrong_usage_is_one_line_and_code_2() -> None:
    done = run("fly")
    assert done.returncode == 2
    assert "--help" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_one_line(artifacts: Path) -> None:
    done = run("score", artifacts / "tiny", "--out", "/dev/full", stdin=PAIRS)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "No space left on device" in done.stderr


def test_a_reader_that_leaves_ends_it_quietly(artifacts: Path) -> None:
    """More output than a pipe holds, and a reader that takes one line."""
    command = f"{sys.executable} -m modernrank score {artifacts / 'tiny'} --window 50 | head -n 1"
    done = subprocess.run(command, shell=True, input=PAIRS * 5000, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_ctrl_c_ends_it_quietly(artifacts: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "modernrank", "score", str(artifacts / "tiny"), "--window", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's children ignore it
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(PAIRS.encode())
    process.stdin.flush()
    assert process.stdout.readline()  # it is running, and now waits for input
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_closed_standard_streams_are_named(artifacts: Path, closed: str) -> None:
    """As under cron and some service managers."""
    command = f"echo {json.dumps(PAIRS)} | {sys.executable} -m modernrank score {artifacts / 'tiny'} {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 1
    assert "closed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_standard_error_does_not_mix_notes_into_the_output(tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    command = f"{sys.executable} -m modernrank export {checkpoint('tiny')} --out {out} 2>&-"
    done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout == ""
    assert (out / "manifest.json").is_file()


def test_utf8_arguments_are_understood_in_the_c_locale(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "documents.txt").write_text("größe\nlicense\n", encoding="utf-8")
    arguments = ("rank", artifacts / "tiny", "--query", "é", "--documents", tmp_path / "documents.txt", "--json")
    expected = run(*arguments)
    c_locale = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run(*arguments, env=c_locale)
    assert done.stderr == ""
    assert done.stdout == expected.stdout


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    """With `onnx` hidden, as where only modernrank[cpu] is installed."""
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('no onnx', name='onnx')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = run("export", checkpoint("tiny"), "--out", tmp_path / "out", env=environment)
    assert done.returncode == 1
    assert "onnx" in done.stderr
    assert "pip install 'modernrank[cpu,export]'" in done.stderr


def test_a_command_imports_nothing_of_the_server() -> None:
    """Each start would otherwise take 0.15 s longer."""
    heavy = ("starlette", "uvicorn", "msgspec", "prometheus_client")
    code = f"""
import sys
from modernrank.cli import main
try:
    main(["serve", "--help"])
except SystemExit:
    print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--max-documents" in done.stdout


def test_the_missing_extra_of_the_server_is_named(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('no uvicorn', name='uvicorn')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = run("serve", tmp_path, "--port", "0", env=environment)
    assert done.returncode == 1
    assert "pip install 'modernrank[cpu,serve]'" in done.stderr
