"""Write a folder in which the packages lie as they install, as links to the sources: for tools that follow files only.

python tests/support/link_tree.py build/types
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from layout import ROOT, package_folders


def main(out: Path) -> None:
    """Replace ``out`` by the tree."""
    shutil.rmtree(out, ignore_errors=True)
    for package, folder in package_folders().items():
        target = out.joinpath(*package.split("."))
        target.mkdir(parents=True)
        for path in (ROOT / folder).iterdir():
            if str(path.relative_to(ROOT)) not in package_folders().values():
                (target / path.name).symlink_to(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
