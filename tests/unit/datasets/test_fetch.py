"""Fetching from a local server that speaks the archive's API and fails in the ways real ones do."""

from __future__ import annotations

import csv
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from melascope.datasets.fetch import SUMS, fetch_archive
from melascope.datasets.sources import read_source
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import DatasetError

PAGE = 3


class Archive(ThreadingHTTPServer):
    """Seven images in pages of three; `trouble` maps a path to functions that each answer once."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.images = {f"ISIC_{n:07}": bytes([n]) * (5000 + n) for n in range(7)}
        self.trouble: dict[str, list[Callable[[_Handler], None]]] = {}
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.queries: list[dict[str, list[str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/v2/"

    def record(self, isic_id: str) -> dict[str, Any]:
        melanoma = isic_id.endswith("1")
        terms = ["Malignant", "Malignant melanocytic proliferations (Melanoma)"] if melanoma else ["Benign"]
        clinical = {f"diagnosis_{level}": term for level, term in enumerate(terms, start=1)}
        return {
            "isic_id": isic_id,
            "copyright_license": "CC-BY",
            "attribution": "Hospital A, Department of Skin",
            "public": True,
            "files": {
                "full": {
                    "url": f"http://127.0.0.1:{self.server_port}/files/{isic_id}.JPG?signature=x",
                    "size": len(self.images[isic_id]),
                },
                "thumbnail_256": {"url": "http://127.0.0.1/none", "size": 1},
            },
            "metadata": {"acquisition": {"pixels_x": 10, "image_type": "dermoscopic"}, "clinical": clinical},
        }


class _Handler(BaseHTTPRequestHandler):
    server: Archive

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.asked[parts.path] += 1
        if self.server.trouble.get(parts.path):
            self.server.trouble[parts.path].pop(0)(self)
        elif parts.path == "/api/v2/images/search/":
            self.listing(parse_qs(parts.query, keep_blank_values=True))
        elif parts.path.startswith("/files/"):
            self.file(parts.path.removeprefix("/files/").removesuffix(".JPG"))
        else:
            self.answer(404, b"{}")

    def listing(self, query: dict[str, list[str]]) -> None:
        self.server.queries.append(query)
        start = int(query.get("cursor", ["0"])[0])
        ids = sorted(self.server.images)
        following = (
            f"{self.server.url}images/search/?cursor={start + PAGE}" if start + PAGE < len(ids) else None
        )
        page = {
            "results": [self.server.record(isic_id) for isic_id in ids[start : start + PAGE]],
            "count": len(ids) if start == 0 else None,
            "next": following,
            "previous": None,
        }
        self.answer(200, json.dumps(page).encode())

    def file(self, isic_id: str) -> None:
        data = self.server.images[isic_id]
        asked = self.headers.get("Range")
        if asked is None:
            self.answer(200, data)
            return
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.answer(206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def archive() -> Iterator[Archive]:
    server = Archive()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(archive: Archive, folder: Path, **options: Any) -> tuple[tuple[int, int, int], list[float]]:
    waits: list[float] = []
    options = {"query": "", "base_url": archive.url, "sleep": waits.append, **options}
    done = fetch_archive(folder, progress=lambda _done, _total: None, **options)
    return (done.listed, done.downloaded, done.verified), waits


def cut_off(handler: _Handler) -> None:
    """Announce the whole file, send 2,000 bytes, hang up."""
    data = handler.server.images[handler.path.split("/")[-1].split(".")[0]]
    handler.answer(200, data, cut=2000)
    handler.close_connection = True


def busy(status: int, **headers: str) -> Callable[[_Handler], None]:
    return lambda handler: handler.answer(status, b"", {k.replace("_", "-"): v for k, v in headers.items()})


def test_every_page_arrives_with_licences_and_can_be_imported(archive: Archive, tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    fetch_archive(
        tmp_path,
        query='diagnosis_3:"Nevus"',
        collections=[65, 66],
        base_url=archive.url.rstrip("/"),
        progress=lambda *at: progress.append(at),
    )
    assert progress[-1] == (7, 7)
    assert archive.queries[0] == {
        "query": ['diagnosis_3:"Nevus"'],
        "collections": ["65,66"],
        "limit": ["100"],
    }
    for isic_id, data in archive.images.items():
        assert (tmp_path / f"{isic_id}.jpg").read_bytes() == data
    rows = list(csv.DictReader((tmp_path / "attributions.csv").read_text().splitlines()))
    assert rows[0] == {
        "isic_id": "ISIC_0000000",
        "copyright_license": "CC-BY",
        "attribution": "Hospital A, Department of Skin",
    }
    cases = read_source("isic-archive", tmp_path)
    assert [case.diagnosis for case in cases].count(Diagnosis.MEL) == 1
    assert not list(tmp_path.glob("*.partial"))


def test_the_sums_are_those_that_sha256sum_checks(archive: Archive, tmp_path: Path) -> None:
    fetch(archive, tmp_path)
    lines = (tmp_path / SUMS).read_text().splitlines()
    assert lines == sorted(
        (f"{hashlib.sha256(data).hexdigest()}  {isic_id}.jpg" for isic_id, data in archive.images.items()),
        key=lambda line: line[66:],
    )


def test_a_second_run_verifies_and_mends(archive: Archive, tmp_path: Path) -> None:
    assert fetch(archive, tmp_path)[0] == (7, 7, 0)
    assert fetch(archive, tmp_path)[0] == (7, 0, 7)
    harmed = tmp_path / "ISIC_0000003.jpg"
    harmed.write_bytes(b"\xff" * harmed.stat().st_size)
    (tmp_path / "ISIC_0000004.jpg").unlink()
    assert fetch(archive, tmp_path)[0] == (7, 2, 5)
    assert harmed.read_bytes() == archive.images["ISIC_0000003"]


def test_a_broken_connection_is_resumed_where_it_broke(archive: Archive, tmp_path: Path) -> None:
    archive.trouble["/files/ISIC_0000002.JPG"] = [cut_off]
    done, waits = fetch(archive, tmp_path)
    assert done == (7, 7, 0)
    assert waits == [1.0]
    assert archive.ranges == ["bytes=2000-"]
    assert (tmp_path / "ISIC_0000002.jpg").read_bytes() == archive.images["ISIC_0000002"]


def test_an_interrupted_run_is_resumed_by_the_next(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "ISIC_0000005.jpg.partial").write_bytes(archive.images["ISIC_0000005"][:4321])
    (tmp_path / "ISIC_0000006.jpg.partial").write_bytes(archive.images["ISIC_0000006"] + b"too long")
    (tmp_path / SUMS).write_text("0123abc")  # a line cut off
    assert fetch(archive, tmp_path)[0] == (7, 7, 0)
    assert archive.ranges == ["bytes=4321-"]
    for isic_id in ("ISIC_0000005", "ISIC_0000006"):
        assert (tmp_path / f"{isic_id}.jpg").read_bytes() == archive.images[isic_id]


def test_busy_servers_are_asked_again_ever_later_or_when_they_say(archive: Archive, tmp_path: Path) -> None:
    archive.trouble["/api/v2/images/search/"] = [busy(503), busy(502), busy(429, Retry_After="7")]
    archive.trouble["/files/ISIC_0000000.JPG"] = [busy(500)]
    done, waits = fetch(archive, tmp_path)
    assert done == (7, 7, 0)
    assert waits == [1.0, 2.0, 7.0, 1.0]


def test_a_server_that_ignores_ranges_sends_the_whole(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "ISIC_0000001.jpg.partial").write_bytes(b"x" * 100)
    archive.trouble["/files/ISIC_0000001.JPG"] = [
        lambda handler: handler.answer(200, archive.images["ISIC_0000001"])
    ]
    fetch(archive, tmp_path)
    assert (tmp_path / "ISIC_0000001.jpg").read_bytes() == archive.images["ISIC_0000001"]


@pytest.mark.parametrize(
    "wrong",
    [
        busy(416),
        lambda handler: handler.answer(206, b"abc", {"Content-Range": "bytes 7-9/10"}),
        lambda handler: handler.answer(200, b"x" * 9000),
    ],
    ids=["range refused", "another range", "too long"],
)
def test_wrong_answers_start_the_file_anew(
    archive: Archive, tmp_path: Path, wrong: Callable[[_Handler], None]
) -> None:
    (tmp_path / "ISIC_0000001.jpg.partial").write_bytes(b"x" * 100)
    archive.trouble["/files/ISIC_0000001.JPG"] = [wrong]
    fetch(archive, tmp_path)
    assert (tmp_path / "ISIC_0000001.jpg").read_bytes() == archive.images["ISIC_0000001"]


def test_what_cannot_be_had_is_named_and_the_rest_is_kept(archive: Archive, tmp_path: Path) -> None:
    archive.trouble["/files/ISIC_0000002.JPG"] = [busy(403)]
    archive.trouble["/files/ISIC_0000004.JPG"] = [busy(500)] * 6
    with pytest.raises(
        DatasetError, match=r"2 of 7 images could not be fetched .*ISIC_0000002: the server answers 403"
    ):
        fetch(archive, tmp_path)
    assert archive.asked["/files/ISIC_0000002.JPG"] == 1
    assert archive.asked["/files/ISIC_0000004.JPG"] == 6
    assert fetch(archive, tmp_path)[0] == (7, 2, 5)


def test_a_limit_asks_for_no_more(archive: Archive, tmp_path: Path) -> None:
    assert fetch(archive, tmp_path, limit=4)[0] == (4, 4, 0)
    assert len(list(tmp_path.glob("*.jpg"))) == 4
    assert len(archive.queries) == 2


def test_a_refused_search_is_told_in_the_servers_words(archive: Archive, tmp_path: Path) -> None:
    archive.trouble["/api/v2/images/search/"] = [
        lambda handler: handler.answer(400, b'{"message": "Couldn\'t parse search query."}')
    ]
    with pytest.raises(DatasetError, match=r"answers 400: .*Couldn't parse search query"):
        fetch(archive, tmp_path)


@pytest.mark.parametrize(
    "harm",
    [
        {"isic_id": "../../ISIC_1"},
        {"files": {"full": {"url": "file:///etc/passwd", "size": 5}}},
        {"files": {"full": {"url": "http://127.0.0.1/x.jpg", "size": 0}}},
        {"attribution": None},
    ],
)
def test_answers_of_another_form_are_refused(archive: Archive, tmp_path: Path, harm: dict[str, Any]) -> None:
    body = json.dumps({"results": [archive.record("ISIC_0000000") | harm], "next": None}).encode()
    archive.trouble["/api/v2/images/search/"] = [lambda handler: handler.answer(200, body)]
    with pytest.raises(DatasetError, match="not of the archive's API"):
        fetch(archive, tmp_path)
    assert not list(tmp_path.glob("*.jpg"))


def test_nobody_listens(tmp_path: Path) -> None:
    waits: list[float] = []
    with pytest.raises(DatasetError, match="6 tries"):
        fetch_archive(
            tmp_path, query="", base_url="http://127.0.0.1:9/", progress=lambda *_: None, sleep=waits.append
        )
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]
    with pytest.raises(DatasetError, match=r"protocol|scheme"):
        fetch_archive(tmp_path, query="", base_url="ftp://x/", progress=lambda *_: None, sleep=waits.append)
