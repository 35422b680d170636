"""A server in a process of its own, as a user runs it, and requests to it with nothing but sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 30.0  # for whatever a test waits for


@dataclass
class Answer:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class RunningServer:
    """A server's process, and the lines of its log."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list, repr=False)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, headers: Mapping[str, str] | None = None, port: int | None = None) -> Answer:
        return self.send("GET", path, None, headers, port)

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a body as JSON; bytes are sent as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("POST", path, data, {"content-type": "application/json", **(headers or {})})

    def send(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None = None, port: int | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log so far."""
        return [json.loads(line) for line in list(self.lines)]

    def logged(self, **fields: object) -> list[dict[str, Any]]:
        """The lines with these fields; waits until there is one."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            found = [line for line in self.log if fields.items() <= line.items()]
            if found:
                return found
            time.sleep(0.01)
        raise AssertionError(f"no line with {fields}; the last ones are {self.lines[-5:]}")

    def port_for(self, name: str) -> int:
        """The port on which it listens for ``"requests"`` or ``"health and metrics"``; waits until it says so."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            for line in list(self.lines):
                if found := re.search(rf"listening for {name} on http://[^:]+:(\d+)", line):
                    return int(found[1])
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        raise AssertionError(f"the server did not start: {self.lines}")

    def metric(self, name: str) -> float:
        """The value of a sample, such as ``modernrank_ready``."""
        for line in self.get("/metrics").body.decode().splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        return 0.0

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        return self.process.wait(SECONDS)


@contextlib.contextmanager
def serving(
    *arguments: object,
    wait: str = "/health/ready",
    listens: bool = True,
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = (sys.executable, "-m", "modernrank"),
    **options: Any,
) -> Iterator[RunningServer]:
    """``modernrank serve ARGUMENTS`` on a free port, ready for requests; it is ended with the block.

    ``wait``: the path that is asked until it answers 200; "" for none. ``listens``: whether it listens on a port.
    """
    process = subprocess.Popen(
        [*command, "serve", "--port", "0", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        start_new_session=True,
        **options,
    )
    server = RunningServer(process)
    assert process.stderr is not None
    reader = threading.Thread(target=_read, args=(process.stderr, server.lines), daemon=True)
    reader.start()
    try:
        if listens:
            server.port = server.port_for("requests")
        if wait:
            _wait_until_ok(server, wait)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join(5)


def _read(stream: Any, lines: list[str]) -> None:
    for line in stream:
        lines.append(line)


def _wait_until_ok(server: RunningServer, path: str) -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and server.process.poll() is None:
        with contextlib.suppress(OSError):
            if server.get(path).status == 200:
                return
        time.sleep(0.005)
    raise AssertionError(f"the server is not ready: {server.lines}")


def exit_code(*arguments: object, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Of a server that cannot start, and what it wrote to standard error."""
    command = [sys.executable, "-m", "modernrank", "serve", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=SECONDS, cwd=Path("/")
    )
    return done.returncode, done.stderr
