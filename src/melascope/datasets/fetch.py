"""Images of the ISIC archive through its public API, with their metadata, licences and attributions.

The API (https://api.isic-archive.com/api/v2/docs) lists images page by page: `images/search/` takes `query`,
`collections` and `limit` and answers `results`, `next` (the address of the next page) and, on the first page,
`count`. The address of an image's file is signed and soon expires, so each page is downloaded before the next
is asked for.

In the folder: the images; `SHA256SUMS`, one line a finished image, which `sha256sum --check` reads too;
`metadata.csv` and `attributions.csv`. Running the command again verifies what is there against `SHA256SUMS`,
continues files that were cut off, and fetches what is missing.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import httpx
from pydantic import BaseModel, Field, ValidationError

from melascope.datasets.sources.layout import IMAGE_ENDINGS
from melascope.errors import DatasetError
from melascope.writing import whole_file

ARCHIVE_URL = "https://api.isic-archive.com/api/v2/"
SUMS = "SHA256SUMS"
_T = TypeVar("_T")
_PAGE = 100  #: the most that the API gives at once
_ATTEMPTS = 6
_LONGEST_WAIT_S = 60.0
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


class RemoteFile(BaseModel):
    """Where a file lies and how long it is."""

    url: str = Field(pattern=r"^https?://")
    size: int = Field(gt=0)  #: bytes


class RemoteFiles(BaseModel):
    """The files of an image; only the full one is fetched."""

    full: RemoteFile


class RemoteImage(BaseModel):
    """What the API says of an image, as far as it is kept."""

    isic_id: str = Field(pattern=r"^ISIC_\d+$")
    copyright_license: str
    attribution: str
    files: RemoteFiles
    metadata: dict[str, dict[str, str | int | float | bool | None]]

    @property
    def file_name(self) -> str:
        """`isic_id` with the ending of the address, .jpg if that is none of an image."""
        ending = PurePosixPath(urlsplit(self.files.full.url).path).suffix.lower()
        return self.isic_id + (ending if ending in IMAGE_ENDINGS else ".jpg")


class Page(BaseModel):
    """One page of the listing."""

    results: list[RemoteImage]
    next: str | None = None
    count: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """What a run did."""

    listed: int
    downloaded: int
    verified: int  #: were there already, with the recorded checksum


def fetch_archive(
    folder: Path,
    *,
    query: str,
    collections: Sequence[int] = (),
    limit: int | None = None,
    base_url: str = ARCHIVE_URL,
    threads: int = 4,
    progress: Callable[[int, int], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Download the images that a search finds, or what of them is not there yet.

    Parameters
    ----------
    query
        In the archive's language, e.g. `image_type:dermoscopic AND diagnosis_3:"Nevus"`; empty for all.
    collections
        Numbers of the archive's collections; none for all.
    limit
        The most images to fetch.
    progress
        Called with (images done, images in all).
    sleep
        Waits that many seconds before another try.

    Raises
    ------
    DatasetError
        The archive refuses the search, cannot be reached, answers in another form, or some files failed in
        every try; what is complete stays, and running again continues.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with httpx.Client(timeout=30, follow_redirects=True, headers={"User-Agent": "melascope"}) as client:
        web = _Web(client, sleep)
        store = _Store(folder, web)
        listed: list[RemoteImage] = []
        failed: list[tuple[str, str]] = []
        params = {"query": query, "collections": ",".join(map(str, collections)), "limit": str(_PAGE)}
        with ThreadPoolExecutor(threads) as pool:
            search = urljoin(base_url.rstrip("/") + "/", "images/search/")
            for images, total in _pages(web, search, params, limit):
                for image, fault in zip(images, pool.map(store.bring, images), strict=True):
                    listed.append(image)
                    if fault is not None:
                        failed.append((image.isic_id, fault))
                    progress(len(listed), max(total, len(listed)))
    store.write_sums()
    _write_tables(folder, listed)
    if failed:
        few = "; ".join(f"{isic_id}: {fault}" for isic_id, fault in failed[:3])
        raise DatasetError(
            f"{len(failed)} of {len(listed)} images could not be fetched ({few}).",
            remedy="Run the command again: it continues where it stopped.",
        )
    return Fetched(listed=len(listed), downloaded=store.downloaded, verified=store.verified)


def _pages(
    web: _Web, url: str, params: Mapping[str, str], limit: int | None
) -> Iterator[tuple[list[RemoteImage], int]]:
    """Each page's images and how many there are in all."""
    left = limit
    total = 0
    following: str | None = str(httpx.URL(url, params=params))
    while following is not None and (left is None or left > 0):
        page = web.page(following)
        total = page.count if page.count is not None else total
        images = page.results if left is None else page.results[:left]
        if left is not None:
            left -= len(images)
        yield images, total if limit is None else min(total, limit)
        following = page.next


class _RefusedError(Exception):
    """An answer that another try will not better, or the last of many tries."""


@dataclass(slots=True)
class _Web:
    """Requests that are tried again, ever later, after a lost connection or a busy server."""

    client: httpx.Client
    sleep: Callable[[float], None]

    def page(self, url: str) -> Page:
        def get() -> Page:
            answer = self.client.get(url)
            _check(answer)
            return Page.model_validate_json(answer.content)

        try:
            return self.persist(get)
        except _RefusedError as fault:
            raise DatasetError(
                f"{url}: {fault}.", remedy="Check the search and the connection, or try later."
            ) from fault
        except ValidationError as fault:
            first = fault.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DatasetError(
                f"{url}: the answer is not of the archive's API ({place}: {first['msg']}).",
                remedy="Check the base address.",
            ) from fault

    def persist(self, attempt: Callable[[], _T]) -> _T:
        """The attempt's result; faults of the connection and `_BusyError` are tried again."""
        for tried in range(1, _ATTEMPTS + 1):
            try:
                return attempt()
            except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as fault:
                raise _RefusedError(str(fault)) from fault
            except (httpx.TransportError, _BusyError) as fault:
                if tried == _ATTEMPTS:
                    raise _RefusedError(f"{fault or type(fault).__name__} ({_ATTEMPTS} tries)") from fault
                asked = fault.wait_s if isinstance(fault, _BusyError) else None
                self.sleep(min(_LONGEST_WAIT_S, asked if asked is not None else 2.0 ** (tried - 1)))
        raise AssertionError("the last try returns or raises")


class _BusyError(Exception):
    """An answer after which another try may succeed."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def _check(answer: httpx.Response) -> None:
    if answer.status_code in _TRANSIENT:
        wait = answer.headers.get("Retry-After", "")
        raise _BusyError(
            f"the server answers {answer.status_code}", float(wait) if wait.isdecimal() else None
        )
    if answer.is_error:
        answer.read()
        raise _RefusedError(f"the server answers {answer.status_code}: {answer.text[:200].strip()}")


@dataclass(slots=True)
class _Store:
    """The folder of finished and unfinished files."""

    folder: Path
    web: _Web
    downloaded: int = 0
    verified: int = 0
    _sums: dict[str, str] = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._sums = _read_sums(self.folder / SUMS)

    def bring(self, image: RemoteImage) -> str | None:
        """Have the image's file, whole; the fault if that failed."""
        name, size = image.file_name, image.files.full.size
        file = self.folder / name
        if file.is_file() and file.stat().st_size == size and self._sums.get(name) == _sha256(file):
            with self._lock:
                self.verified += 1
            return None
        partial = self.folder / (name + ".partial")
        try:
            self.web.persist(lambda: self._download(image, partial))
            digest = _sha256(partial)
            os.replace(partial, file)
            with self._lock:
                self._sums[name] = digest
                self.downloaded += 1
                with (self.folder / SUMS).open("a", encoding="ascii") as sums:
                    sums.write(f"{digest}  {name}\n")
        except (_RefusedError, OSError) as fault:
            return str(fault)
        return None

    def _download(self, image: RemoteImage, partial: Path) -> None:
        """Fetch the rest of the file; what has come stays if the connection breaks."""
        size = image.files.full.size
        have = partial.stat().st_size if partial.exists() else 0
        if have == size:
            return
        if have > size:
            partial.unlink()
            have = 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with self.web.client.stream("GET", image.files.full.url, headers=headers) as answer:
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                partial.unlink()
                raise _BusyError("the rest of the file is refused")
            _check(answer)
            resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
            if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                partial.unlink()
                raise _BusyError("another part of the file came than was asked for")
            with partial.open("ab" if resumed else "wb") as out:
                for chunk in answer.iter_bytes():
                    out.write(chunk)
                    if out.tell() > size:
                        break
        came = partial.stat().st_size
        if came != size:
            if came > size:
                partial.unlink()
            raise _BusyError(f"{came} bytes came, {size} are announced")

    def write_sums(self) -> None:
        """One line a file, sorted, instead of the lines as they came."""
        with whole_file(self.folder / SUMS) as file:
            file.writelines(f"{digest}  {name}\n" for name, digest in sorted(self._sums.items()))


def _read_sums(file: Path) -> dict[str, str]:
    """Name -> digest; a line cut off by an interruption is skipped, later lines win."""
    if not file.exists():
        return {}
    lines = (re.fullmatch(r"([0-9a-f]{64})  (\S+)", line) for line in file.read_text("ascii").splitlines())
    return {match[2]: match[1] for match in lines if match}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_tables(folder: Path, images: Sequence[RemoteImage]) -> None:
    ours = ["isic_id", "copyright_license", "attribution"]
    rows = [
        {
            name: value
            for section in image.metadata.values()
            for name, value in section.items()
            if value is not None
        }
        for image in images
    ]
    columns = [*ours, *sorted({"diagnosis_1", *(name for row in rows for name in row)} - set(ours))]
    about = [{name: getattr(image, name) for name in ours} for image in images]
    _write_csv(folder / "attributions.csv", ours, about)
    _write_csv(folder / "metadata.csv", columns, [row | own for row, own in zip(rows, about, strict=True)])


def _write_csv(file: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    with whole_file(file) as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
