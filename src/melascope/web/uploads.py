"""What clients send, read into memory: bytes counted as they arrive, in time, never written to a disk."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.types import Message, Receive

from melascope.errors import (
    OverloadedError,
    RequestError,
    RequestTooLargeError,
    SlowRequestError,
    TooManyRequestsError,
)
from melascope.web.service import Upload
from melascope.web.settings import Settings

_MULTIPART, _URLENCODED = _FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_MOST_FIELDS = 32
_MOST_FIELD_BYTES = 4096
_MOST_NAME_CHARACTERS = 200
_LEAST_BYTES_PER_SECOND = 16 * 1024  # may be fallen behind by `body_seconds`, whatever came before
_MOST_IDLE_S = 10.0  # without a byte


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """A form as it was sent."""

    fields: dict[str, str] = field(default_factory=dict)
    files: Sequence[Upload] = ()  #: in their order, whatever their fields are called


class Buffers:
    """Bytes of request bodies that a process holds in memory.

    Parameters
    ----------
    most
        Of all clients together.
    most_of_client
        Of one of them, so that it leaves room for the others.
    """

    def __init__(self, most: int, *, most_of_client: int) -> None:
        self._most = most
        self._most_of_client = most_of_client
        self._held: Counter[str] = Counter()

    def has_room(self, count: int) -> bool:
        """Whether so many more can be held."""
        return self._held.total() + count <= self._most

    def hold(self, count: int, *, client: str) -> None:
        """Hold more of them.

        Raises
        ------
        TooManyRequestsError
            The client's part is taken.
        OverloadedError
            There is no room.
        """
        if self._held[client] + count > self._most_of_client:
            raise TooManyRequestsError(
                "Your other uploads take all the memory there is for one client.",
                remedy="Send it again when some of them are answered.",
            )
        if not self.has_room(count):
            raise OverloadedError(
                "Other uploads take all the memory there is for them.", remedy="Send it again in a moment."
            )
        self._held[client] += count

    def free(self, count: int, *, client: str) -> None:
        """Hold fewer."""
        self._held[client] -= count
        if not self._held[client]:
            del self._held[client]


class Body:
    """A request's body on its way in: an ASGI `receive` that keeps the limits.

    Attributes
    ----------
    max_bytes
        Of the body; a route may lower it before it reads.
    client
        On whose part of the memory it goes; stated before the first byte is read.
    complete
        Whether all of it has arrived.
    """

    def __init__(
        self, receive: Receive, *, declared: int | None, settings: Settings, buffers: Buffers
    ) -> None:
        self._receive = receive
        self._declared = declared
        self._seconds = settings.body_seconds
        self._buffers = buffers
        self._held = 0
        self._due_s: float | None = None
        self.client = ""
        self.max_bytes = settings.max_request_bytes
        self.complete = declared == 0

    async def __call__(self) -> Message:
        if self.complete:
            return await self._receive()  # for word that the client has gone
        if (self._declared or 0) > self.max_bytes:
            raise self._too_large()
        message = await self._in_time()
        if message["type"] == "http.request":
            chunk = len(message.get("body", b""))
            if self._held + chunk > self.max_bytes:
                raise self._too_large()
            self._buffers.hold(chunk, client=self.client)
            self._held += chunk
            self._due_s = (self._due_s or 0.0) + chunk / _LEAST_BYTES_PER_SECOND
            self.complete = not message.get("more_body", False)
        else:
            self.complete = True
        return message

    async def discard(self, *, seconds: float, most_bytes: int) -> None:
        """Read on and throw away, so that a client that is still sending gets to read why it was refused."""
        discarded = 0
        try:
            async with asyncio.timeout(seconds):
                while not self.complete and discarded < most_bytes:
                    message = await self._receive()
                    discarded += len(message.get("body", b""))
                    self.complete = message["type"] != "http.request" or not message.get("more_body", False)
        except TimeoutError:
            pass

    def free(self) -> None:
        """Give its memory back, when the request is answered."""
        self._buffers.free(self._held, client=self.client)
        self._held = 0

    async def _in_time(self) -> Message:
        now = asyncio.get_running_loop().time()
        latest_s = now + self._seconds  # what was sent fast buys no longer pause
        self._due_s = latest_s if self._due_s is None else min(self._due_s, latest_s)
        try:
            async with asyncio.timeout(min(self._due_s - now, _MOST_IDLE_S)):
                return await self._receive()
        except TimeoutError:
            raise SlowRequestError(
                f"{self._held} bytes of the request arrived, then no more in time.",
                remedy="Send it again over a faster connection.",
            ) from None

    def _too_large(self) -> RequestTooLargeError:
        return RequestTooLargeError(
            f"The request has more than {self.max_bytes} bytes.", remedy="Send fewer or smaller files."
        )


class _InMemory(MultiPartParser):
    spool_max_size = 0  # never to a temporary file


def has_form(request: Request) -> bool:
    """Whether the body says that it is a form."""
    return _kind(request) in _FORMS


async def read_form(request: Request) -> Form:
    """The form that a request carries, read once.

    Raises
    ------
    RequestTooLargeError
        More bytes, files or fields than the settings allow.
    SlowRequestError
        The body does not arrive in time.
    RequestError
        Neither `multipart/form-data` nor `application/x-www-form-urlencoded`, or not well formed.
    """
    known: Form | None = getattr(request.state, "form", None)
    if known is None:
        known = request.state.form = await _read_form(request)
    return known


async def read_raw(request: Request) -> bytes:
    """A body that is one image file and nothing else.

    Raises
    ------
    RequestTooLargeError, SlowRequestError
        As `read_form`.
    """
    settings: Settings = request.app.state.settings
    body: Body = request.state.body
    body.max_bytes = min(body.max_bytes, settings.max_image_bytes)
    return await request.body()


async def _read_form(request: Request) -> Form:
    settings: Settings = request.app.state.settings
    kind = _kind(request)
    parser: MultiPartParser | FormParser
    if kind == _MULTIPART:
        parser = _InMemory(
            request.headers,
            request.stream(),
            max_files=settings.max_images,
            max_fields=_MOST_FIELDS,
            max_part_size=_MOST_FIELD_BYTES,
        )
    elif kind == _URLENCODED:
        parser = FormParser(
            request.headers, request.stream(), max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD_BYTES
        )
    else:
        raise RequestError(f"The request is of type {kind or 'none'!r}.", remedy="Send multipart/form-data.")
    try:
        form = await parser.parse()
    except MultiPartException as fault:
        kind_of_fault = RequestTooLargeError if fault.message.startswith("Too many") else RequestError
        raise kind_of_fault(f"The form cannot be read: {fault.message}", remedy="Mend the form.") from None
    fields, files = {}, []
    for name, part in form.multi_items():
        if isinstance(part, UploadFile):
            files.append(Upload(name=clean_name(part.filename), data=part.file.read()))
            part.file.close()
        else:
            fields[name] = part
    return Form(fields=fields, files=files)


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def clean_name(name: str | None) -> str:
    """A file name for showing: its last part, printable, not too long; never a path to open."""
    last = PurePosixPath(PureWindowsPath(name or "").name).name
    shown = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in last
    )
    return shown[:_MOST_NAME_CHARACTERS] or "image"
