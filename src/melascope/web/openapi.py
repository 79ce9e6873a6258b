"""How the API describes itself: OpenAPI 3.1, with what FastAPI cannot see because routes read their own bodies."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from melascope.web.problems import MEDIA_TYPE

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "description": "Leads to the list of all problems."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "The item and the value found."},
        "code": {"type": "string", "description": "Stable; see /api/v1/problems."},
        "remedy": {"type": "string", "description": "What to do about it."},
        "request_id": {"type": "string", "description": "By which the server's log knows the request."},
    },
    "examples": [
        {
            "type": "/api/v1/problems#image-truncated",
            "title": "Unprocessable Content",
            "status": 422,
            "detail": "lesion.jpg: the JPEG data is damaged or ends early.",
            "code": "image-truncated",
            "remedy": "Copy the file again, or save it anew.",
        }
    ],
}
_BINARY = {"type": "string", "format": "binary"}
_FILE = {
    "type": "object",
    "required": ["image"],
    "properties": {"image": _BINARY},
}
_FILES = {
    "type": "object",
    "required": ["image"],
    "properties": {"image": {"type": "array", "items": _BINARY, "minItems": 1}},
}
#: What may befall a request with a body, and one without.
_OF_UPLOADS = (400, 401, 403, 408, 413, 415, 422, 429, 503)
_OF_ALL = (400, 401, 403)


def assess_one(answer: type) -> dict[str, Any]:
    """Of a route that takes one image, bare or in a form."""
    content = {
        "application/octet-stream": {"schema": _BINARY},
        "image/*": {"schema": _BINARY},
        "multipart/form-data": {"schema": _FILE},
    }
    return _taking(content, answer)


def assess_files(answer: type) -> dict[str, Any]:
    """Of a route that takes the files of a form."""
    return _taking({"multipart/form-data": {"schema": _FILES}}, answer)


def plain(description: str, media_type: str, *problems: int) -> dict[str, Any]:
    """Of a route that takes nothing."""
    content = (
        {media_type: {}} if media_type != "application/json" else {media_type: {"schema": {"type": "object"}}}
    )
    return {
        "response_model": None,
        "responses": {
            200: {"description": description, "content": content},
            **_problems(*_OF_ALL, *problems),
        },
    }


def document(app: FastAPI, *, server: str) -> dict[str, Any]:
    """The whole description, for an application below the path `server`."""
    described = app.openapi()
    components = described.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = _PROBLEM
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        **described,
        "info": {
            **described["info"],
            "description": (
                "Finds melanoma in dermoscopic photographs. Decision support for trained readers; not a medical "
                "device. Nothing that is sent is stored."
            ),
        },
        "servers": [{"url": server or "/"}],
        "security": [{"token": []}, {}],
    }


def _taking(content: dict[str, Any], answer: type) -> dict[str, Any]:
    return {
        "response_model": None,
        "responses": {200: {"model": answer, "description": "The answer."}, **_problems(*_OF_UPLOADS)},
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}
