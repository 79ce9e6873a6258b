"""A real server: slow, broken and hostile clients, and what becomes of the others meanwhile."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from contextlib import suppress

import httpx
import malformed
import pytest
from live_server import LiveServer, read_answer

from melascope.web import edge

API = "/api/v1"
HEAD = "POST /api/v1/assess HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def code_of(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["code"]


def accepted(connection: socket.socket, data: bytes) -> bool:
    """Send; False once the other side has closed."""
    try:
        connection.sendall(data)
    except OSError:
        return False
    return True


def still_answers(live: LiveServer, jpeg: bytes) -> None:
    answer = httpx.post(f"{live.address}{API}/assess", content=jpeg, timeout=20)
    assert answer.status_code == 200


@pytest.fixture(autouse=True)
def _goes_on(live: LiveServer, jpeg: bytes):
    """After each test the server answers, holds no memory of the test's, and wrote nothing down."""
    yield
    still_answers(live, jpeg)
    assert not [
        file for file in live.temporary.rglob("*") if file.is_file() and file.stat().st_size > 100_000
    ]


# --- too much ------------------------------------------------------------------------------------------------


def test_a_declared_length_beyond_the_limit_is_refused_before_it_is_sent(live: LiveServer) -> None:
    with live.connect() as connection:
        connection.sendall(f"{HEAD}Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n".encode())
        answer = read_answer(connection)
    assert status_of(answer) == 413
    assert code_of(answer) == "request-too-large"
    assert b"100 Continue" not in answer


def test_who_sends_on_still_gets_to_read_why_it_was_refused(live: LiveServer) -> None:
    answer = httpx.post(f"{live.address}{API}/assess", content=bytes(30_000_000), timeout=20)
    assert (answer.status_code, answer.json()["code"]) == (413, "request-too-large")
    files = [("image", ("a.jpg", bytes(3_000_000)))] * 4
    answer = httpx.post(f"{live.address}{API}/assess-many", files=files, timeout=20)
    assert (answer.status_code, answer.json()["code"]) == (413, "request-too-large")


def test_an_endless_upload_ends(live: LiveServer) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with live.connect() as connection:
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        sent = 0
        while sent < 1 << 30 and accepted(connection, chunk):
            sent += len(chunk)
        assert sent < 1 << 29


# --- too slow --------------------------------------------------------------------------------------------------


def test_a_body_that_stops_coming_is_given_up(live: LiveServer) -> None:
    with live.connect() as connection:
        began = time.monotonic()
        connection.sendall(f"{HEAD}Content-Length: 5000\r\n\r\n".encode() + bytes(1000))
        answer = read_answer(connection)
    assert (status_of(answer), code_of(answer)) == (408, "request-too-slow")
    assert time.monotonic() - began < 10


def test_a_body_that_trickles_is_given_up(live: LiveServer) -> None:
    with live.connect() as connection:
        connection.sendall(f"{HEAD}Content-Length: 100000\r\n\r\n".encode())
        began = time.monotonic()
        while time.monotonic() - began < 30 and accepted(connection, b"x" * 10):
            time.sleep(0.05)
        assert time.monotonic() - began < 10


def test_what_was_sent_fast_buys_no_long_pause(live: LiveServer) -> None:
    with live.connect() as connection:
        connection.sendall(f"{HEAD}Content-Length: 1900000\r\n\r\n".encode() + bytes(1_800_000))
        began = time.monotonic()
        assert status_of(read_answer(connection)) == 408
        assert time.monotonic() - began < 10


def test_a_head_that_trickles_is_given_up(live: LiveServer) -> None:
    with live.connect() as connection:
        began = time.monotonic()
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert read_answer(connection) == b""
        assert 5 < time.monotonic() - began < 15


# --- broken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    ],
)
def test_what_is_no_request_gets_a_problem(live: LiveServer, sent: bytes) -> None:
    with live.connect() as connection:
        connection.sendall(sent)
        with suppress(OSError):  # the server may have answered and gone already
            connection.shutdown(socket.SHUT_WR)
        answer = read_answer(connection)
    assert status_of(answer) == 400
    assert code_of(answer) in {"not-http", "request"}
    head = answer.partition(b"\r\n\r\n")[0].decode().lower()
    for name, value in edge.HEADERS.items():
        assert f"{name}: {value}".lower() in head
    assert "cache-control: no-store" in head


def test_who_has_said_all_may_close_its_half(live: LiveServer, jpeg: bytes) -> None:
    with live.connect() as connection:
        connection.sendall(f"{HEAD}Content-Length: {len(jpeg)}\r\n\r\n".encode() + jpeg)
        connection.shutdown(socket.SHUT_WR)
        answer = read_answer(connection)
    assert status_of(answer) == 200
    assert b"melanoma_probability" in answer


def test_clients_that_go_in_the_middle_leave_nothing_behind(live: LiveServer, jpeg: bytes) -> None:
    request = f"{HEAD}Content-Length: {len(jpeg)}\r\n\r\n".encode() + jpeg
    rng = random.Random(3)
    for _ in range(60):
        with live.connect() as connection:
            connection.sendall(request[: rng.randrange(1, len(request) + 1)])
    deadline = time.monotonic() + 20
    while "melascope_requests_in_flight 1.0" not in (text := httpx.get(f"{live.address}/metrics").text):
        assert time.monotonic() < deadline, text
        time.sleep(0.1)


# --- hostile ---------------------------------------------------------------------------------------------------


def test_bombs_are_refused(live: LiveServer) -> None:
    with httpx.Client(base_url=live.address, timeout=60) as client:
        for name, data in malformed.bombs().items():
            answer = client.post(f"{API}/assess", content=data, params={"name": name})
            assert answer.status_code in {200, 413, 415, 422}, (name, answer.text)
            assert answer.status_code == 200 or answer.json()["code"]


def test_fuzzed_forms_get_an_answer_or_a_clear_refusal(live: LiveServer, jpeg: bytes) -> None:
    rng = random.Random(7)
    part = (
        b'--bound\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + jpeg + b"\r\n"
    )
    form = part * 2 + b"--bound--\r\n"
    splices = [
        b"--bound",
        b"\r\n",
        b"\r\n\r\n",
        b"--",
        b"\x00",
        b'"',
        b"filename*=utf-8''%ff",
        b"\xff" * 9000,
    ]
    with httpx.Client(base_url=live.address, timeout=60) as client:
        for _ in range(150):
            data = bytearray(form)
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(data))
                match rng.randrange(4):
                    case 0:
                        del data[at : at + rng.randrange(1, 400)]
                    case 1:
                        data[at:at] = rng.choice(splices)
                    case 2:
                        data[at] ^= 1 << rng.randrange(8)
                    case _:
                        del data[at:]
                if not data:
                    data = bytearray(b"-")
            answer = client.post(
                f"{API}/assess-many",
                content=bytes(data),
                headers={"Content-Type": "multipart/form-data; boundary=bound"},
            )
            assert answer.status_code in {200, 400, 413, 422}, answer.text


def test_an_answer_does_not_wait_for_an_acknowledgement_of_its_head(live: LiveServer) -> None:
    """Head and body leave in two packets; without TCP_NODELAY the second waits 40 ms for the client's word."""
    url = httpx.URL(live.address)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=20)
    seconds = []
    for _ in range(40):
        began = time.perf_counter()
        connection.request("GET", f"{API}/schema/assessment")
        connection.getresponse().read()
        seconds.append(time.perf_counter() - began)
    connection.close()
    assert sorted(seconds[20:])[5] < 0.03  # a busy machine adds to some, the wait to all


@pytest.mark.parametrize(
    "boundary", ["", ";boundary=", ";boundary=" + "x" * 300, ";boundary=\xff", "; boundary=a b"]
)
def test_strange_boundaries(live: LiveServer, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}".encode("latin-1")}
    answer = httpx.post(f"{live.address}{API}/assess-many", content=b"--x\r\n\r\n--x--", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "request")


def test_the_log_names_no_file_and_no_person(live: LiveServer, jpeg: bytes) -> None:
    httpx.post(f"{live.address}{API}/assess", params={"name": "Maria-Gomez.jpg"}, content=jpeg)
    httpx.post(f"{live.address}{API}/assess-many", files={"image": ("Maria-Gomez.jpg", b"broken")})
    httpx.get(f"{live.address}/Maria-Gomez")
    time.sleep(0.3)
    assert not [line for line in live.log if "Maria" in line]
    requests = [json.loads(line) for line in live.log if '"request"' in line]
    assert all({"request_id", "method", "route", "status", "ms"} <= set(line) for line in requests)
