"""Room for bodies in memory: who gets it, in which order, who is told to come again, and that it is given back."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from live_server import LiveServer, read_answer
from starlette.responses import Response

from melascope.errors import LaterError, OverloadedError, TooManyRequestsError
from melascope.web.edge import Edge
from melascope.web.security import digest_of
from melascope.web.settings import Settings
from melascope.web.uploads import Buffers

API = "/api/v1"
FORM = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'


async def turns(buffers: Buffers, *wanted: tuple[str, int]) -> list[str]:
    """Ask for room in this order and free it in the order in which it was got; whose turn came when."""
    order: list[str] = []

    async def one(client: str, count: int) -> None:
        await buffers.hold(count, client=client)
        order.append(f"{client}{count}")
        await asyncio.sleep(0.01)
        buffers.free(count, client=client)

    await asyncio.gather(*(one(*want) for want in wanted))
    assert buffers.has_room(100)
    return order


def test_room_that_comes_free_goes_to_the_first_for_whom_it_is_enough() -> None:
    buffers = Buffers(100, most_of_client=80, seconds=5)
    order = asyncio.run(turns(buffers, ("a", 80), ("b", 70), ("c", 40), ("d", 20)))
    assert order == ["a80", "d20", "b70", "c40"]


def test_one_client_waits_for_itself_and_leaves_room_for_others() -> None:
    buffers = Buffers(100, most_of_client=80, seconds=5)
    order = asyncio.run(turns(buffers, ("a", 60), ("a", 60), ("a", 60), ("b", 40)))
    assert order == ["a60", "b40", "a60", "a60"]


def test_an_answer_is_counted_until_the_client_has_read_it() -> None:
    async def answer() -> None:
        buffers, sent = Buffers(1024**2, most_of_client=1024**2, seconds=5), []
        may = asyncio.Semaphore(3)

        async def app(scope: object, receive: object, send: Callable[..., object]) -> None:
            await Response(bytes(range(256)) * 1024)(scope, receive, send)

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, object]) -> None:
            await may.acquire()
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"127.0.0.1")],
                 "query_string": b"", "scheme": "http", "root_path": ""}  # fmt: skip
        settings = Settings()
        call = asyncio.create_task(Edge(app, settings=settings, buffers=buffers)(scope, receive, send))
        await asyncio.sleep(0.05)
        assert len(sent) == 3  # its head and two parts
        assert not buffers.has_room(1024**2 - 256 * 1024 + 1)
        for _ in range(9):
            may.release()
        await call
        assert buffers.has_room(1024**2)
        parts = [message for message in sent if message["type"] == "http.response.body"]
        assert b"".join(part["body"] for part in parts) == bytes(range(256)) * 1024
        assert [part["more_body"] for part in parts] == [True, True, True, False]

    asyncio.run(answer())


@pytest.mark.parametrize(("held_by", "kind"), [("a", TooManyRequestsError), ("b", OverloadedError)])
def test_who_waited_in_vain_is_told_whose_uploads_were_in_the_way(
    held_by: str, kind: type[LaterError]
) -> None:
    async def wait() -> None:
        buffers = Buffers(100, most_of_client=80, seconds=0.02)
        await buffers.hold(50, client=held_by)
        with pytest.raises(kind):
            await buffers.hold(60, client="a")
        buffers.free(50, client=held_by)
        await buffers.hold(80, client="a")  # nothing is left of the wait

    asyncio.run(wait())


def test_room_is_neither_lost_nor_made_whoever_gives_up_and_when() -> None:
    """Also at the very moment at which their turn comes."""
    rng = random.Random(5)

    async def many() -> None:
        buffers = Buffers(100, most_of_client=60, seconds=0.004)
        held = 0

        async def one(client: str, count: int) -> None:
            nonlocal held
            try:
                await buffers.hold(count, client=client)
            except LaterError:
                return
            held += count
            assert held <= 100
            try:
                await asyncio.sleep(rng.random() / 300)
            finally:
                held -= count
                buffers.free(count, client=client)

        tasks = []
        for _ in range(400):
            tasks.append(asyncio.create_task(one(rng.choice("abc"), rng.randrange(1, 60))))
            await asyncio.sleep(rng.random() / 1000)
            if rng.random() < 0.3:
                rng.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [task for task in tasks if not task.cancelled() and task.exception()] == []
        assert buffers.has_room(100)
        for client in "abc":
            await buffers.hold(60, client=client)
            buffers.free(60, client=client)

    asyncio.run(many())


# --- over the wire -------------------------------------------------------------------------------------------


@pytest.fixture
def shared(start_server: Callable[..., LiveServer]) -> LiveServer:
    """Room for one of the largest forms and one of the largest images; two programs may send them."""
    tokens = "".join(f'[tokens.{name}]\nsha256 = "{digest_of(name)}"\n' for name in ("one", "two"))
    return start_server(
        config="max_image_bytes = 1_000_000\nmax_request_bytes = 6_000_000\nmax_buffered_bytes = 7_000_000\n"
        f"room_seconds = 8\nbody_seconds = 2\nmax_body_seconds = 4\n{tokens}"
    )


def begin(server: LiveServer, token: str, length: int, path: str = "assess-many") -> socket.socket:
    connection = server.connect()
    connection.sendall(
        f"POST {API}/{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: {FORM}\r\n"
        f"Content-Length: {length}\r\nConnection: close\r\n\r\n".encode()
    )
    return connection


@pytest.mark.parametrize("others", [("one", "one"), ("one", "two")])
def test_large_forms_at_once_are_answered_one_after_the_other(
    shared: LiveServer, jpeg: bytes, others: tuple[str, ...]
) -> None:
    """Each takes most of the room; none may keep the other from ending."""
    padded = jpeg + bytes(900_000)
    answers: list[httpx.Response] = []

    def send(token: str) -> None:
        answers.append(
            httpx.post(
                f"{shared.address}{API}/assess-many",
                files=[("image", (f"{n}.jpg", padded)) for n in range(6)],
                headers={"Authorization": f"Bearer {token}"},
                timeout=30,
            )
        )

    senders = [threading.Thread(target=send, args=(token,)) for token in others]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert all(r["problem"] is None for answer in answers for r in answer.json()["results"])


def test_who_holds_much_and_sends_little_locks_nobody_out(shared: LiveServer, jpeg: bytes) -> None:
    """A trickle above the least rate ends after `max_body_seconds`; meanwhile others are served."""
    began = time.monotonic()
    with begin(shared, "one", 5_900_000) as trickle, begin(shared, "one", 5_900_000) as following:
        stop = threading.Event()

        def drip() -> None:
            with suppress(OSError):
                trickle.sendall(PART)
                while not stop.wait(0.1):
                    trickle.sendall(bytes(6_000))

        dripping = threading.Thread(target=drip)
        dripping.start()
        time.sleep(0.5)
        for _ in range(5):
            answer = httpx.post(
                f"{shared.address}{API}/assess", content=jpeg, headers={"Authorization": "Bearer two"}
            )
            assert answer.status_code == 200
        assert time.monotonic() - began < 4
        following.sendall(PART + jpeg)
        assert read_answer(trickle).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began < 8
        stop.set()
        dripping.join()
        missing = 5_900_000 - len(PART + jpeg) - len(b"\r\n--x--\r\n")
        following.sendall(bytes(missing) + b"\r\n--x--\r\n")
        assert read_answer(following).startswith(b"HTTP/1.1 200")


def test_a_body_of_unstated_length_gives_back_what_it_did_not_need(shared: LiveServer, jpeg: bytes) -> None:
    def chunks():
        yield jpeg

    for _ in range(8):
        answer = httpx.post(
            f"{shared.address}{API}/assess", content=chunks(), headers={"Authorization": "Bearer one"}
        )
        assert answer.status_code == 200
