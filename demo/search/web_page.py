"""A page that shows what bm25 finds and what both stages find, side by side."""

from __future__ import annotations

import html
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from .two_stages import Found, Result, TwoStages

SHOWN = 10
MAX_QUERY = 1000  # characters
STYLE = (
    "body{font:16px/1.4 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}"
    "form{display:flex;gap:.5rem}input{flex:1;font:inherit;padding:.4rem}button{font:inherit;padding:.4rem 1rem}"
    "main{display:grid;grid-template-columns:1fr 1fr;gap:2rem}li{margin:.6rem 0}p{margin:0;color:#444;font-size:.9rem}"
    "b.up{color:#176b2c}b.down{color:#8a1c1c}"
)


def page(query: str, found: Found | None, documents: int) -> str:
    """The page as HTML. Texts are escaped.

    >>> "<b>" in page("<b>", None, 3)
    False
    """
    results = ""
    if found is not None:
        by_words = sorted(found.results, key=lambda result: result.rank_before)[:SHOWN]
        reranked = list(enumerate(found.results[:SHOWN], start=1))
        first, second = (f"{seconds * 1000:.1f} ms" for seconds in found.seconds)
        results = (
            f"<main><section><h2>bm25 alone ({first})</h2><ol>{''.join(map(_by_words, by_words))}</ol></section>"
            f"<section><h2>then reranked (+ {second})</h2><ol>{''.join(_reranked(*row) for row in reranked)}</ol>"
            "</section></main>"
        )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Two stages</title><style>{STYLE}</style>'
        f"<h1>{documents:,} descriptions of software</h1>"
        f'<form><input name="q" value="{html.escape(query)}" maxlength="{MAX_QUERY}" aria-label="query" autofocus>'
        f"<button>Search</button></form>{results}</html>"
    )


def _by_words(result: Result) -> str:
    return f"<li>{html.escape(result.hit.name)} {result.hit.bm25:.2f}{_text(result)}"


def _reranked(rank: int, result: Result) -> str:
    climbed = result.rank_before - rank
    kind = "up" if climbed > 0 else "down"
    change = f' <b class="{kind}">{climbed:+d}</b>' if climbed else ""
    return f"<li>{html.escape(result.hit.name)} {result.logit:.2f}{change}{_text(result)}"


def _text(result: Result) -> str:
    return f"<p>{html.escape(result.hit.text[:300])}</p></li>"


def serve(stages: TwoStages, port: int) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C. It is an example: no keys, no limits."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if address.path != "/":
                self.send_error(404)
                return
            query = parse_qs(address.query).get("q", [""])[0][:MAX_QUERY]
            found = stages.find(query) if query.strip() else None
            content = page(query, found, len(stages.index)).encode()
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: the requests hold the queries."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
