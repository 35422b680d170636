"""Debian's package descriptions as queries and documents, split by source package.

A query is a package's one-line synopsis; its document is the package's long description. The packages of one source
often differ in a few words (``library``, ``library - development files``), so they make hard negatives.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MIN_DOCUMENT_WORDS = 12
MIN_OPENING_WORDS, MAX_OPENING_WORDS = 4, 24  # limits of a first sentence that becomes a query
TEST_PERCENT, VALIDATION_PERCENT = 10, 4  # shares of the source packages, by a hash of their names
_MAIN_LIST = re.compile(r"_debian_dists_[a-z]+_main_binary-amd64_Packages$")


@dataclass(frozen=True)
class Package:
    """A package: a query, and the document that answers it.

    Attributes:
        id: The package's name. A second description of the same name has ``#2`` after it.
        source: The name of the source package.
        query: The synopsis, one line.
        document: The long description, one line.
    """

    id: str
    source: str
    query: str
    document: str

    @property
    def split(self) -> str:
        """``"train"``, ``"validation"`` or ``"test"``; all packages of a source are in the same split.

        >>> Package("mpc", "mpc", "command-line tool to control MPD", "A client for MPD.").split
        'train'
        """
        percent = int(hashlib.sha256(self.source.encode()).hexdigest()[:8], 16) % 100
        if percent < TEST_PERCENT:
            return "test"
        return "validation" if percent < TEST_PERCENT + VALIDATION_PERCENT else "train"


def download_lists(folder: Path) -> None:
    """Download into ``folder`` the package lists that apt is configured for. Apt's own lists do not change.

    Raises:
        FileNotFoundError: The machine has no ``apt-get``.
        subprocess.CalledProcessError: ``apt-get update`` failed.
    """
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    options = {
        "Acquire::Languages": "en",
        "Acquire::GzipIndexes": "false",
        "APT::Sandbox::User": "root",
        "Dir::State::Lists": str(folder.resolve()),
    }
    subprocess.run(["apt-get", *(f"-o{name}={value}" for name, value in options.items()), "update"], check=True)


def read_packages(folder: Path) -> list[Package]:
    """Read the packages of Debian's main archive, in the archive's order and each long description once.

    Args:
        folder: The folder that ``download_lists`` filled.

    Raises:
        ValueError: The folder does not hold exactly one package list of Debian's main archive for amd64.
    """
    binaries = _main_list(folder)
    translations = binaries.with_name(binaries.name.replace("binary-amd64_Packages", "i18n_Translation-en"))
    sources = {
        stanza["Package"]: stanza.get("Source", stanza["Package"]).split()[0] for stanza in _read_stanzas(binaries)
    }
    packages: dict[str, Package] = {}  # by document
    descriptions: Counter[str] = Counter()  # by name: a package may have a second one for another architecture
    for stanza in _read_stanzas(translations):
        synopsis, _, text = stanza["Description-en"].partition("\n")
        document = " ".join(re.sub(r"(?m)^\.$", "", text).split())
        name = stanza["Package"]
        if name in sources and len(document.split()) >= MIN_DOCUMENT_WORDS and document not in packages:
            descriptions[name] += 1
            identifier = name if descriptions[name] == 1 else f"{name}#{descriptions[name]}"
            packages[document] = Package(identifier, sources[name], synopsis.strip(), document)
    return list(packages.values())


def opening_queries(packages: Iterable[Package]) -> list[Package]:
    """Make more queries to train on: a description's first sentence, which the rest of the description answers.

    >>> rest = "It reads the player's queue, and prints what plays, with its length and its place."
    >>> (package,) = opening_queries([Package("mpc", "mpc", "MPD client", f"This client controls MPD. {rest}")])
    >>> package.query, package.document == rest
    ('This client controls MPD', True)
    """
    openings = []
    for package in packages:
        sentence, _, rest = package.document.partition(". ")
        fits = MIN_OPENING_WORDS <= len(sentence.split()) <= MAX_OPENING_WORDS
        if fits and len(rest.split()) >= MIN_DOCUMENT_WORDS:
            openings.append(Package(package.id, package.source, sentence, rest))
    return openings


def _main_list(folder: Path) -> Path:
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith("_Packages"))
    matches = [name for name in names if _MAIN_LIST.search(name)]
    if len(matches) != 1:
        raise ValueError(
            f"{folder} must hold one package list of Debian's main archive for amd64, but {len(matches)} of its lists "
            f"{names} match {_MAIN_LIST.pattern!r}; remove the folder, and run again on an amd64 machine whose apt is "
            "configured for one Debian release, from a mirror whose address ends in /debian"
        )
    return folder / matches[0]


def _read_stanzas(path: Path) -> Iterator[dict[str, str]]:
    """Read the fields of each stanza; the lines of a field are joined by newlines, without their indent."""
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith((" ", "\t")):
                fields[name] += "\n" + line[1:]
            elif ":" in line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            yield fields
