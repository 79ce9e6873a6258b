"""Who may do what: every route is denied unless it states its permission, and says so to `requires`.

A person signs in and has a session cookie, a program sends a bearer token. Browsers send cookies with requests that
other sites made, so that an unsafe request with a session also needs a token that only our own pages know, and any
unsafe request that a browser says comes from another site is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute

from melascope.errors import (
    ForbiddenError,
    MelascopeError,
    OverloadedError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from melascope.web import metrics
from melascope.web.sessions import Sessions, network_of
from melascope.web.settings import Settings, is_loopback
from melascope.web.uploads import has_form, read_form, read_raw

_LOG = logging.getLogger("melascope.web")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_FIELD, CSRF_HEADER = "csrf_token", "x-csrf-token"
_PUBLIC_BODY_BYTES, _PUBLIC_BODY_S = 16 * 1024, 3.0  # what somebody unknown may send, and take to send it
#: Requests with a body of all who are unknown, and of one of them, so that they leave connections for the others.
_MOST_OF_UNKNOWN, _MOST_OF_ONE_UNKNOWN = 64, 8


class Permission(StrEnum):
    """What a route needs of who calls it."""

    PUBLIC = "public"
    ASSESS = "assess"
    METRICS = "metrics"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who sent a request."""

    name: str | None  #: of the user or token; None: nobody, or anybody where nobody has to sign in
    by: Literal["nobody", "open", "session", "token"]
    permissions: frozenset[Permission]
    address: str  #: of the client, by a trusted proxy's word if there is one

    @property
    def share(self) -> str:
        """By what its share of the server is counted: as failures to sign in are, an address by its network."""
        return f"{self.by}:{self.name or network_of(self.address)}"


class Requires:
    """A route's statement of its permission; a dependency that holds it."""

    def __init__(self, permission: Permission, *, forms_age: bool = True) -> None:
        self.permission = permission
        self.forms_age = forms_age

    async def __call__(self, request: Request) -> Caller:
        caller = identify(request)
        if self.permission is not Permission.PUBLIC and self.permission not in caller.permissions:
            if caller.by == "nobody":
                raise UnauthenticatedError(
                    "Nobody is signed in.", remedy="Sign in, or send a bearer token that is known here."
                )
            raise ForbiddenError(
                f"{caller.name} may not do this.",
                remedy=f"It needs the permission {self.permission.value!r}.",
            )
        if request.method not in SAFE_METHODS:
            if self.permission is Permission.PUBLIC:
                request.state.body.max_bytes = _PUBLIC_BODY_BYTES
                request.state.body.max_seconds = _PUBLIC_BODY_S
            request.state.body.client = caller.share
            _take_share(request, caller)  # before a byte of the body is read
            await _refuse_forgery(request, caller, forms_age=self.forms_age)
        return caller


def requires(permission: Permission, *, forms_age: bool = True) -> Requires:
    """The dependency of a route: `dependencies=[Depends(requires(Permission.ASSESS))]`.

    Parameters
    ----------
    forms_age
        Whether a form of an earlier session is refused. Signing out works from any page of ours that is still open: a
        browser's word that the form is ours is enough.
    """
    return Requires(permission, forms_age=forms_age)


def identify(request: Request) -> Caller:
    """Who sent the request: by bearer token, by session, or anybody where nobody has to sign in."""
    known: Caller | None = getattr(request.state, "caller", None)
    if known is None:
        known = request.state.caller = _identify(request)
    return known


def csrf_token(request: Request) -> str:
    """What a form of ours must send back as `csrf_token` (or as the header X-CSRF-Token)."""
    settings: Settings = request.app.state.settings
    if not settings.authenticates:
        return ""
    secret = _cookie(request, "session" if identify(request).by == "session" else "visitor")
    if secret is None:
        secret = getattr(request.state, "new_visitor", None) or secrets.token_urlsafe(32)
        request.state.new_visitor = secret  # the edge sets the cookie
    return _token_of(request, secret)


def cookie_name(settings: Settings, kind: Literal["session", "visitor"]) -> str:
    """With the prefix by which browsers keep a cookie to this very host, where TLS allows it."""
    return f"{'__Host-' if settings.secure_cookies else ''}melascope-{kind}"


def set_cookie(settings: Settings, kind: Literal["session", "visitor"], value: str, *, max_age_s: int) -> str:
    """The value of a Set-Cookie header."""
    secure = "; Secure" if settings.secure_cookies else ""
    return (
        f"{cookie_name(settings, kind)}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}"
    )


async def sign_in(request: Request, name: str, password: str) -> str:
    """Check a name and password and start a session; returns the Set-Cookie header of the answer.

    Raises
    ------
    UnauthenticatedError
        They do not belong together; which of them is wrong is not told.
    TooManyRequestsError
        After too many failures for this name or from this address.
    OverloadedError
        The attempt cannot be written down; the password was not looked at.
    """
    settings: Settings = request.app.state.settings
    sessions: Sessions = request.app.state.sessions
    address = identify(request).address
    try:
        token = await sessions.sign_in(name, password, address=address)
    except MelascopeError as refused:
        _tell_refused("password", refused.code, address)
        raise
    return set_cookie(settings, "session", token, max_age_s=int(settings.session_hours * 3600))


def sign_out(request: Request) -> str:
    """End the session of this request, if there is one; returns the Set-Cookie header of the answer."""
    sessions: Sessions = request.app.state.sessions
    if token := _cookie(request, "session"):
        sessions.end(token)
    return set_cookie(request.app.state.settings, "session", "", max_age_s=0)


def digest_of(token: str) -> str:
    """What the settings keep of a bearer token: it is random, so that a plain hash hides it well enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def refuse_unstated(routers: Iterable[APIRouter]) -> None:
    """Default deny, checked when the application is made: a route without a stated permission stops it.

    Raises
    ------
    RuntimeError
        Such a route; it names it.
    """
    for router in routers:
        for route in router.routes:
            if permission_of(route) is None:
                raise RuntimeError(f"{getattr(route, 'path', route)} does not state its permission")


def permission_of(route: object) -> Permission | None:
    """The permission that a route states."""
    if not isinstance(route, APIRoute):
        return None
    stated = [d.call.permission for d in route.dependant.dependencies if isinstance(d.call, Requires)]
    return stated[0] if len(stated) == 1 else None


class Shares:
    """Counts what each client has under way, so that one of them leaves room for the others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: Counter[str] = Counter()
        self._unknown = 0

    def take(self, client: str, until: ExitStack, *, unknown: bool = False) -> None:
        """Take one of the client's places until the stack is closed, and one of those that all unknown clients share.

        Raises
        ------
        TooManyRequestsError
            All of the client's are taken.
        OverloadedError
            All of the unknown clients' are.
        """
        most = min(self._most, _MOST_OF_ONE_UNKNOWN) if unknown else self._most
        if self._under_way[client] >= most:
            raise TooManyRequestsError(
                f"{most} requests of yours are under way, as many as one client may have.",
                remedy="Send it again when some of them are answered.",
            )
        if unknown and self._unknown >= _MOST_OF_UNKNOWN:
            raise OverloadedError(
                f"{self._unknown} requests of clients that are not signed in are under way, as many as there may be.",
                remedy="Send it again in a moment.",
            )
        self._under_way[client] += 1
        self._unknown += unknown
        until.callback(self._give_back, client, unknown)

    def _give_back(self, client: str, unknown: bool) -> None:
        self._under_way[client] -= 1
        self._unknown -= unknown
        if not self._under_way[client]:
            del self._under_way[client]


def _identify(request: Request) -> Caller:
    settings: Settings = request.app.state.settings
    address = request.client.host if request.client else ""
    if not settings.authenticates:
        everything = frozenset(Permission)
        return Caller(name=None, by="open", permissions=everything, address=address)
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        digest = digest_of(credential.strip())
        for name, token in settings.tokens.items():
            if hmac.compare_digest(token.sha256, digest):
                may = frozenset({Permission.PUBLIC, *map(Permission, token.permissions)})
                return Caller(name=name, by="token", permissions=may, address=address)
        _tell_refused("token", UnauthenticatedError.code, address)
    elif cookie := _cookie(request, "session"):
        sessions: Sessions = request.app.state.sessions
        if (user := sessions.user_of(cookie)) is not None:
            may = frozenset({Permission.PUBLIC, Permission.ASSESS})
            return Caller(name=user, by="session", permissions=may, address=address)
    return Caller(name=None, by="nobody", permissions=frozenset({Permission.PUBLIC}), address=address)


def _tell_refused(credential: Literal["password", "token"], code: str, address: str) -> None:
    metrics.count_refused(credential, code)
    _LOG.warning("sign-in refused", extra={"code": code, "address": address})


async def _refuse_forgery(request: Request, caller: Caller, *, forms_age: bool) -> None:
    if caller.by == "token" or (not forms_age and request.headers.get("sec-fetch-site") == "same-origin"):
        return
    if not _from_ourselves(request):
        raise ForbiddenError(
            "The request comes from another site.", remedy="Use this server's own pages, or a bearer token."
        )
    if caller.by == "open":
        return
    secret = _cookie(request, "session" if caller.by == "session" else "visitor")
    sent = request.headers.get(CSRF_HEADER)
    if sent is None and has_form(request):
        if not request.headers["content-type"].lower().startswith("multipart/"):
            await read_raw(request)  # kept, for a route that takes such a body for an image
        sent = (await read_form(request)).fields.get(CSRF_FIELD)
    if secret is None and _keeps_no_cookies(request):
        raise ForbiddenError(
            "Signing in needs TLS: without it a browser keeps no cookie of this server.",
            remedy="Open the server by its https address; for a trial, whoever runs it sets insecure_cookies.",
        )
    if secret is None or not hmac.compare_digest(_token_of(request, secret).encode(), (sent or "").encode()):
        raise ForbiddenError(
            "The form is out of date.",
            remedy="Load the page again, with cookies allowed, and send it once more.",
        )


def _from_ourselves(request: Request) -> bool:
    """By what browsers say of where a request comes from; programs say nothing."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:  # an origin that is none
        return False


def _keeps_no_cookies(request: Request) -> bool:
    """Whether a browser that sent this drops our cookies: they are for TLS, and it asked without.

    Chromium and Firefox keep them even so under the names of loopback, whatever address that comes from.
    """
    settings: Settings = request.app.state.settings
    return (
        settings.secure_cookies
        and request.url.scheme == "http"
        and not is_loopback(request.url.hostname or "")
    )


def _take_share(request: Request, caller: Caller) -> None:
    shares: Shares = request.app.state.shares
    shares.take(caller.share, request.state.until_answered, unknown=caller.by == "nobody")


def _token_of(request: Request, secret: str) -> str:
    key: bytes = request.app.state.sessions.key
    return hmac.new(key, secret.encode(), hashlib.sha256).hexdigest()


def _cookie(request: Request, kind: Literal["session", "visitor"]) -> str | None:
    value: Any = request.cookies.get(cookie_name(request.app.state.settings, kind))
    return value or None
