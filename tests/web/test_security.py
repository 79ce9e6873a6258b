"""Who may do what: default deny, tokens, sessions, forgery, guessing, hosts, headers."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from contextlib import ExitStack

import pytest
from fastapi import APIRouter
from starlette.testclient import TestClient
from web_accounts import METRICS_TOKEN, PASSWORD, TOKEN, csrf_of, sign_in

from melascope.web import api, assets, pages, security
from melascope.web.edge import TrustedWord
from melascope.web.security import Permission, permission_of

API = "/api/v1"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ROUTES = [
    (method, route.path, permission_of(route))
    for router in (api.router, api.operations, pages.router)
    for route in router.routes
    for method in route.methods
]
PUBLIC = {
    "/login",
    "/logout",
    *(
        f"{API}/{path}"
        for path in ("health", "ready", "version", "schema/assessment", "problems", "openapi.json")
    ),
}


# --- default deny ------------------------------------------------------------------------------------------


def test_a_route_that_does_not_state_its_permission_stops_the_application() -> None:
    router = APIRouter()
    router.get("/open")(lambda: None)
    with pytest.raises(RuntimeError, match="/open does not state its permission"):
        security.refuse_unstated([router])


def test_what_is_public_is_known() -> None:
    assert {path for _, path, permission in ROUTES if permission is Permission.PUBLIC} <= PUBLIC


@pytest.mark.parametrize(("method", "path", "permission"), ROUTES)
@pytest.mark.parametrize("credential", [None, "Bearer wrong", "Basic YW5hOng=", "Bearer ", "Bearer \xe9"])
def test_nobody_gets_past_a_route_that_is_not_public(
    guarded: TestClient, method: str, path: str, permission: Permission, credential: str | None
) -> None:
    headers = {"Authorization": credential.encode("latin-1")} if credential else {}
    answer = guarded.request(method, path, headers=headers, content=b"x" * 100)
    if permission is Permission.PUBLIC:
        assert answer.status_code != 401
    else:
        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthenticated"
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_browser_is_led_to_the_login_page(guarded: TestClient) -> None:
    answer = guarded.get("/", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_what_nobody_may_send_is_not_even_read(guarded: TestClient) -> None:
    big = guarded.post("/login", data={"name": "a" * 3000, "b": "c" * 3000, "d": "e" * 4000, "f": "g" * 4000,
                                       "h": "i" * 4000})  # fmt: skip
    assert big.status_code == 413


# --- tokens ------------------------------------------------------------------------------------------------


def test_a_token_may_do_what_it_was_given_and_no_more(guarded: TestClient, jpeg: bytes) -> None:
    assert guarded.post(f"{API}/assess", content=jpeg, headers=BEARER).status_code == 200
    refused = guarded.get("/metrics", headers=BEARER)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    of_metrics = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    assert guarded.get("/metrics", headers=of_metrics).status_code == 200
    assert guarded.get(f"{API}/bundle", headers=of_metrics).status_code == 403


def test_a_token_needs_no_csrf_token_and_may_come_from_anywhere(guarded: TestClient, jpeg: bytes) -> None:
    headers = {**BEARER, "Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    assert guarded.post(f"{API}/assess", content=jpeg, headers=headers).status_code == 200


@pytest.mark.parametrize(("kind", "code"), [("token", "unauthenticated"), ("password", "unauthenticated")])
def test_what_opens_nothing_is_counted_and_logged(guarded: TestClient, caplog, kind: str, code: str) -> None:
    def counted() -> float:
        text = guarded.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}).text
        found = re.search(rf'refused_credentials_total\{{code="{code}",credential="{kind}"\}} (\S+)', text)
        return float(found[1]) if found else 0

    before = counted()
    if kind == "token":
        assert guarded.get(f"{API}/bundle", headers={"Authorization": "Bearer wrong"}).status_code == 401
    else:
        sign_in(guarded, password="wrong")
    assert guarded.get(f"{API}/bundle").status_code == 401  # nobody tried anything
    assert counted() == before + 1
    [record] = [record for record in caplog.records if record.msg == "sign-in refused"]
    assert (record.code, record.address) == (code, "testclient")
    assert "wrong" not in str(vars(record))


# --- sessions ----------------------------------------------------------------------------------------------


def test_signing_in_and_out(guarded: TestClient, jpeg: bytes) -> None:
    answer = sign_in(guarded)
    assert answer.status_code == 303
    [cookie] = [one for one in answer.headers.get_list("set-cookie") if "session" in one]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    page = guarded.get("/", headers={"accept": "text/html"})
    assert page.status_code == 200
    csrf = csrf_of(page.text)
    session = guarded.cookies["melascope-session"]
    assert guarded.post(f"{API}/assess", content=jpeg, headers={"X-CSRF-Token": csrf}).status_code == 200
    assert guarded.post("/logout", data={"csrf_token": csrf}).status_code == 303
    guarded.cookies.set("melascope-session", session)  # a copy of the cookie does not outlive its session
    assert guarded.get(f"{API}/bundle").status_code == 401


def test_signing_out_works_from_a_page_of_an_earlier_session(guarded: TestClient) -> None:
    sign_in(guarded)
    old = {"csrf_token": csrf_of(guarded.get("/").text)}
    guarded.cookies.clear()
    sign_in(guarded)
    for site in ("cross-site", "same-site", "none"):
        assert guarded.post("/logout", data=old, headers={"Sec-Fetch-Site": site}).status_code == 403
    assert guarded.get(f"{API}/bundle").status_code == 200
    assert guarded.post("/logout", data=old, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
    assert guarded.get(f"{API}/bundle").status_code == 401


def test_a_session_ends(make_client, accounts: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    client = make_client(**accounts, session_hours=1)
    sign_in(client)
    assert client.get(f"{API}/bundle").status_code == 200
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    assert client.get(f"{API}/bundle").status_code == 401


def test_one_can_sign_in_again_with_a_cookie_of_a_session_that_is_gone(guarded: TestClient) -> None:
    guarded.cookies.set("melascope-session", "of-before-the-server-was-started-again")
    assert sign_in(guarded).status_code == 303


def test_a_refused_sign_in_is_logged_with_its_address_and_without_its_name(
    guarded: TestClient, caplog
) -> None:
    sign_in(guarded, password="wrong")
    [record] = [record for record in caplog.records if record.msg == "sign-in refused"]
    assert (record.code, record.address) == ("unauthenticated", "testclient")
    assert "ana" not in str(vars(record))


def test_what_is_kept_of_sessions_opens_nothing(guarded: TestClient) -> None:
    sign_in(guarded)
    with sqlite3.connect(guarded.app.state.sessions._path) as database:
        rows = database.execute("SELECT * FROM session").fetchall()
    database.close()
    assert len(rows) == 1
    assert guarded.cookies["melascope-session"] not in str(rows)


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"},
        {"allowed_hosts": ("clinic.example",)},
        {"trusted_proxies": ("127.0.0.1",), "allowed_hosts": ("clinic.example",)},
    ],
)
def test_over_tls_cookies_keep_to_it_and_to_this_host(
    make_client, accounts: dict[str, object], settings: dict[str, object]
) -> None:
    client = make_client(**accounts, **settings)
    client.base_url = "https://clinic.example"
    cookie = client.get("/login").headers["set-cookie"]
    assert cookie.startswith("__Host-melascope-visitor=")
    assert "; Secure" in cookie
    assert "Path=/;" in cookie
    assert client.get("/login").headers["strict-transport-security"]


@pytest.mark.parametrize(
    ("base", "address", "settings", "told"),
    [
        ("http://clinic.example", "192.0.2.7", {}, True),
        ("http://clinic.example", "127.0.0.1", {}, True),
        ("http://localhost", "127.0.0.1", {}, False),
        ("http://localhost", "192.0.2.7", {}, False),  # of a tunnel, or of a container's host
        ("https://clinic.example", "192.0.2.7", {}, False),
        ("http://clinic.example", "192.0.2.7", {"insecure_cookies": True}, False),
    ],
)
def test_who_cannot_sign_in_for_want_of_tls_is_told_so(
    make_client, accounts: dict[str, object], base: str, address: str, settings: dict[str, object], told: bool
) -> None:
    app = make_client(**accounts, host="0.0.0.0", **settings).app
    client = TestClient(app, base_url=base, client=(address, 50000))
    token = csrf_of(client.get("/login").text)
    client.cookies.clear()  # as a browser does with a secure cookie that comes without TLS
    answer = client.post("/login", data={"name": "ana", "password": PASSWORD, "csrf_token": token})
    assert answer.status_code == 403
    assert ("insecure_cookies" in answer.json()["remedy"]) is told
    page = client.post("/login", data={"name": "ana"}, headers={"accept": "text/html"})
    assert ("insecure_cookies" in page.text) is told


# --- forgery -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [None, "", "wrong", "0" * 64])
def test_a_session_without_the_pages_own_token_changes_nothing(
    guarded: TestClient, jpeg: bytes, sent: str | None
) -> None:
    sign_in(guarded)
    header = {"X-CSRF-Token": sent} if sent is not None else {}
    bare = guarded.post(f"{API}/assess-many", files={"image": jpeg}, headers=header)
    assert (bare.status_code, bare.json()["code"]) == (403, "forbidden")
    field = {"csrf_token": sent} if sent is not None else {}
    assert guarded.post("/assess", files={"image": jpeg}, data=field).status_code == 403
    assert guarded.post("/logout", data=field).status_code == 403
    assert guarded.get(f"{API}/bundle").status_code == 200


def test_a_token_of_another_session_does_not_do(
    make_client, accounts: dict[str, object], jpeg: bytes
) -> None:
    client = make_client(**accounts)
    sign_in(client)
    other = csrf_of(client.get("/").text)
    client.cookies.clear()
    sign_in(client)
    assert client.post(f"{API}/assess", content=jpeg, headers={"X-CSRF-Token": other}).status_code == 403


def test_a_form_without_a_file_is_no_image(guarded: TestClient) -> None:
    sign_in(guarded)
    form = {"csrf_token": csrf_of(guarded.get("/").text)}
    answer = guarded.post(f"{API}/assess", data=form)
    assert (answer.status_code, answer.json()["code"]) == (415, "image-not-an-image")
    assert guarded.post(f"{API}/assess-many", data=form).status_code == 400


def test_signing_in_cannot_be_forged_either(guarded: TestClient) -> None:
    guarded.get("/login")
    form = {"name": "ana", "password": PASSWORD}
    assert guarded.post("/login", data=form).status_code == 403
    assert guarded.post("/login", data={**form, "csrf_token": "0" * 64}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "http://["},
    ],
)
def test_another_site_cannot_use_a_server_on_loopback(
    client: TestClient, jpeg: bytes, headers: dict[str, str]
) -> None:
    answer = client.post(f"{API}/assess", content=jpeg, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin", "Origin": "null"}]
)
def test_our_own_pages_and_programs_can(client: TestClient, jpeg: bytes, headers: dict[str, str]) -> None:
    assert client.post(f"{API}/assess", content=jpeg, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "", "[::1", "a b", "127.0.0.1@evil", "evil@localhost"),
        *("localhost/x", "localhost#", "localhost?", "localhost:abc", "localhost:", "[::1]x", "[localhost]"),
    ],
)
def test_a_name_that_leads_here_by_a_trick_is_not_answered(
    client: TestClient, guarded: TestClient, host: str
) -> None:
    for asked in (client, guarded):
        answer = asked.get(f"{API}/health", headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (400, "request")


def test_hosts_are_compared_whatever_their_case(make_client, accounts: dict[str, object]) -> None:
    client = make_client(**accounts, allowed_hosts=("Clinic.Example", "2001:DB8:0::1"))
    for host in ("clinic.example", "CLINIC.example:443", "[2001:db8::1]:443"):
        assert client.get(f"{API}/health", headers={"Host": host}).status_code == 200
    assert client.get(f"{API}/health", headers={"Host": "localhost"}).status_code == 400


def test_outside_the_base_path_there_is_nothing_but_word_of_health(make_client) -> None:
    client = make_client(base_path="/skin")
    for path in ("/", "/metrics", f"{API}/version", f"{assets.path()}/app.js", "/skinny/", "//skin/"):
        answer = client.get(f"http://localhost{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found"), path
    for path in ("/skin/", "/skin/metrics", f"/skin{API}/version", f"{API}/health", f"{API}/ready"):
        assert client.get(path).status_code == 200, path


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_the_names_of_loopback_are(client: TestClient, host: str) -> None:
    assert client.get(f"{API}/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-IP"]
)
@pytest.mark.parametrize("path", [f"{API}/health", "/"])
def test_what_comes_through_a_proxy_is_refused_where_nobody_has_to_sign_in(
    client: TestClient, guarded: TestClient, header: str, path: str
) -> None:
    answer = client.get(path, headers={header: "203.0.113.9"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert header.lower() in answer.json()["detail"]
    assert "--new-user" in answer.json()["remedy"]
    assert client.get(path, headers={"accept": "text/html", header: ""}).status_code == 403
    assert guarded.get(f"{API}/health", headers={header: "203.0.113.9"}).status_code == 200


@pytest.mark.parametrize(
    ("said", "believed"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("junk, 203.0.113.9:443, [2001:db8::1]:5", "203.0.113.9, 2001:db8::1"),
        ("203.0.113.9, unknown", None),
        ("203.0.113.9, a@203.0.113.8:1", None),
        ("", None),
    ],
)
def test_only_addresses_are_believed_of_a_proxy(said: str, believed: str | None) -> None:
    seen = []

    async def inner(scope, receive, send):
        seen.append(dict(scope["headers"]).get(b"x-forwarded-for", b"").decode() or None)

    scope = {"type": "http", "headers": [(b"x-forwarded-for", said.encode())]}
    asyncio.run(TrustedWord(inner)(scope, None, None))
    assert seen == [believed]


# --- shares and headers --------------------------------------------------------------------------------------


def test_one_client_leaves_room_for_the_others(make_client, jpeg: bytes) -> None:
    client = make_client(queue_of_client=1)
    shares = client.app.state.shares
    shares._under_way["open:testclient"] = 1
    answer = client.post(f"{API}/assess", content=jpeg)
    assert (answer.status_code, answer.json()["code"]) == (429, "too-many-requests")
    assert answer.headers["retry-after"]
    del shares._under_way["open:testclient"]
    for _ in range(3):
        assert client.post(f"{API}/assess", content=jpeg).status_code == 200
    assert not shares._under_way


def test_a_client_is_counted_by_network_as_its_failures_are() -> None:
    def share(address: str) -> str:
        nothing = frozenset[Permission]()
        return security.Caller(name=None, by="nobody", permissions=nothing, address=address).share

    assert share("2001:db8:5:5::1") == share("2001:db8:5:5:9::2") != share("2001:db8:5:6::1")
    assert share("192.0.2.1") != share("192.0.2.2")


def test_all_who_are_unknown_leave_room_for_who_is_known(
    guarded: TestClient, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "_MOST_OF_UNKNOWN", 2)
    shares = guarded.app.state.shares
    with ExitStack() as under_way:
        for address in ("192.0.2.1", "192.0.2.2"):
            shares.take(f"nobody:{address}", under_way, unknown=True)
        refused = guarded.post("/login", data={"name": "ana"})
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert guarded.post(f"{API}/assess", content=jpeg, headers=BEARER).status_code == 200
    assert sign_in(guarded).status_code == 303
    assert (shares._unknown, shares._under_way) == (0, {})


@pytest.mark.parametrize(
    "path", ["/", "/about", "/nothing", f"{API}/health", f"{assets.path()}/nothing.css", "/metrics"]
)
def test_every_answer_has_the_headers_that_browsers_heed(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "cache-control" in headers
    assert "server" not in headers


@pytest.mark.parametrize("path", ["../app.py", "%2e%2e/app.py", "..%2fapp.py", "/etc/passwd", "%00"])
def test_no_path_leads_out_of_the_static_folder(client: TestClient, path: str) -> None:
    assert client.get(f"{assets.path()}/{path}").status_code == 404


@pytest.mark.parametrize(
    "name", ["a\r\nSet-Cookie: x=1", "a\nb", "\x00", "../../etc/passwd", "C:\\x\\y.jpg", "é" * 500]
)
def test_a_name_reaches_no_header_and_no_path(client: TestClient, jpeg: bytes, name: str) -> None:
    answer = client.post(f"{API}/assess", params={"name": name[:200]}, content=jpeg)
    shown = answer.json()["images"][0]["name"]
    assert shown.isprintable()
    assert "/" not in shown
    assert "\\" not in shown
    assert "x" not in answer.cookies
