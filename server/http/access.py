"""Who may ask: keys, from a file or the environment, compared in a time that does not depend on them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path

from modernrank.errors import InputError

from ..settings_sources import KEYS_VARIABLE
from .problems import RequestError


class Keys:
    """The keys that a server accepts; none means that everybody may ask.

    >>> keys = Keys(["first", "second"])
    >>> keys.accept({b"authorization": b"Bearer second"}), keys.accept({b"x-api-key": b"third"}), bool(Keys([]))
    (True, False, False)
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accept(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request has one of the keys. Every key is compared, whichever one fits."""
        given = _digest(_key_in(headers))
        return sum(hmac.compare_digest(given, known) for known in self._digests) > 0

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Let a request pass.

        Raises:
            RequestError: 401.
        """
        if self._digests and not self.accept(headers):
            sent = "the key is not one that this server accepts" if _key_in(headers) else "the request has no key"
            raise RequestError(401, f"{sent}; send `Authorization: Bearer KEY`")

    def check_administrator(self, headers: Mapping[bytes, bytes]) -> None:
        """Let a request change the server.

        Raises:
            RequestError: 401 for a wrong key, 403 if the server has none.
        """
        if not self._digests:
            raise RequestError(403, "this server has no key, so nobody may change it over HTTP; give it one, or SIGHUP")
        self.check(headers)


def read_keys(file: Path | None, environment: Mapping[str, str]) -> Keys:
    """The keys in a file, one on each line, and those in MODERNRANK_API_KEYS, separated by white space or commas.

    Raises:
        InputError: the file cannot be read, or holds no key.
    """
    keys = environment.get(KEYS_VARIABLE, "").replace(",", " ").split()
    if KEYS_VARIABLE in environment and not keys:
        raise InputError(f"{KEYS_VARIABLE} is set, but holds no key; give it one, or unset it", argument=KEYS_VARIABLE)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InputError(f"cannot read {file}: {reason}", argument="api_key_file", value=str(file)) from error
        found = [key for line in lines if (key := line.strip()) and not key.startswith("#")]
        if not found:
            raise InputError(f"{file} holds no key", argument="api_key_file", value=str(file))
        keys += found
    return Keys(keys)


def _key_in(headers: Mapping[bytes, bytes]) -> bytes:
    """``Authorization: Bearer KEY``; some clients leave out the word, and some use ``x-api-key``."""
    authorization = headers.get(b"authorization", b"").strip()
    scheme, separator, key = authorization.partition(b" ")
    if separator and scheme.lower() == b"bearer":
        return key.strip()
    return authorization or headers.get(b"x-api-key", b"").strip()


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
