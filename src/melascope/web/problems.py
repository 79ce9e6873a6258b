"""RFC 9457 problems: the only shape in which the server says what went wrong; a page for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from melascope.errors import LaterError, MelascopeError
from melascope.web import metrics

MEDIA_TYPE = "application/problem+json"
API_PREFIX = "/api/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What went wrong with a request."""

    code: str  #: stable, machine-readable
    status: int
    title: str  #: the status in words
    detail: str  #: the item and the value found
    remedy: str | None = None
    request_id: str | None = None  #: that the log knows it by
    retry_after_s: int | None = None

    def as_json(self, base_path: str) -> dict[str, object]:
        """The members of the JSON object; `type` leads to the list of all problems."""
        members = {
            "type": f"{base_path}/api/v1/problems#{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "remedy": self.remedy,
            "request_id": self.request_id,
        }
        return {name: value for name, value in members.items() if value is not None}


def problem_of(error: MelascopeError, request_id: str | None = None) -> Problem:
    """The problem that an error of ours is."""
    return Problem(
        code=error.code,
        status=error.http_status,
        title=_title(error.http_status),
        detail=error.message,
        remedy=error.remedy,
        request_id=request_id,
        retry_after_s=error.retry_after_s if isinstance(error, LaterError) else None,
    )


def respond(request: Request, problem: Problem) -> Response:
    """The problem as the client wants it: a page where it accepts HTML outside the API, else JSON."""
    metrics.count_problem(problem.code)
    headers = {}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if _should_sign_in(request, problem):
        base, path = request.app.state.settings.base_path, request.scope["path"]
        back = "" if path == f"{base}/" else "?" + urlencode({"to": path})
        return RedirectResponse(f"{base}/login{back}", status_code=HTTPStatus.SEE_OTHER)
    page: Callable[[Request, Problem], Response] | None = getattr(request.app.state, "problem_page", None)
    if page is not None and _wants_html(request):
        response = page(request, problem)
        response.status_code = problem.status
        response.headers.update(headers)
        return response
    body = json.dumps(problem.as_json(request.app.state.settings.base_path), ensure_ascii=False)
    return Response(body, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    """Make problems of whatever a route raises."""

    @app.exception_handler(MelascopeError)
    async def of_melascope(request: Request, error: MelascopeError) -> Response:
        return respond(request, problem_of(error, request_id(request)))

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        response = respond(request, of_status(error.status_code, request_id(request)))
        response.headers.update(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods(request)):
            response.headers["Allow"] = ", ".join(methods)
        return response

    @app.exception_handler(RequestValidationError)
    async def of_validation(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        return respond(
            request,
            Problem(
                code="validation",
                status=HTTPStatus.UNPROCESSABLE_ENTITY,
                title=_title(HTTPStatus.UNPROCESSABLE_ENTITY),
                detail=f"{where}: {first['msg']}.",
                remedy="See /api/v1/openapi.json.",
                request_id=request_id(request),
            ),
        )


def of_status(status: int, request_id: str | None = None) -> Problem:
    """The problem of a bare HTTP status: no such page, a method that a page does not have, a fault of ours."""
    code, detail = _BARE.get(status, ("http", _title(status) + "."))
    return Problem(code=code, status=status, title=_title(status), detail=detail, request_id=request_id)


def catalogue() -> dict[str, dict[str, object]]:
    """Every code: its HTTP status and what it means."""
    listed: dict[str, dict[str, object]] = {
        code: {"status": status, "meaning": detail} for status, (code, detail) in _BARE.items()
    }
    listed["validation"] = {"status": 422, "meaning": "A parameter that does not keep to its description."}
    for kind in _kinds(MelascopeError):
        meaning = " ".join((kind.__doc__ or _title(kind.http_status)).split("\n\n")[0].split())
        listed.setdefault(kind.code, {"status": kind.http_status, "meaning": meaning})
    return dict(sorted(listed.items()))


def request_id(request: Request) -> str | None:
    """By which the log knows this request."""
    known: str | None = request.scope.get("state", {}).get("request_id")
    return known


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_BARE = {
    404: ("not-found", "There is nothing at this address."),
    405: ("method-not-allowed", "This address does not take that method."),
    500: ("internal", "The server made a mistake; its log has more under this request's id."),
}


def _kinds(kind: type[MelascopeError]) -> Iterator[type[MelascopeError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _methods(request: Request) -> list[str]:
    """That an address takes, of all its routes: Starlette names those of the first."""

    def takes(method: str) -> bool:
        scope = {**request.scope, "method": method}
        routes = (route for route in request.app.routes if not isinstance(route, Mount))
        return any(route.matches(scope)[0] is Match.FULL for route in routes)

    return [method for method in _METHODS if takes("GET" if method == "HEAD" else method)]


def _should_sign_in(request: Request, problem: Problem) -> bool:
    """Whether a person came to a page that needs a session."""
    return (
        problem.status == HTTPStatus.UNAUTHORIZED
        and request.method in {"GET", "HEAD"}
        and bool(request.app.state.settings.users)
        and _wants_html(request)
    )


def _wants_html(request: Request) -> bool:
    path = request.scope["path"].removeprefix(request.app.state.settings.base_path)
    return not path.startswith(API_PREFIX) and "text/html" in request.headers.get("accept", "")
