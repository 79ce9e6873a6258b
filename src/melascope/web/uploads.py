"""What clients send, read into memory: bytes counted as they arrive, in time, never written to a disk."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.types import Message, Receive

from melascope.errors import (
    LaterError,
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


@dataclass(eq=False, slots=True)
class _InLine:
    client: str
    count: int
    turn: asyncio.Future[None]


class Buffers:
    """Bytes of request bodies, and of answers not yet read, that a process holds in memory.

    A body's room is taken before its first byte is read, so that two that began cannot keep each other from ending.
    Who finds none waits in line; room that comes free goes to the first in it for whom it is enough.

    Parameters
    ----------
    most
        Of all clients together.
    most_of_client
        Of one of them, so that it leaves room for the others.
    seconds
        How long one waits in line.
    """

    def __init__(self, most: int, *, most_of_client: int, seconds: float) -> None:
        self._most = most
        self._most_of_client = most_of_client
        self._seconds = seconds
        self._held: Counter[str] = Counter()
        self._line: list[_InLine] = []

    def has_room(self, count: int) -> bool:
        """Whether so many more can be held."""
        return self._held.total() + count <= self._most

    async def hold(self, count: int, *, client: str) -> None:
        """Hold more of them, when there is room.

        Raises
        ------
        TooManyRequestsError
            The client's part is still taken after the wait.
        OverloadedError
            There is still no room after it.
        """
        if self._fits(count, client):
            self._held[client] += count
            return
        place = _InLine(client, count, asyncio.get_running_loop().create_future())
        self._line.append(place)
        try:
            async with asyncio.timeout(self._seconds):
                await place.turn
        except TimeoutError:
            self._leave(place)
            raise self._no_room(count, client) from None
        except asyncio.CancelledError:
            self._leave(place)
            raise

    def take(self, count: int, *, client: str) -> None:
        """Hold more of them at once, of an answer that is there already: what comes next waits the longer for it."""
        self._held[client] += count

    def free(self, count: int, *, client: str) -> None:
        """Hold fewer."""
        self._held[client] -= count
        if not self._held[client]:
            del self._held[client]
        for place in [*self._line]:
            if not place.turn.done() and self._fits(place.count, place.client):
                self._line.remove(place)
                self._held[place.client] += place.count
                place.turn.set_result(None)

    def _fits(self, count: int, client: str) -> bool:
        return self._held[client] + count <= self._most_of_client and self.has_room(count)

    def _leave(self, place: _InLine) -> None:
        """Whether or not its turn came at the same moment."""
        if place in self._line:
            self._line.remove(place)
        else:
            self.free(place.count, client=place.client)

    def _no_room(self, count: int, client: str) -> LaterError:
        if self._held[client] + count > self._most_of_client:
            return TooManyRequestsError(
                "Your other uploads take all the memory there is for one client.",
                remedy="Send it again when some of them are answered.",
            )
        return OverloadedError(
            "Other uploads take all the memory there is for them.", remedy="Send it again in a moment."
        )


class Body:
    """A request's body on its way in: an ASGI `receive` that keeps the limits.

    Attributes
    ----------
    max_bytes
        Of the body; a route may lower it before it reads.
    max_seconds
        That it may take in all; a route may lower it too.
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
        self.max_seconds = settings.max_body_seconds
        self._buffers = buffers
        self._held = 0  # at first for what may come, in the end for what came
        self._arrived = 0
        self._due_s = self._latest_s = 0.0
        self.client = ""
        self.max_bytes = settings.max_request_bytes
        self.complete = declared == 0

    async def __call__(self) -> Message:
        if self.complete:
            return await self._receive()  # for word that the client has gone
        if not self._held:
            await self._begin()
        message = await self._in_time()
        if message["type"] == "http.request":
            chunk = len(message.get("body", b""))
            self._arrived += chunk
            if self._arrived > self.max_bytes:
                raise self._too_large()
            self._due_s += chunk / _LEAST_BYTES_PER_SECOND
            self.complete = not message.get("more_body", False)
        else:
            self.complete = True
        if self.complete:
            self._keep(self._arrived)
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
        self._keep(0)

    async def _begin(self) -> None:
        """Find room for all of it, then start the clock."""
        most = self.max_bytes if self._declared is None else self._declared
        if most > self.max_bytes:
            raise self._too_large()
        await self._buffers.hold(most, client=self.client)
        self._held = most
        now = asyncio.get_running_loop().time()
        self._due_s, self._latest_s = now + self._seconds, now + self.max_seconds

    def _keep(self, count: int) -> None:
        if self._held != count:
            self._buffers.free(self._held - count, client=self.client)
            self._held = count

    async def _in_time(self) -> Message:
        now = asyncio.get_running_loop().time()
        self._due_s = min(self._due_s, now + self._seconds)  # what was sent fast buys no longer pause
        try:
            async with asyncio.timeout(min(self._due_s - now, self._latest_s - now, _MOST_IDLE_S)):
                return await self._receive()
        except TimeoutError:
            raise SlowRequestError(
                f"Only {self._arrived} bytes of the request arrived in time.",
                remedy="Send it again over a faster connection.",
            ) from None

    def _too_large(self) -> RequestTooLargeError:
        return RequestTooLargeError(
            f"The request has more than {self.max_bytes} bytes.", remedy="Send fewer or smaller files."
        )


class _InMemory(MultiPartParser):
    spool_max_size = 0  # never to a temporary file
    _ended = False  # by its closing boundary

    def on_end(self) -> None:
        self._ended = True

    async def parse(self) -> FormData:
        self.stream = self._whole(self.stream)
        return await super().parse()

    async def _whole(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The stream, and a fault at its end if the form has none: the parser would just drop its last part."""
        async for chunk in stream:
            yield chunk
        if not self._ended:
            raise RequestError(
                "The form ends early: its closing boundary is missing.", remedy="Send it again, whole."
            )

    @property
    def _charset(self) -> str:
        """Of names and fields: RFC 7578 knows no other, and a client shall not choose among Python's codecs."""
        return "utf-8"

    @_charset.setter
    def _charset(self, stated: str) -> None:
        """What the client states is not heeded."""


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
        Neither `multipart/form-data` nor `application/x-www-form-urlencoded`, not well formed, cut off, or with a
        field stated twice.
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
    fields, files = [], []
    for name, part in form.multi_items():
        if isinstance(part, UploadFile):
            files.append(Upload(name=clean_name(_as_meant(part.filename)), data=part.file.read()))
            part.file.close()
        else:
            fields.append((name, part))
    for name, times in Counter(name for name, _ in fields).items():
        if times > 1:
            raise RequestError(f"The field {name[:100]!r} is stated {times} times.", remedy="State it once.")
    return Form(fields=dict(fields), files=files)


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _as_meant(name: str | None) -> str:
    """A file name of a form without the three escapes, and no others, that the HTML standard has browsers write."""
    return (name or "").replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def clean_name(name: str | None) -> str:
    """A file name for showing: its last part, printable, not too long; never a path to open."""
    last = PurePosixPath(PureWindowsPath(name or "").name).name
    shown = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in last
    )
    return shown[:_MOST_NAME_CHARACTERS] or "image"
