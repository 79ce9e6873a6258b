"""Applications in this process and servers in their own, with the tiny bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import web_accounts
from drawn import encode, lesion
from fastapi import FastAPI
from live_server import LiveServer
from starlette.testclient import TestClient

from melascope.bundle.store import Bundle
from melascope.web.app import create_app
from melascope.web.settings import Settings


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """A drawn lesion."""
    return encode(lesion(300, 225), "JPEG")


@pytest.fixture
def make_client(tiny_bundle: Bundle) -> Iterator[Callable[..., TestClient]]:
    """Makes a client of an application with settings of the test's own."""
    with ExitStack() as running:

        def make(**settings: object) -> TestClient:
            app = create_app(Settings(**settings), bundle=tiny_bundle)
            client = TestClient(app, base_url="http://localhost", follow_redirects=False)
            return running.enter_context(client)

        yield make


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    """Of an application on loopback where nobody has to sign in."""
    return make_client()


@pytest.fixture
def app(client: TestClient) -> FastAPI:
    """The application of `client`."""
    return client.app


@pytest.fixture(scope="session")
def accounts() -> dict[str, object]:
    """Settings with a user `ana` and the tokens `pacs` and `prometheus`."""
    return web_accounts.accounts()


@pytest.fixture
def guarded(make_client: Callable[..., TestClient], accounts: dict[str, object]) -> TestClient:
    """Of an application where one has to sign in."""
    return make_client(**accounts)


@pytest.fixture(scope="session")
def live(tiny_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that many tests share: small limits, short patience."""
    config = """
max_image_bytes = 2_000_000
max_request_bytes = 8_000_000
max_buffered_bytes = 24_000_000
body_seconds = 1
max_images = 20
"""
    with LiveServer(tiny_bundle_path, tmp_path_factory.mktemp("live"), config=config) as server:
        yield server


@pytest.fixture
def start_server(tiny_bundle_path: Path, tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    """Starts a server with options of the test's own."""
    with ExitStack() as running:

        def start(*options: str, config: str | None = None) -> LiveServer:
            return running.enter_context(LiveServer(tiny_bundle_path, tmp_path, *options, config=config))

        yield start
