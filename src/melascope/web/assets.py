"""The static files of the pages, under a path that changes whenever one of them does."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

FOLDER: Final = Path(__file__).parent / "static"


def _digest() -> str:
    every = sha256()
    for file in sorted(FOLDER.iterdir()):
        every.update(f"{file.name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return every.hexdigest()[:12]


@cache
def path() -> str:
    """Where they lie: the digest is not in the query, so that what a script imports by a relative name carries it."""
    return f"/static/{_digest()}"


class Assets(StaticFiles):
    """What `path()` holds. Browsers keep it for good, and never mix the files of two versions."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whole files, whatever `Range` asks for: they are small."""
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """As the base class answers, to be kept."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["Accept-Ranges"] = "none"
        return response
