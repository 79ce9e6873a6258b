"""Running the application: uvicorn, one process or several, and the private folder that they share."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import platform
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import click
import h11
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors.multiprocess import Multiprocess

from melascope.bundle.catalogue import active, find
from melascope.bundle.store import pack
from melascope.errors import MelascopeError, UsageError
from melascope.web import logs, metrics, problems
from melascope.web.edge import HEADERS
from melascope.web.settings import Settings

if sys.platform != "win32":
    import resource

_LOG = logging.getLogger("melascope.web")

METRICS_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_FOLDER_VARIABLE = "MELASCOPE_SERVER_FOLDER"  # from the parent to its workers
_SETTINGS, _BUNDLE = "settings.json", "bundle.zip"
_MOST_HEAD_BYTES = 32 * 1024
_BACKLOG = 128
_MOST_FILES = 4096  # heeded of the system's limit; each connection takes memory too
_FILES_OF_OURS = (
    64 + 4 * _BACKLOG
)  # asyncio accepts as many at a time, a few times before it tells of the first
_UNREAD_S = 60
_CLOSE_S = 5.0  # for threads to end, after `shutdown_seconds`
_TRIM_S = 10
#: Of glibc's `mallopt`. By its defaults each thread keeps what a burst of large images took; blocks of 8 MiB and
#: more go back to the system at once, smaller ones, which most photographs need, are kept for the next.
_MALLOC = {
    "M_ARENA_MAX": (-8, 2),
    "M_MMAP_THRESHOLD": (-3, 8 * 1024**2),
    "M_TRIM_THRESHOLD": (-1, 32 * 1024**2),
}


def serve(settings: Settings) -> None:
    """Serve until a signal says stop; then finish what was accepted.

    Raises
    ------
    BundleError
        There is no such bundle, or it does not verify.
    UsageError
        The address is taken or not this machine's.
    MelascopeError
        The server ended without being told to.
    """
    with tempfile.TemporaryDirectory(prefix="melascope-") as name:
        listening = _listen(settings)
        signal.signal(signal.SIGTERM, _end)  # uvicorn raises the signal again when all is finished
        try:
            if settings.workers == 1:
                _serve_alone(settings, Path(name), listening)
            else:
                _serve_with_workers(settings, Path(name), listening)
        except KeyboardInterrupt:
            pass
        finally:
            listening.close()


def app_of_worker() -> ASGIApp:
    """The application of one worker process, as its parent left word of it."""
    from melascope.web.app import create_app

    logs.configure()
    _bound_memory()
    folder = Path(os.environ[_FOLDER_VARIABLE])
    settings = Settings.model_validate_json((folder / _SETTINGS).read_bytes())
    return Mortal(create_app(settings, folder=folder))


def _serve_alone(settings: Settings, folder: Path, listening: socket.socket) -> None:
    from melascope.web.app import create_app

    logs.configure()
    _bound_memory()
    server = uvicorn.Server(_config(Mortal(create_app(settings, folder=folder), folder), settings))
    _tell_address(settings, listening)
    server.run(sockets=[listening])
    if not server.started:
        raise MelascopeError("The server could not start.", remedy="Its log, above, says why.")


def _serve_with_workers(settings: Settings, folder: Path, listening: socket.socket) -> None:
    # A copy of the verified bundle: a worker that is started again later finds what the others answer with.
    pack(find(active(settings.bundle).reference), folder / _BUNDLE)
    settings = settings.model_copy(update={"bundle": str(folder / _BUNDLE)})
    (folder / _SETTINGS).write_text(settings.model_dump_json(), encoding="utf-8")
    (folder / "metrics").mkdir()
    os.environ[_FOLDER_VARIABLE] = str(folder)
    os.environ[METRICS_FOLDER_VARIABLE] = str(folder / "metrics")
    logs.configure()
    config = _config("melascope.web.run:app_of_worker", settings)
    _tell_address(settings, listening)
    Multiprocess(config, sockets=[listening]).run()


def _bound_memory() -> None:
    """Have the allocator give back what it can; only glibc's needs to be told."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for number, value in _MALLOC.values():
            libc.mallopt(number, value)
        threading.Thread(target=_trim, args=(libc,), name="trim", daemon=True).start()


def _trim(libc: ctypes.CDLL) -> None:
    """Now and then give back what lies free between blocks in use, which glibc never does by itself."""
    while True:
        time.sleep(_TRIM_S)
        libc.malloc_trim(0)


def _config(app: ASGIApp | str, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        http=Protocol,
        ws="none",
        lifespan="on",
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the application reads them itself
        timeout_graceful_shutdown=settings.shutdown_seconds,
        h11_max_incomplete_event_size=_MOST_HEAD_BYTES,
        backlog=_BACKLOG,
    )


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
        # Accepted connections inherit it. asyncio would set it only on sockets made with an explicit protocol, and
        # without it an answer's body waits 40 ms for the client to acknowledge its head.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":  # inherited too: a client that reads nothing of its answer is dropped
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_S * 1000)
    except OSError as fault:
        raise UsageError(
            f"{settings.host}, port {settings.port}: the server cannot listen there ({fault.strerror or fault}).",
            remedy="Choose another with --port or --host; --port 0 takes any port that is free.",
        ) from fault
    listening.set_inheritable(True)
    return listening


def _tell_address(settings: Settings, listening: socket.socket) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    port = listening.getsockname()[1]
    click.echo(f"melascope answers at http://{host}:{port}{settings.base_path}/ (Ctrl+C ends it)")
    if settings.users and settings.secure_cookies and not settings.trusted_proxies:
        click.echo(
            "Nobody can sign in over plain HTTP: put a proxy with TLS before it and name it in trusted_proxies, "
            "or for a trial set insecure_cookies."
        )
    sys.stdout.flush()


def _end(*_: object) -> None:
    sys.exit(0)


class Mortal:
    """Ends the process a few seconds after the application is told to close, whatever its threads still do.

    uvicorn tells it at the latest after `shutdown_seconds`; a thread that decodes cannot be ended.

    Parameters
    ----------
    folder
        That goes with the process.
    """

    def __init__(self, app: ASGIApp, folder: Path | None = None) -> None:
        self._app = app
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def heard() -> Message:
            message: Message = {"type": "lifespan.shutdown"}  # or cancelled, by a second Ctrl+C
            try:
                message = await receive()
            finally:
                if message["type"] == "lifespan.shutdown":
                    threading.Thread(target=self._give_up, name="deadline", daemon=True).start()
            return message

        await self._app(scope, heard, send)

    def _give_up(self) -> None:
        time.sleep(_CLOSE_S)
        rest = sorted(thread.name for thread in threading.enumerate() if not thread.daemon)
        _LOG.error("given up: threads did not end in time", extra={"fault": rest})
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(1)


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, less patient: a request's head arrives in time, and what is none gets a problem."""

    head_seconds = 10.0

    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _most_connections():
            transport.abort()
        else:
            self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether to keep our half of the connection: for a client that has said all and waits for its answer."""
        waits = self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete
        if waits:
            self.cycle.keep_alive = False
        return waits

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Of what is no HTTP; where its answer has begun already, all that is left is to close."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            for event in _not_http(msg):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch_head(self) -> None:
        """Start the clock where a head is awaited and none runs, stop it where none is."""
        awaited = self.conn.their_state is h11.IDLE
        if awaited and self._head_due is None:
            self._head_due = self.loop.call_later(self.head_seconds, self.transport.close)
        elif not awaited and self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None


def _most_connections() -> int:
    """Of a process, so that it always has files left to open and never fails to accept."""
    limit = 1024 if sys.platform == "win32" else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(16, min(limit, _MOST_FILES) - _FILES_OF_OURS)


def _not_http(detail: str) -> tuple[h11.Event, ...]:
    problem = problems.Problem(code="not-http", status=400, title="Bad Request", detail=detail)
    metrics.count_problem(problem.code)
    body = json.dumps(problem.as_json("")).encode()
    headers = {
        **HEADERS,
        "Cache-Control": "no-store",
        "Content-Type": problems.MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    return (
        h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request"),
        h11.Data(data=body),
        h11.EndOfMessage(),
    )
