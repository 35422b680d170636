"""Runs the server in uvicorn: sockets, signals, draining.

SIGTERM, SIGINT   not ready; requests in progress end within shutdown_timeout; then what still runs is cancelled
again             end at once
SIGHUP            load the artifacts anew beside the ones that serve, and switch
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import stat
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

from modernrank import ModernRankError
from modernrank.errors import InputError

from .app import application, health_application, make_service
from .http.connections import guarded
from .http.service import Service
from .models import ReloadingError
from .observing import logs
from .settings import Settings

logger = logging.getLogger("modernrank.server")

BACKLOG = 2048
# Open files besides connections: the models, the logs, the sockets.
OTHER_FILES = 128


def run(settings: Settings) -> int:
    """Serve until a signal ends it; returns the exit code: 0, or 1 if the models cannot be loaded.

    Raises:
        InputError: a setting cannot be used, or the address is taken.
        ArtifactError: an artifact cannot be read.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the models can be reloaded
    handler = logs.configure(settings)
    servers: list[_Server] = []
    service = make_service(
        settings, lambda: sum(len(s.server_state.connections) for s in servers), lambda: handler.lost
    )
    protocol = guarded(
        replace(settings, max_connections=_file_limit(settings.max_connections)),
        lambda status: service.metrics.requests.labels("none", str(status)).inc(),
    )
    sockets = [_bind(settings)]
    own = settings.uds and settings.uds.stat()
    servers.append(_Server(_config(settings, application(service), protocol)))
    if settings.metrics_port is not None:
        sockets.append(_bind_port(settings.host, settings.metrics_port))
        servers.append(_Server(_config(settings, health_application(service), protocol, lifespan="off")))
    _announce(settings, service, sockets)
    try:
        with asyncio.Runner(loop_factory=servers[0].config.get_loop_factory()) as runner:
            return runner.run(_Running(settings, service, servers, sockets).until_end())
    finally:
        handler.stop()
        # Its own socket, and not that of a server that has replaced it.
        if settings.uds is not None and own and _is_same(settings.uds, own):
            settings.uds.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """Leaves the signals to ``_Running``."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Running:
    """The servers of a process, and what signals do to them."""

    def __init__(
        self, settings: Settings, service: Service, servers: list[_Server], sockets: list[socket.socket]
    ) -> None:
        self._settings = settings
        self._service = service
        self._servers = servers
        self._sockets = sockets
        self._tasks: set[asyncio.Task[object]] = set()
        self._signalled = False

    async def until_end(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        serving = [
            asyncio.create_task(server.serve(sockets=[sock]))
            for server, sock in zip(self._servers, self._sockets, strict=True)
        ]
        loaded = await self._loaded(serving)
        await asyncio.wait(serving)
        for task in serving:
            task.result()
        logger.info("ended")
        return 0 if loaded else 1

    async def _loaded(self, serving: list[asyncio.Task[None]]) -> bool:
        """Wait until the models are loaded, or the server ends. False if they cannot be loaded, which ends it."""
        while self._service.loading is None and not serving[0].done():
            await asyncio.sleep(0.001)
        loading = self._service.loading
        if loading is None:
            return False
        await asyncio.wait([loading, serving[0]], return_when=asyncio.FIRST_COMPLETED)
        error = loading.exception() if loading.done() and not loading.cancelled() else None
        if error is None:
            return True
        self._service.drain()
        self._stop()
        if not isinstance(error, ModernRankError):
            raise error
        return False

    def _end(self) -> None:
        if self._signalled:
            for server in self._servers:
                server.force_exit = True
            self._stop()
            return
        self._signalled = True
        self._service.drain()
        logger.info("draining: no longer ready")
        self._start(self._drain())

    async def _drain(self) -> None:
        await asyncio.sleep(self._settings.shutdown_delay)
        self._stop()

    def _stop(self) -> None:
        for server in self._servers:
            server.should_exit = True

    def _reload(self) -> None:
        if self._service.is_ready:
            self._start(self._reloaded())

    async def _reloaded(self) -> None:
        with contextlib.suppress(ReloadingError):  # it has been asked for already
            await self._service.models.reload()

    def _start(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_same(path: Path, own: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), own)
    except FileNotFoundError:
        return False


def _config(settings: Settings, app: object, protocol: Callable[..., Any], lifespan: str = "on") -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=protocol,  # type: ignore[arg-type]
        ws="none",
        lifespan=lifespan,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]
        timeout_graceful_shutdown=settings.shutdown_timeout,  # type: ignore[arg-type]
    )


def _bind(settings: Settings) -> socket.socket:
    return _bind_path(settings.uds) if settings.uds is not None else _bind_port(settings.host, settings.port)


def _bind_port(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}:{port}: {_reason(error)}; choose another --host or --port",
            argument="port",
            value=port,
        ) from error
    return sock


def _bind_path(path: Path) -> socket.socket:
    """A Unix socket. One that no server listens on any more is replaced; nothing else is."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _is_served(path):
            path.unlink()
        sock.bind(str(path))
        sock.listen(BACKLOG)
    except OSError as error:
        raise InputError(
            f"cannot listen on {path}: {_reason(error)}; choose another --uds", argument="uds", value=str(path)
        ) from error
    return sock


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) != errno.ECONNREFUSED


def _reason(error: OSError) -> str:
    return "another server listens there" if error.errno == errno.EADDRINUSE else error.strerror or str(error)


def _announce(settings: Settings, service: Service, sockets: list[socket.socket]) -> None:
    for sock, name in zip(sockets, ("requests", "health and metrics"), strict=False):
        where = sock.getsockname()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = str(settings.uds) if isinstance(where, str | bytes) else f"http://{host}:{where[1]}"
        logger.info("listening for %s on %s, process %d", name, address, os.getpid())
    if settings.is_open_to_others and not service.keys:
        logger.warning("other machines can connect, and no key is needed: set MODERNRANK_API_KEYS or --api-key-file")


def _file_limit(connections: int) -> int:
    """Let the process have as many open files as connections; returns how many connections the system allows."""
    try:
        import resource
    except ImportError:  # Windows
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
        if granted < wanted:
            allowed = max(1, granted - OTHER_FILES, granted // 2)
            logger.warning(
                "the system allows %d open files, and so %d connections instead of max_connections %d",
                granted,
                allowed,
                connections,
            )
            return allowed
    return connections
