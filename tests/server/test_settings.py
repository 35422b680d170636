"""Settings: flags before variables before a file before defaults, each value checked, and shown with its origin."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from modernrank import InputError
from modernrank.server import Settings, read_settings
from support.commands import run


def test_flags_before_variables_before_a_file_before_defaults(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text('port = 1\nmax_documents = 2\nlog_format = "text"\nartifacts = ["a", "n=b"]\nuds = "x.sock"\n')
    environment = {"MODERNRANK_CONFIG": str(config), "MODERNRANK_PORT": "2", "MODERNRANK_MAX_DOCUMENTS": "3"}
    found = read_settings({"port": "3"}, {**environment, "MODERNRANK_CACHE": "/c", "MODERNRANK_PAGE": "false"})
    assert (found.settings.port, found.settings.max_documents, found.settings.log_format) == (3, 3, "text")
    assert found.settings.artifacts == ("a", "n=b")
    assert found.settings.uds == Path("x.sock")
    assert found.settings.page is False
    assert found.settings.keep_alive == Settings().keep_alive
    assert found.origin["port"] == "flag"
    assert found.origin["max_documents"] == "environment"
    assert found.origin["log_format"] == str(config)
    assert "keep_alive" not in found.origin


def test_what_is_printed_is_a_file_of_the_same_settings(tmp_path: Path) -> None:
    flags = {"port": "0", "artifacts": ["a b", 'n="c'], "body_timeout": "0.5", "page": False, "precision": "fp32"}
    first = read_settings(flags, {})
    file = tmp_path / "printed.toml"
    file.write_text("\n".join(first.lines()), encoding="utf-8")
    assert tomllib.loads(file.read_text())["body_timeout"] == 0.5
    assert read_settings({"config": str(file)}, {}).settings == first.settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "many"),
        ("port", "-1"),
        ("port", "65536"),
        ("port", 1.5),
        ("max_documents", "0"),
        ("keep_alive", "nan"),
        ("keep_alive", "inf"),
        ("body_timeout", "-1"),
        ("provider", "gpu"),
        ("log_level", "loud"),
        ("page", "perhaps"),
        ("uds", 3),
    ],
)
def test_a_value_that_cannot_be_used_names_itself(name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        read_settings({name: value}, {})
    assert caught.value.details["argument"] == name
    assert name in str(caught.value)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    broken, unknown = tmp_path / "broken.toml", tmp_path / "unknown.toml"
    broken.write_text("port =")
    unknown.write_text("ports = 1")
    for file in (broken, unknown, tmp_path / "missing.toml", tmp_path):
        with pytest.raises(InputError) as caught:
            read_settings({"config": str(file)}, {})
        assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("host", "is_open"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("example.org", True),
    ],
)
def test_which_addresses_others_can_reach(host: str, is_open: bool) -> None:
    assert Settings(host=host).is_open_to_others is is_open


def test_the_command_prints_all_settings() -> None:
    done = run("serve", "--print-settings", "--max-documents", "7", "--no-page", "folder")
    assert done.returncode == 0
    shown = tomllib.loads(done.stdout)
    assert (shown["max_documents"], shown["page"], shown["artifacts"]) == (7, False, ["folder"])
    assert "max_documents = 7  # flag" in done.stdout
    refused = run("serve", "--max-documents", "no", "folder")
    assert refused.returncode == 1
    assert "max_documents" in refused.stderr
