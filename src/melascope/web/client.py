"""A client of the API for Python programs: typed answers, errors that say what to do, patience where it helps."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
from pydantic import ValidationError

from melascope.bundle.manifest import Manifest
from melascope.domain.assessment import Assessment
from melascope.errors import LaterError
from melascope.runtime.assessment_json import from_json, from_jsonable

Image = bytes | str | os.PathLike[str]  #: the content of a file, or its path

_LONGEST_WAIT_S = 30


class ServerError(LaterError):
    """What the server said went wrong.

    Attributes
    ----------
    problem
        The members of the RFC 9457 problem; empty where the answer was none.
    """

    code = "server"

    def __init__(
        self, message: str, *, problem: Mapping[str, Any], status: int, retry_after_s: int = 0
    ) -> None:
        super().__init__(message, remedy=problem.get("remedy"), retry_after_s=retry_after_s)
        self.problem = problem
        self.code = str(problem.get("code", "server"))
        self.http_status = status


class Client:
    """Asks a melascope server. Not safe to share between threads.

    Parameters
    ----------
    address
        Of the server, with its base path if it has one.
    token
        Bearer token, if the server wants one.
    timeout_s
        For each request.
    tries
        How often a request is sent that the server could not take just then (429, 503), with the waits that it
        asks for between them.
    transport
        For tests, or to go through a proxy; see httpx.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        timeout_s: float = 60,
        tries: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._tries = tries
        self._http = httpx.Client(
            base_url=f"{address.rstrip('/')}/api/v1/",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=timeout_s,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def assess(
        self,
        image: Image,
        *,
        operating_point: str | None = None,
        prevalence: float | None = None,
        heatmap: bool = False,
    ) -> Assessment:
        """Assess one image; the options are those of `Assessor.assess`, `prevalence` a fraction: 0.05 for 5 %.

        Raises
        ------
        ServerError
            The server refused, or cannot be reached.
        OSError
            The file cannot be read.
        """
        name, data = _file(image, 1)
        options = _options(operating_point, prevalence, heatmap)
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._ask("POST", "assess", params={**options, "name": name}, content=data, headers=headers)
        return from_json(answer.content)

    def assess_many(
        self,
        images: Sequence[Image],
        *,
        operating_point: str | None = None,
        prevalence: float | None = None,
        heatmap: bool = False,
    ) -> list[Assessment | ServerError]:
        """Assess images, each as a lesion of its own; what keeps one from an answer stands in its place.

        Raises
        ------
        ServerError, OSError
            As `assess`.
        """
        options = _options(operating_point, prevalence, heatmap)
        answer = self._ask("POST", "assess-many", params=options, files=_files(images))
        return [
            from_jsonable(result["assessment"])
            if result["assessment"] is not None
            else _error(result["problem"], int(result["problem"]["status"]))
            for result in answer.json()["results"]
        ]

    def assess_lesion(
        self,
        images: Sequence[Image],
        *,
        operating_point: str | None = None,
        prevalence: float | None = None,
        heatmap: bool = False,
    ) -> Assessment:
        """One answer for a lesion from its images.

        Raises
        ------
        ServerError, OSError
            As `assess`.
        """
        options = _options(operating_point, prevalence, heatmap)
        return from_json(self._ask("POST", "assess-lesion", params=options, files=_files(images)).content)

    def bundle(self) -> Manifest:
        """The manifest of the bundle that answers."""
        answer = self._ask("GET", "bundle")
        try:
            return Manifest.model_validate_json(answer.content)
        except ValidationError as fault:
            raise ServerError(
                "The server's bundle is of another version.", problem={}, status=answer.status_code
            ) from fault

    def card(self) -> str:
        """Its model card, Markdown."""
        return self._ask("GET", "bundle/card").text

    def version(self) -> str:
        """The server's version of melascope."""
        version: str = self._ask("GET", "version").json()["version"]
        return version

    def ready(self) -> bool:
        """Whether an image sent now would be accepted."""
        try:
            return self._http.get("ready").is_success
        except httpx.HTTPError:
            return False

    def _ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        for left in reversed(range(self._tries)):
            try:
                answer = self._http.request(method, path, **how)
            except httpx.HTTPError as fault:
                raise ServerError(
                    f"{self._http.base_url}{path}: no answer ({fault}).",
                    problem={"remedy": "Check the address, and that the server runs."},
                    status=503,
                ) from fault
            if answer.is_success:
                return answer
            error = _error(_problem(answer), answer.status_code, answer.headers.get("retry-after"))
            if not left or not 0 < error.retry_after_s <= _LONGEST_WAIT_S:
                raise error
            time.sleep(error.retry_after_s)
        raise AssertionError("tries is below 1")


def _options(operating_point: str | None, prevalence: float | None, heatmap: bool) -> dict[str, str]:
    stated = {
        "operating_point": operating_point,
        "prevalence": prevalence,
        "heatmap": "true" if heatmap else None,
    }
    return {name: str(value) for name, value in stated.items() if value is not None}


def _file(image: Image, number: int) -> tuple[str, bytes]:
    if isinstance(image, bytes):
        return f"image-{number}", image
    path = Path(image)
    return path.name, path.read_bytes()


def _files(images: Sequence[Image]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", _file(image, number)) for number, image in enumerate(images, 1)]


def _problem(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        members = answer.json()
    except ValueError:
        return {}
    return members if isinstance(members, dict) else {}


def _error(problem: Mapping[str, Any], status: int, retry_after: str | None = None) -> ServerError:
    detail = problem.get("detail", f"The server answered with the status {status}.")
    seconds = int(retry_after) if retry_after is not None and retry_after.isdigit() else 0
    return ServerError(str(detail), problem=problem, status=status, retry_after_s=seconds)
