"""Debian's package descriptions as queries and documents, split by source package.

A query is a package's one-line synopsis, its document the long description. Packages of one source often differ in a
few words (``library``, ``library - development files``): those make the hard negatives.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LEAST_WORDS = 12
LEAST_OPENING_WORDS, MOST_OPENING_WORDS = 4, 24
# Percent of the source packages, by a hash of their names.
TEST, VALIDATION = 10, 4


@dataclass(frozen=True)
class Entry:
    """One package: a query and the document that answers it."""

    id: str
    source: str
    query: str
    document: str

    @property
    def split(self) -> str:
        """``"train"``, ``"validation"`` or ``"test"``: the same for all packages of a source."""
        percent = int(hashlib.sha256(self.source.encode()).hexdigest()[:8], 16) % 100
        return "test" if percent < TEST else "validation" if percent < TEST + VALIDATION else "train"


def fetch(lists: Path) -> None:
    """Download the package lists that apt is configured for into ``lists``; apt's own stay as they are."""
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    options = {
        "Acquire::Languages": "en",
        "Acquire::GzipIndexes": "false",
        "APT::Sandbox::User": "root",
        "Dir::State::Lists": str(lists.resolve()),
    }
    subprocess.run(["apt-get", *(f"-o{name}={value}" for name, value in options.items()), "update"], check=True)


def read(lists: Path) -> list[Entry]:
    """The packages of a Debian release's main archive in its order, each long description once."""
    (packages,) = (path for path in lists.iterdir() if re.search(r"_debian_dists_[a-z]+_main_.*_Packages$", path.name))
    descriptions = packages.with_name(packages.name.replace("binary-amd64_Packages", "i18n_Translation-en"))
    sources = {s["Package"]: s.get("Source", s["Package"]).split()[0] for s in _stanzas(packages)}
    entries: dict[str, Entry] = {}
    versions: Counter[str] = Counter()
    for stanza in _stanzas(descriptions):
        query, _, text = stanza["Description-en"].partition("\n")
        document = " ".join(re.sub(r"(?m)^\.$", "", text).split())
        package = stanza["Package"]
        if package in sources and len(document.split()) >= LEAST_WORDS and document not in entries:
            versions[package] += 1  # architectures may describe it otherwise
            name = package if versions[package] == 1 else f"{package}#{versions[package]}"
            entries[document] = Entry(name, sources[package], query.strip(), document)
    return list(entries.values())


def openings(entries: Iterable[Entry]) -> list[Entry]:
    """More queries to learn from: a description's first sentence, which the rest of the description answers."""
    found = []
    for entry in entries:
        query, _, document = entry.document.partition(". ")
        if MOST_OPENING_WORDS >= len(query.split()) >= LEAST_OPENING_WORDS and len(document.split()) >= LEAST_WORDS:
            found.append(Entry(entry.id, entry.source, query, document))
    return found


def _stanzas(path: Path) -> Iterator[dict[str, str]]:
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
