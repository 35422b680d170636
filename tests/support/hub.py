"""A hub on this machine: it serves one model as huggingface.co does, and remembers what was downloaded."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """A running hub.

    url:        for HF_ENDPOINT.
    downloaded: the paths of files that were downloaded, in order.
    """

    url: str
    downloaded: list[str] = field(default_factory=list)


@contextmanager
def serving_hub(folder: Path, model_id: str) -> Iterator[Hub]:
    """Serve the files of ``folder`` as the model ``model_id`` at REVISION, which is also its branch ``main``."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    hub = Hub("")

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def _answer(self, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{model_id}/tree/"):
                entries = [{"type": "file", "path": n, "size": f.stat().st_size, "oid": n} for n, f in files.items()]
                self._send(200, json.dumps(entries).encode(), with_body)
            elif path.startswith(f"/api/models/{model_id}"):
                siblings = [{"rfilename": name} for name in files]
                content = {"id": model_id, "modelId": model_id, "sha": REVISION, "siblings": siblings}
                self._send(200, json.dumps(content).encode(), with_body)
            else:
                self._send_file(path.partition("/resolve/")[2].partition("/")[2], with_body)

        def _send_file(self, name: str, with_body: bool) -> None:
            if name not in files:
                self._send(404, b"", with_body)
                return
            if with_body:
                hub.downloaded.append(name)
            self._send(200, files[name].read_bytes(), with_body)

        def _send(self, status: int, body: bytes, with_body: bool) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", REVISION)
            if status == 404:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
