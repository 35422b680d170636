"""``modernrank export``, ``info`` and the shared options; ``verify`` and ``build-engine`` are in tests/export."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from modernrank.cli import COMMANDS, main
from support.checkpoints import checkpoint


def test_export_says_what_to_run_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(checkpoint("tiny")), "--out", str(tmp_path / "a")]) == 0
    assert f"modernrank rank {tmp_path / 'a'} --query" in capsys.readouterr().err
    assert main(["export", str(checkpoint("tiny-cls")), "--out", str(tmp_path / "b")]) == 0
    assert f"modernrank score {tmp_path / 'b'} --input" in capsys.readouterr().err  # several labels cannot be ranked


@pytest.mark.parametrize(
    "fact", ["ModernBertForSequenceClassification", "mean pooling", "fp32, ort-cpu, for cpu", "8,192 tokens"]
)
def test_info_shows_the_artifact(artifacts: Path, capsys: pytest.CaptureFixture[str], fact: str) -> None:
    assert main(["info", str(artifacts / "tiny")]) == 0
    assert fact in capsys.readouterr().out


def test_info_says_of_each_provider_whether_it_runs(artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(artifacts / "tiny")]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "available; provider 'auto' chooses it, in fp32" in rows["cpu"]
    assert {"tensorrt", "tensorrt-rtx", "ort-tensorrt", "cuda"} <= rows.keys()


def test_info_prints_the_manifest_as_json(artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(artifacts / "tiny"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((artifacts / "tiny" / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["export", "/no/checkpoint", "--out", "/tmp/never"], "/no/checkpoint"),
        (["info", "/"], "manifest.json"),
    ],
)
def test_refusals_are_one_line(arguments: list[str], fact: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    errors = capsys.readouterr().err
    assert fact in errors
    assert len(errors.splitlines()) == 1


@pytest.fixture
def quiet_logger() -> Iterator[None]:
    """Take away what a command adds to the logger."""
    logger = logging.getLogger("modernrank")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.usefixtures("quiet_logger")
def test_verbose_logs_what_auto_chose(artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "documents.txt").write_text("a\n")
    command = ["rank", str(artifacts / "tiny"), "--query", "q", "--documents", str(tmp_path / "documents.txt")]
    assert main(command) == 0
    assert capsys.readouterr().err == ""
    assert main(["-v", *command]) == 0
    assert "chose cpu" in capsys.readouterr().err


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_shared_options_mean_the_same_in_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--json takes no value, --out takes a path, --max-length a number of tokens."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    options = dict(re.findall(r"^  (--[a-z-]+)(?: ([A-Z.]+))?", capsys.readouterr().out, re.MULTILINE))
    assert options.get("--json", "") == ""
    assert options.get("--out", "PATH") == "PATH"
    assert options.get("--max-length", "TOKENS") == "TOKENS"
