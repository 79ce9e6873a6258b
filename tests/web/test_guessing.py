"""Guessing passwords: what is counted, for whom it is refused, and that counting has no end of memory."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from starlette.testclient import TestClient
from web_accounts import PASSWORD, sign_in

from melascope.errors import MelascopeError, UnauthenticatedError
from melascope.web import sessions

API = "/api/v1"


def test_guessing_a_password_is_slowed_down(guarded: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        assert sign_in(guarded, password="wrong").status_code == 401
    refused = sign_in(guarded)  # even with the right one
    assert refused.status_code == 429
    wait_s = int(refused.headers["retry-after"])
    assert 800 < wait_s <= 900
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + wait_s + 1)
    assert sign_in(guarded).status_code == 303


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
    ],
)
def test_ipv6_is_counted_by_network(address: str, network: str) -> None:
    assert sessions.network_of(address) == network


def test_workers_that_start_at_once_share_a_whole_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as workers:
        keys = set(workers.map(lambda _: sessions._shared_key(tmp_path / "key"), range(40)))
    assert [len(key) for key in keys] == [32]
    assert [file.name for file in tmp_path.iterdir()] == ["key"]
    (tmp_path / "key").write_bytes(b"")
    with pytest.raises(MelascopeError, match="0 bytes"):
        sessions._shared_key(tmp_path / "key")


def normal(answer) -> str:
    """A page without what differs from one answer to the next."""
    return re.sub(r'value="[^"]*"|[0-9a-f]{32}', "", answer.text)


def failures(client: TestClient) -> list[bytes]:
    """Subjects of the failures that are kept."""
    with closing(sqlite3.connect(client.app.state.sessions._path)) as database:
        return [subject for (subject,) in database.execute("SELECT subject FROM failure")]


def at(client: TestClient, address: str) -> TestClient:
    """A client of the same application at another address."""
    return TestClient(
        client.app, base_url="http://localhost", client=(address, 50000), follow_redirects=False
    )


def test_what_is_kept_of_a_failure_has_a_fixed_size(guarded: TestClient) -> None:
    known, long = (sign_in(guarded, name, "wrong") for name in ("ana", "\xff" * 600))
    assert known.status_code == long.status_code == 401
    assert normal(known) == normal(long)
    assert [len(subject) for subject in failures(guarded)] == [16] * 4  # the long name by its address alone


def test_an_attempt_that_cannot_be_written_down_is_refused_whatever_the_password(
    guarded: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(guarded.app.state.sessions._path)) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON failure BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    monkeypatch.setattr(sessions, "_verify", lambda *_: pytest.fail("the password was looked at"))
    for password in (PASSWORD, "wrong"):
        refused = sign_in(guarded, password=password)
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")


def test_failures_are_bounded_and_none_is_forgotten_before_its_time(
    guarded: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_MOST_ROWS", 6)
    monkeypatch.setattr(sessions, "_ROWS_OF_FAMILIAR", 3)
    assert sign_in(at(guarded, "192.0.2.9")).status_code == 303
    assert not failures(guarded)  # it was none
    stranger = at(guarded, "198.51.100.1")
    answers = [sign_in(stranger, f"name{n}", "wrong") for n in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 503]
    assert 800 < int(answers[-1].headers["retry-after"]) <= 900
    assert len(failures(guarded)) == 6
    assert sign_in(stranger).status_code == 503  # with the right one
    assert sign_in(at(guarded, "192.0.2.9")).status_code == 303  # where she signed in before
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 901)
    assert sign_in(stranger).status_code == 303
    assert not failures(guarded)


def test_strangers_lock_nobody_out_of_where_they_have_signed_in(
    guarded: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_OF_NAME", 4)
    home = at(guarded, "2001:db8:1::7")
    assert sign_in(home).status_code == 303
    home.cookies.clear()
    for n in range(4):
        assert sign_in(at(guarded, f"198.51.100.{n}"), password="wrong").status_code == 401
    assert sign_in(at(guarded, "203.0.113.5")).status_code == 429
    assert sign_in(at(guarded, "2001:db8:1::8")).status_code == 303
    tries = [sign_in(at(guarded, "2001:db8:1::9"), password="wrong").status_code for _ in range(6)]
    assert tries == [401] * 5 + [429]


def test_what_is_kept_of_who_signed_in_is_bounded(
    guarded: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_MOST_OF_USER", 2)
    clients = [at(guarded, f"192.0.2.{n}") for n in range(3)]
    for client in clients:
        assert sign_in(client).status_code == 303
    assert [client.get(f"{API}/bundle").status_code for client in clients] == [401, 200, 200]
    with closing(sqlite3.connect(guarded.app.state.sessions._path)) as database:
        assert database.execute("SELECT count(*) FROM familiar").fetchone() == (2,)


def test_a_name_that_nobody_has_takes_as_much_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cheap, dear = (
        PasswordHasher(time_cost=passes, memory_cost=64, parallelism=1).hash("x") for passes in (1, 3)
    )
    store = sessions.Sessions(tmp_path, {"ana": cheap, "ben": cheap, "carl": dear}, hours=1)
    verify, costs = sessions._verify, []

    def noted(known: str, password: str) -> bool:
        costs.append(known.split("$")[3])
        return verify(known, password)

    monkeypatch.setattr(sessions, "_verify", noted)
    work = []
    for name in ("ana", "ben", "carl", "nobody", "n" * 65):
        with pytest.raises(UnauthenticatedError):
            asyncio.run(store.sign_in(name, "wrong", address="192.0.2.1"))
        work.append(sorted(costs))
        costs.clear()
    assert work == [["m=64,t=1,p=1", "m=64,t=3,p=1"]] * 5
    for name in ("ana", "carl"):
        assert asyncio.run(store.sign_in(name, "x", address="192.0.2.1"))


def test_one_address_cannot_try_many_names(guarded: TestClient) -> None:
    answers = [sign_in(guarded, name=f"name{n}", password="wrong").status_code for n in range(21)]
    assert answers == [401] * 20 + [429]


def test_whether_a_name_exists_is_not_told(guarded: TestClient) -> None:
    known, unknown = sign_in(guarded, password="wrong"), sign_in(guarded, name="nobody", password="wrong")
    assert known.status_code == unknown.status_code == 401

    assert normal(known).replace("nobody", "ana") == normal(unknown).replace("nobody", "ana")
