"""What happens to every request before and after the application: ids, limits, headers, the log, the last resort."""

from __future__ import annotations

import ipaddress
import logging
import re
import time
import traceback
import uuid
from contextlib import ExitStack
from itertools import takewhile
from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from melascope.errors import ForbiddenError, MelascopeError, RequestError
from melascope.web import metrics, problems
from melascope.web.security import set_cookie
from melascope.web.settings import Settings, host_name
from melascope.web.uploads import Body, Buffers

_LOG = logging.getLogger("melascope.web")
_LINGER_S, _LINGER_BYTES = 2.0, 64 * 1024**2  # for a client that is still sending to read its refusal
_VISITOR_S = 24 * 3600
_PART_BYTES = 64 * 1024  # of an answer, as many as the server takes before it waits for the client
_OUTSIDE_BASE_PATH = frozenset({"/api/v1/health", "/api/v1/ready"})  # for who watches the process itself
_OF_PROXIES = re.compile("forwarded|via|x-real-ip|x-forwarded-.*")  # headers that they add

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "font-src 'self'",
        "connect-src 'self'",
        "media-src 'self' blob:",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
#: Of every answer.
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
}


class Edge:
    """The outermost middleware of ours."""

    def __init__(self, app: ASGIApp, *, settings: Settings, buffers: Buffers) -> None:
        self._app = app
        self._settings = settings
        self._buffers = buffers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no web sockets here
        began_s = time.perf_counter()
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = uuid.uuid4().hex
        headers = Headers(scope=scope)
        body = Body(receive, declared=_declared(headers), settings=self._settings, buffers=self._buffers)
        state["body"] = body
        method = scope["method"]
        if method == "HEAD":
            # Whatever answers GET answers it; the server, which keeps its own scope, sends no body.
            scope = {**scope, "method": "GET"}
        answer = _Answer(send, scope, body, self._settings, self._buffers)
        with ExitStack() as until_answered, metrics.in_flight():
            state["until_answered"] = until_answered
            until_answered.callback(body.free)
            try:
                await self._answer(scope, headers, body, answer)
            finally:
                self._tell(method, scope, answer.status, time.perf_counter() - began_s)

    async def _answer(self, scope: Scope, headers: Headers, body: Body, answer: _Answer) -> None:
        request = Request(scope, body)
        try:
            self._enter(scope, headers)
            if scope["path"] == self._settings.base_path and scope["method"] == "GET":
                query = f"?{request.url.query}" if request.url.query else ""
                await RedirectResponse(f"{scope['path']}/{query}")(scope, body, answer)
            elif not self._is_ours(scope["path"]):
                missing = problems.of_status(404, problems.request_id(request))
                await problems.respond(request, missing)(scope, body, answer)
            else:
                await self._app(scope, body, answer)
        except ClientDisconnect:
            return  # told as 499
        except MelascopeError as error:
            problem = problems.problem_of(error, problems.request_id(request))
        except Exception as fault:  # noqa: BLE001 - the last resort: nothing may reach the client but a problem
            _LOG.error("fault", extra={"request_id": problems.request_id(request), "fault": _frames(fault)})
            problem = problems.of_status(500, problems.request_id(request))
        else:
            return
        if answer.status is None:
            await problems.respond(request, problem)(scope, body, answer)

    def _enter(self, scope: Scope, headers: Headers) -> None:
        """Whether the request is meant for this server, and where the application lies in its paths."""
        hosts = headers.getlist("host")
        host = host_name(hosts[0]) if len(hosts) == 1 else None
        if host is None or (self._settings.hosts and host not in self._settings.hosts):
            raise RequestError(
                "This server does not go by the name that the request states as its host.",
                remedy="Use the address that the server was started with, or allow the name: --allowed-hosts.",
            )
        by_proxy = next(filter(_OF_PROXIES.fullmatch, headers), None)
        if by_proxy is not None and not self._settings.authenticates:
            raise ForbiddenError(
                f"By its header {by_proxy[:100]!r} the request came through a proxy, and nobody has to sign in here.",
                remedy="Whoever runs this server adds users or tokens (`melascope serve --new-user NAME`) and names "
                "the proxy in trusted_proxies.",
            )
        if "transfer-encoding" in headers and "content-length" in headers:
            raise RequestError(  # RFC 9112, 6.1: a proxy before us may have taken the other for true
                "The request states its length in two ways.",
                remedy="State Content-Length or Transfer-Encoding.",
            )
        if scope["path"].startswith(f"{self._settings.base_path}/"):
            scope["root_path"] = self._settings.base_path

    def _is_ours(self, path: str) -> bool:
        """Whether a path lies where the application does, or is one by which its process is watched."""
        return path.startswith(f"{self._settings.base_path}/") or path in _OUTSIDE_BASE_PATH

    def _tell(self, method: str, scope: Scope, status: int | None, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "none"
        metrics.count_request(method, route, status or 499, seconds)
        _LOG.info(
            "request",
            extra={
                "request_id": scope["state"]["request_id"],
                "method": method,
                "route": route,
                "status": status or 499,  # 499: the client went before it was answered
                "ms": round(seconds * 1000, 1),
            },
        )


class TrustedWord:
    """Leaves of X-Forwarded-For what follows the last entry that is no address: before it, anybody may have written."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            said = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
            entries = [entry.strip() for entry in b",".join(said).decode("latin-1").split(",")]
            believed = ", ".join(reversed([*takewhile(bool, map(_address, reversed(entries)))]))
            headers = [pair for pair in scope["headers"] if pair[0] != b"x-forwarded-for"]
            if believed:
                headers.append((b"x-forwarded-for", believed.encode()))
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, send)


class _Answer:
    """An ASGI `send` that adds the headers that every answer has, and counts what the client has not read yet."""

    def __init__(self, send: Send, scope: Scope, body: Body, settings: Settings, buffers: Buffers) -> None:
        self._send = send
        self._scope = scope
        self._body = body
        self._settings = settings
        self._buffers = buffers
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._add_headers(MutableHeaders(scope=message))
            await self._send(message)
        elif self._body.complete or message.get("more_body", False):
            await self._send_in_parts(message)
        else:
            await self._send_in_parts({**message, "more_body": True})
            await self._body.discard(seconds=_LINGER_S, most_bytes=_LINGER_BYTES)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_in_parts(self, message: Message) -> None:
        """A part of the body goes when those before it have; the request is under way, and counted, until then."""
        body: bytes = message.get("body", b"")
        self._buffers.take(len(body), client=self._body.client)
        try:
            for start in range(0, max(1, len(body)), _PART_BYTES):
                more = message.get("more_body", False) or start + _PART_BYTES < len(body)
                await self._send({**message, "body": body[start : start + _PART_BYTES], "more_body": more})
        finally:
            self._buffers.free(len(body), client=self._body.client)

    def _add_headers(self, headers: MutableHeaders) -> None:
        state = self._scope["state"]
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        if self._scope["scheme"] == "https":
            headers["Strict-Transport-Security"] = "max-age=31536000"
        headers["X-Request-Id"] = state["request_id"]
        headers.setdefault("Cache-Control", "no-store")
        if visitor := state.get("new_visitor"):
            headers.append("Set-Cookie", set_cookie(self._settings, "visitor", visitor, max_age_s=_VISITOR_S))
        if not self._body.complete:
            headers["Connection"] = "close"


def _declared(headers: Headers) -> int | None:
    """Bytes of the body as the head states them; None where it does not."""
    if "transfer-encoding" in headers:
        return None
    length = headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() else None


def _address(entry: str) -> str:
    """Of an entry of X-Forwarded-For, without its port; empty where it is none."""
    host = host_name(entry) if entry.startswith("[") or entry.count(":") == 1 else entry
    try:
        return str(ipaddress.ip_address(host or ""))
    except ValueError:
        return ""


def _frames(fault: BaseException) -> list[str]:
    """Where it happened, without what it says: messages may hold names of files."""
    frames = traceback.extract_tb(fault.__traceback__)
    return [
        type(fault).__name__,
        *(f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in frames[-12:]),
    ]
