"""The page at ``/``: a query and documents, ranked, and the server's load. Plain HTML and one script."""

from __future__ import annotations

from importlib.resources import files


def _read(name: str, media_type: str) -> tuple[bytes, str]:
    return files(__name__).joinpath(name).read_bytes(), media_type


PAGE = _read("page.html", "text/html")
SCRIPT = _read("page.js", "text/javascript")
STYLE = _read("page.css", "text/css")
ICON = _read("page.svg", "image/svg+xml")
