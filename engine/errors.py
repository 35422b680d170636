"""Every error that modernrank raises on purpose, and the HTTP status that fits it.

    ModernRankError
    ├── InputError (also a ValueError)   an argument, a pair or a line of input cannot be used      422
    │   └── ProfileError                 no optimisation profile of an engine accepts a shape       422
    ├── ArtifactError                    an artifact or a checkpoint is missing, damaged or unfit   500
    ├── ProviderError                    a provider cannot run on this machine                      500
    ├── BackendError                     a backend failed while it loaded or ran a batch            500
    ├── OverloadedError                  too much work is waiting                                   429
    ├── DeadlineError                    a call passed its deadline                                 504
    └── ClosedError                      the model was closed                                       503

A message says what was asked, what there is, and what to change. The same facts are in ``details``, by name.
"""

from __future__ import annotations

import pickle
from typing import Any, ClassVar


class ModernRankError(Exception):
    """The root of all errors.

    ``details`` holds the facts of the message by name, such as ``{"argument": "max_length", "limit": 8192}``, so that a
    program need not read the text. ``http_status`` is the status with which a server answers. An error with its details
    survives pickling; a value that does not, such as a generator, becomes its ``repr``.

    >>> InputError("top_k is 0; the minimum is 1", argument="top_k", value=0).details["argument"]
    'top_k'
    """

    http_status: ClassVar[int] = 500

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), {name: _picklable(value) for name, value in self.details.items()})


class InputError(ModernRankError, ValueError):
    """An argument, a pair or a line of input cannot be used as it is.

    Details: ``argument`` and ``value`` of a refused argument, ``choices`` or ``limit`` where there are any; ``index``
    of a refused pair or document; ``file`` and ``line`` of a refused line.
    """

    http_status = 422


class ProfileError(InputError):
    """No optimisation profile accepts a batch, or profiles contradict each other. Details: ``profiles``."""


class ArtifactError(ModernRankError):
    """An artifact or a checkpoint is missing, damaged, too new or of the wrong kind.

    Details: ``path``; ``precision`` and ``available`` where a precision is missing; ``field`` of a refused config
        field.
    """


class ProviderError(ModernRankError):
    """A provider is not installed, or another one would run. Details: ``provider``, or ``reasons`` by provider."""


class BackendError(ModernRankError):
    """A backend failed while it loaded or ran a batch. Details: ``rows`` and ``tokens`` of the batch."""


class OverloadedError(ModernRankError):
    """Too much work is waiting.

    Details: ``waiting_tokens`` that count towards the ``limit``, ``tokens`` of the call; ``estimated_wait`` until what
        waits is done and ``retry_after`` until there is room, in seconds, or None before the first run.
    """

    http_status = 429


class DeadlineError(ModernRankError):
    """A call passed its deadline before its pairs were scored. Details: ``timeout`` in seconds, and ``priority``."""

    http_status = 504


class ClosedError(ModernRankError):
    """The model was closed, by this thread or another one."""

    http_status = 503


class TruncationWarning(UserWarning):
    """Pairs exceeded ``max_length`` and were cut; the message says how many and by how much."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, for messages.

    >>> counted(1, "pair"), counted(1200, "pair"), counted(2, "query", "queries")
    ('1 pair', '1,200 pairs', '2 queries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _picklable(value: object) -> object:
    try:
        pickle.dumps(value)
    except (pickle.PicklingError, TypeError, AttributeError):  # what pickle raises for lambdas, generators and locks
        return repr(value)
    return value


def _rebuild(kind: type[ModernRankError], message: str, details: dict[str, Any]) -> ModernRankError:
    return kind(message, **details)
