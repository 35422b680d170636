"""The tree of errors: what a service catches, the facts in ``details``, and that both survive pickling."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import modernrank
from modernrank import (
    ArtifactError,
    BackendError,
    ClosedError,
    DeadlineError,
    InputError,
    ModernRankError,
    OverloadedError,
    ProfileError,
    ProviderError,
    TruncationWarning,
)

ERRORS = [
    ArtifactError,
    BackendError,
    ClosedError,
    DeadlineError,
    InputError,
    ModernRankError,
    OverloadedError,
    ProfileError,
    ProviderError,
]


def fail(path: Path) -> None:
    raise ArtifactError(f"{path} is missing", path=path)


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_is_a_modernrank_error(kind: type[ModernRankError]) -> None:
    assert issubclass(kind, ModernRankError)


def test_the_list_of_errors_is_complete() -> None:
    public = [getattr(modernrank, name) for name in modernrank.__all__ if name.endswith("Error")]
    assert set(public) == set(ERRORS)


@pytest.mark.parametrize("kind", [InputError, ProfileError])
def test_errors_of_the_callers_input_are_value_errors(kind: type[ModernRankError]) -> None:
    assert issubclass(kind, InputError)
    assert issubclass(kind, ValueError)


def test_other_errors_are_no_value_errors() -> None:
    assert [kind for kind in ERRORS if issubclass(kind, ValueError)] == [InputError, ProfileError]


def test_a_truncation_is_a_warning_and_no_error() -> None:
    assert issubclass(TruncationWarning, UserWarning)
    assert not issubclass(TruncationWarning, ModernRankError)


def test_an_error_without_facts_has_none() -> None:
    assert ModernRankError("a message").details == {}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("clone", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_an_error_survives_pickling_and_copying(kind: type[ModernRankError], clone: object) -> None:
    error = kind("a message", path=Path("a"), limit=3, reasons={"cuda": "no driver"})
    same = clone(error)  # type: ignore[operator]
    assert type(same) is kind
    assert str(same) == "a message"
    assert same.details == {"path": Path("a"), "limit": 3, "reasons": {"cuda": "no driver"}}


@pytest.mark.slow
def test_an_error_comes_back_from_another_process() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, pytest.raises(ArtifactError) as caught:
        pool.submit(fail, Path("x")).result()
    assert caught.value.details["path"] == Path("x")


def test_a_fact_that_cannot_be_pickled_becomes_its_representation() -> None:
    values = (letter for letter in "ab")
    error = pickle.loads(pickle.dumps(InputError("refused", value=values, index=3)))
    assert error.details == {"value": repr(values), "index": 3}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (InputError, 422),
        (ProfileError, 422),
        (OverloadedError, 429),
        (ArtifactError, 500),
        (ProviderError, 500),
        (BackendError, 500),
        (ClosedError, 503),
        (DeadlineError, 504),
    ],
)
def test_every_error_has_the_status_of_an_answer(kind: type[ModernRankError], status: int) -> None:
    assert kind("a message").http_status == status
