"""The typed client against a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from live_server import LiveServer
from web_accounts import TOKEN

from melascope.bundle.store import Bundle
from melascope.domain.assessment import Assessment
from melascope.imaging.decode import decode_image
from melascope.runtime.assessor import Assessor
from melascope.web import client as client_module
from melascope.web.client import Client, ServerError
from melascope.web.security import digest_of


@pytest.fixture
def client(live: LiveServer) -> Iterator[Client]:
    with Client(live.address) as client:
        yield client


def test_an_answer_is_the_runtimes_own(
    client: Client, tiny_bundle: Bundle, jpeg: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "a lesion é.jpg"
    file.write_bytes(jpeg)
    [expected] = Assessor(tiny_bundle).assess(
        [decode_image(jpeg, name=file.name)],
        operating_point="sensitivity-90",
        melanoma_prevalence=0.03,
        heatmap=True,
    )
    answer = client.assess(file, operating_point="sensitivity-90", prevalence=0.03, heatmap=True)
    assert answer == expected
    assert client.assess(jpeg).name == "image-1"


def test_many_and_one_lesion(client: Client, jpeg: bytes) -> None:
    good, bad = client.assess_many([jpeg, b"text"], heatmap=True)
    assert isinstance(good, Assessment)
    assert good.images[0].heatmap is not None
    assert isinstance(bad, ServerError)
    assert bad.code == "image-not-an-image"
    assert bad.remedy
    assert len(client.assess_lesion([jpeg, jpeg]).images) == 2


def test_what_the_server_is(client: Client, tiny_bundle: Bundle) -> None:
    assert client.bundle() == tiny_bundle.manifest
    assert client.card() == tiny_bundle.card
    assert client.version()
    assert client.ready()


def test_a_refusal_is_an_error_that_says_what_to_do(client: Client) -> None:
    with pytest.raises(ServerError, match="no operating point 'nonsense'") as refused:
        client.assess(b"x", operating_point="nonsense")
    assert (refused.value.code, refused.value.http_status) == ("usage", 400)
    assert "sensitivity-95" in refused.value.remedy


def test_nobody_there() -> None:
    with Client("http://127.0.0.1:9") as client:
        assert not client.ready()
        with pytest.raises(ServerError, match="no answer"):
            client.version()


def test_a_token_opens_a_guarded_server(start_server: Callable[..., LiveServer], jpeg: bytes) -> None:
    server = start_server(config=f'base_path = "/skin"\n[tokens.pacs]\nsha256 = "{digest_of(TOKEN)}"\n')
    with Client(f"{server.address}", token=TOKEN) as client:
        assert client.assess(jpeg).decision
    with Client(server.address) as client, pytest.raises(ServerError, match="Nobody is signed in") as refused:
        client.assess(jpeg)
    assert refused.value.http_status == 401


def test_it_waits_as_long_as_the_server_asks_and_then_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", waits.append)
    answers = iter([503, 429, 200, 503, 503, 503, 503, 503])

    def answer(_: httpx.Request) -> httpx.Response:
        status = next(answers)
        if status == 200:
            return httpx.Response(200, json={"version": "9"})
        return httpx.Response(
            status, json={"code": "overloaded", "detail": "Full."}, headers={"Retry-After": "2"}
        )

    with Client("http://x", transport=httpx.MockTransport(answer)) as client:
        assert client.version() == "9"
        assert waits == [2, 2]
        with pytest.raises(ServerError, match="Full"):
            client.version()
    assert waits == [2] * 5


@pytest.mark.parametrize("answer", [httpx.Response(500, text="<html>"), httpx.Response(502, json=[1])])
def test_an_answer_that_is_no_problem(answer: httpx.Response) -> None:
    with Client("http://x", transport=httpx.MockTransport(lambda _: answer)) as client:
        with pytest.raises(ServerError, match=r"the status 50\d") as refused:
            client.version()
        assert refused.value.problem == {}
