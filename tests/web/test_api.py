"""The API's routes, and the one shape of what goes wrong."""

from __future__ import annotations

import asyncio
import html
import json
import logging
import re

import pytest
from drawn import encode, lesion
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient
from starlette.types import Message

from melascope.bundle.manifest import Manifest
from melascope.bundle.store import Bundle
from melascope.errors import MelascopeError
from melascope.imaging.decode import decode_image
from melascope.runtime.assessment_json import from_json, from_jsonable, json_schema
from melascope.runtime.assessor import Assessor
from melascope.web import api, assets, problems

API = "/api/v1"


def files(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", (f"{n}.jpg", data)) for n, data in enumerate(contents)]


def problem(answer) -> dict[str, object]:
    assert answer.headers["content-type"] == problems.MEDIA_TYPE
    members = answer.json()
    assert members["status"] == answer.status_code
    assert members["type"] == f"{API}/problems#{members['code']}"
    assert members["request_id"] == answer.headers["x-request-id"]
    assert {"title", "detail"} <= set(members)
    return members


def test_one_image_sent_bare_gets_the_runtimes_own_answer(
    client: TestClient, tiny_bundle: Bundle, jpeg: bytes
) -> None:
    answer = client.post(
        f"{API}/assess",
        params={"heatmap": True, "prevalence": 0.02, "operating_point": "sensitivity-90", "name": "a.jpg"},
        content=jpeg,
    )
    assert answer.status_code == 200
    Draft202012Validator(json_schema()).validate(answer.json())
    [expected] = Assessor(tiny_bundle).assess(
        [decode_image(jpeg, name="a.jpg")],
        operating_point="sensitivity-90",
        melanoma_prevalence=0.02,
        heatmap=True,
    )
    assert from_json(answer.content) == expected


def test_one_image_in_a_form_is_the_same(client: TestClient, jpeg: bytes) -> None:
    bare = client.post(f"{API}/assess", params={"name": "0.jpg"}, content=jpeg)
    assert client.post(f"{API}/assess", files=files(jpeg)).json() == bare.json()


@pytest.mark.parametrize("declared", ["image/png", "text/html", "application/x-www-form-urlencoded", ""])
def test_the_declared_type_is_not_trusted(client: TestClient, jpeg: bytes, declared: str) -> None:
    answer = client.post(f"{API}/assess", content=jpeg, headers={"content-type": declared})
    assert answer.json()["images"][0]["format"] == "JPEG"


@pytest.mark.parametrize("charset", ["punycode", "undefined", "utf-16", "rot13", "nonsense", '"a\\0b"'])
def test_the_charset_of_a_form_is_not_heeded(client: TestClient, jpeg: bytes, charset: str) -> None:
    name = 'form-data; name="image"; filename="Läsion.jpg"'.encode()
    field = b'--x\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\na-999999\r\n'
    body = field + b"--x\r\nContent-Disposition: " + name + b"\r\n\r\n" + jpeg + b"\r\n--x--\r\n"
    kind = f"multipart/form-data; boundary=x; charset={charset}"
    answer = client.post(f"{API}/assess", content=body, headers={"Content-Type": kind})
    assert answer.json()["images"][0]["name"] == "Läsion.jpg"


def form_of(*contents: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return b"".join(head + data + b"\r\n" for data in contents) + b"--x--\r\n"


@pytest.mark.parametrize(
    "path", [f"{API}/assess-many", f"{API}/assess-lesion", f"{API}/assess", "/assess", "/report.pdf"]
)
def test_a_form_that_ends_early_is_refused_whole(client: TestClient, jpeg: bytes, path: str) -> None:
    """At whatever byte: in the second photograph, in its head, before and in the closing boundary."""
    second = len(form_of(jpeg)) - len(b"--x--\r\n")
    whole = form_of(jpeg, jpeg)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    for end in (
        0,
        2,
        30,
        second - 1,
        second,
        second + 1,
        second + 30,
        second + 200,
        *range(len(whole) - 10, len(whole) - 2),
    ):
        answer = client.post(path, content=whole[:end], headers=kind)
        assert (answer.status_code, problem(answer)["code"]) == (400, "request"), end
        assert "ends early" in answer.json()["detail"]
    for end in (len(whole) - 2, len(whole)):  # the line break after it is nobody's loss
        answer = client.post(path, content=whole[:end], headers=kind)
        assert "ends early" not in answer.text[:300]


@pytest.mark.parametrize("path", ["assess", "assess-many", "assess-lesion"])
@pytest.mark.parametrize("field", ["prevalence", "operating_point", "heatmap", "whatever"])
def test_an_option_in_the_form_is_not_lost_without_a_word(
    client: TestClient, jpeg: bytes, path: str, field: str
) -> None:
    answer = client.post(f"{API}/{path}", files=files(jpeg), data={"csrf_token": "", field: "0.02"})
    assert (answer.status_code, problem(answer)["code"]) == (422, "validation")
    assert answer.json()["detail"] == f"{field}: The form holds files alone; options go into the query."


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"a%22b%22.jpg", 'a"b".jpg'),
        (b"a%0D%0Ab.jpg", "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b.jpg"),
        (b"100%25 %41.jpg", "100%25 %41.jpg"),
        (b"back\\slash.png", "slash.png"),
    ],
)
def test_names_are_read_as_browsers_write_them(
    client: TestClient, jpeg: bytes, sent: bytes, shown: str
) -> None:
    body = form_of(jpeg).replace(b"a.jpg", sent)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    one = client.post(f"{API}/assess", content=body, headers=kind).json()
    [many] = client.post(f"{API}/assess-many", content=body, headers=kind).json()["results"]
    assert one["images"][0]["name"] == many["name"] == many["assessment"]["images"][0]["name"] == shown
    page = client.post("/assess", content=body, headers=kind).text
    assert shown in html.unescape(page)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/login", "GET, HEAD, POST"),
        ("GET", f"{API}/assess", "POST"),
        ("HEAD", f"{API}/assess", "POST"),
        ("POST", "/about", "GET, HEAD"),
        ("POST", f"{assets.path()}/app.js", "GET, HEAD"),
    ],
)
def test_a_refused_method_is_answered_with_those_there_are(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_a_limit_is_told_by_the_name_of_its_setting(make_client, jpeg: bytes) -> None:
    client = make_client(max_image_pixels=10_000, max_image_bytes=len(jpeg) + 1)
    assert "max_image_pixels" in problem(client.post(f"{API}/assess", content=jpeg))["remedy"]
    [long] = client.post(f"{API}/assess-many", files=files(jpeg + b"ab")).json()["results"]
    assert "max_image_bytes" in long["problem"]["remedy"]


def test_a_bad_file_among_several_spoils_no_other(client: TestClient, jpeg: bytes) -> None:
    answer = client.post(f"{API}/assess-many", files=files(jpeg, jpeg[:700], b"hello", jpeg))
    assert answer.status_code == 200
    first, cut, text, last = answer.json()["results"]
    assert first["problem"] is None
    assert from_jsonable(first["assessment"]).name == "0.jpg"
    assert cut["problem"]["code"] == "image-truncated"
    assert cut["name"] == "1.jpg"
    assert text["problem"]["code"] == "image-not-an-image"
    assert from_jsonable(last["assessment"]).name == "3.jpg"


def test_a_lesion_of_several_images_has_one_answer(client: TestClient, jpeg: bytes) -> None:
    other = encode(lesion(200, 150, seed=4), "PNG")
    answer = client.post(f"{API}/assess-lesion", files=files(jpeg, other))
    assert [image["name"] for image in answer.json()["images"]] == ["0.jpg", "1.jpg"]
    assert (
        problem(client.post(f"{API}/assess-lesion", files=files(jpeg, b"x")))["code"] == "image-not-an-image"
    )


def test_what_the_bundle_is(client: TestClient, tiny_bundle: Bundle) -> None:
    assert Manifest.model_validate_json(client.get(f"{API}/bundle").content) == tiny_bundle.manifest
    card = client.get(f"{API}/bundle/card")
    assert card.text == tiny_bundle.card
    assert card.headers["content-type"] == "text/markdown; charset=utf-8"
    assert client.get(f"{API}/schema/assessment").json() == json_schema()


def test_health_and_readiness(client: TestClient, app: FastAPI) -> None:
    assert client.get(f"{API}/health").json() == {"status": "ok"}
    assert client.get(f"{API}/ready").json() == {"status": "ready"}
    app.state.service._accepted["other"] = app.state.service.limits.queue
    full = client.get(f"{API}/ready")
    app.state.service._accepted.clear()
    assert problem(full)["code"] == "overloaded"
    assert full.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "path", ["/", "/about", f"{API}/health", f"{API}/bundle", f"{assets.path()}/app.js", "/metrics"]
)
def test_head_is_get_without_its_body(client: TestClient, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    varying = {"x-request-id", "content-length" if path == "/metrics" else ""}
    told = [
        {name: value for name, value in one.headers.items() if name not in varying} for one in (got, head)
    ]
    assert told[0] == told[1]
    assert {'method="HEAD"'} <= set(re.findall(r'method="HEAD"', client.get("/metrics").text))


def test_head_is_answered_only_where_get_is(client: TestClient) -> None:
    assert client.head(f"{API}/assess").status_code == 405
    assert client.head("/nothing").status_code == 404


def test_it_is_not_ready_without_room_for_an_image(client: TestClient, app: FastAPI) -> None:
    buffers = app.state.buffers
    for other in "ab":
        asyncio.run(buffers.hold(150 * 1024**2, client=other))
    assert client.get(f"{API}/ready").status_code == 503
    buffers.free(150 * 1024**2, client="b")
    assert client.get(f"{API}/ready").status_code == 200


@pytest.mark.parametrize(
    "prevalence",
    ["1", "5", "0", "-0.1", "inf", "nan", "1e-400", "1e-300", "0.999999999", "0.0_5", "1_0e-2", "\u0660.5"],
)
def test_a_prevalence_of_per_cent_is_refused_with_a_hint(
    client: TestClient, jpeg: bytes, prevalence: str
) -> None:
    answer = client.post(f"{API}/assess", params={"prevalence": prevalence}, content=jpeg)
    assert (answer.status_code, problem(answer)["code"]) == (422, "validation")
    assert "it is a fraction, 0.05 for 5 %" in answer.json()["detail"]


def test_the_description_says_that_prevalence_is_a_fraction(client: TestClient) -> None:
    paths = client.get(f"{API}/openapi.json").json()["paths"]
    for path in ("assess", "assess-many", "assess-lesion"):
        [stated] = [p for p in paths[f"{API}/{path}"]["post"]["parameters"] if p["name"] == "prevalence"]
        assert "0.05 for 5 %" in stated["description"]
        [number] = [one for one in stated["schema"]["anyOf"] if one["type"] == "number"]
        assert number == {"type": "number", "minimum": 0.00001, "maximum": 0.99999}


def test_an_overloaded_server_says_when_to_come_again(client: TestClient, app: FastAPI, jpeg: bytes) -> None:
    app.state.service._accepted["other"] = app.state.service.limits.queue
    answer = client.post(f"{API}/assess", content=jpeg)
    app.state.service._accepted.clear()
    assert answer.status_code == 503
    assert problem(answer)["code"] == "overloaded"
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("method", "path", "how", "status", "code"),
    [
        ("GET", "/nothing", {}, 404, "not-found"),
        ("GET", "/assess", {}, 405, "method-not-allowed"),
        ("POST", "/assess", {}, 422, "image-empty"),
        ("POST", "/assess", {"content": b"\xff\xd8\xff"}, 422, "image-truncated"),
        ("POST", "/assess", {"content": b"text"}, 415, "image-not-an-image"),
        ("POST", "/assess?prevalence=2", {"content": b"x"}, 422, "validation"),
        ("POST", "/assess?prevalence=nan", {"content": b"x"}, 422, "validation"),
        ("POST", "/assess?operating_point=", {"content": b"x"}, 422, "validation"),
        ("POST", "/assess?unknown=1", {"content": b"x"}, 422, "validation"),
        ("POST", "/assess?prevalence=0.1&prevalence=0.2", {"content": b"x"}, 400, "request"),
        ("POST", "/assess?operating_point=nonsense", {"content": b"x"}, 400, "usage"),
        ("POST", "/assess", {"files": files(b"a", b"b")}, 400, "request"),
        ("POST", "/assess", {"files": {"image": b"x"}, "data": {"a": "b" * 5000}}, 400, "request"),
        ("POST", "/assess-many", {"data": {}, "files": {}}, 400, "request"),
        ("POST", "/assess-many", {"data": {"csrf_token": "b"}}, 400, "request"),
        ("POST", "/assess-many", {"json": {"a": "b"}}, 400, "request"),
        ("POST", "/assess-many", {"files": files(*[b"x"] * 51)}, 413, "request-too-large"),
        (
            "POST",
            "/assess-many",
            {"content": b"--x\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            400,
            "request",
        ),
        (
            "POST",
            "/assess-many",
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "request",
        ),
    ],
)  # fmt: skip
def test_whatever_goes_wrong_has_one_shape(
    client: TestClient, method: str, path: str, how: dict[str, object], status: int, code: str
) -> None:
    answer = client.request(method, f"{API}{path}", **how)
    assert answer.status_code == status, answer.text
    assert problem(answer)["code"] == code


def test_a_fault_of_ours_tells_nothing_but_its_id(
    client: TestClient, app: FastAPI, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("patient-name.jpg")

    monkeypatch.setattr(app.state.service.assessor, "conclude", fail)
    answer = client.post(f"{API}/assess", content=jpeg)
    assert answer.status_code == 500
    members = problem(answer)
    assert members["code"] == "internal"
    assert "ZeroDivisionError" not in answer.text
    [record] = [record for record in caplog.records if record.msg == "fault"]
    assert record.fault[0] == "ZeroDivisionError"
    assert record.request_id == members["request_id"]
    assert "patient-name" not in str(vars(record))


def test_a_client_that_hangs_up_is_no_fault_of_ours(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pytest.fail(f"{message} is sent to nobody")

    scope = {"type": "http", "method": "POST", "path": f"{API}/assess", "query_string": b"", "scheme": "http",
             "headers": [(b"host", b"localhost"), (b"content-length", b"9")]}  # fmt: skip
    caplog.set_level(logging.INFO, "melascope.web")
    asyncio.run(app(scope, receive, send))
    [record] = [record for record in caplog.records if record.name == "melascope.web"]
    assert (record.levelname, record.status) == ("INFO", 499)


def test_the_list_of_problems_holds_every_code(client: TestClient) -> None:
    listed = client.get(f"{API}/problems").json()

    def codes(kind: type[MelascopeError]) -> set[str]:
        return {kind.code}.union(*map(codes, kind.__subclasses__()))

    assert codes(MelascopeError) | {"not-found", "method-not-allowed", "internal", "validation"} <= set(
        listed
    ) | {"server"}
    assert all(entry["meaning"] for entry in listed.values())


def test_the_same_bytes_below_a_base_path(make_client, jpeg: bytes) -> None:
    client = make_client(base_path="/skin/melascope")
    below = client.post(f"/skin/melascope{API}/assess", content=jpeg)
    assert below.status_code == 200
    refused = client.post(f"/skin/melascope{API}/assess", content=b"x").json()
    assert refused["type"] == f"/skin/melascope{API}/problems#image-not-an-image"
    assert client.get(f"/skin/melascope{API}/openapi.json").json()["servers"] == [{"url": "/skin/melascope"}]


def test_metrics_count_what_happened_and_name_no_file(client: TestClient, jpeg: bytes) -> None:
    def value(line: str) -> float:
        found = [one for one in client.get("/metrics").text.splitlines() if one.startswith(line)]
        return float(found[0].split()[-1]) if found else 0.0

    answered = f'melascope_requests_total{{method="POST",route="{API}/assess",status="200"}}'
    refused = 'melascope_problems_total{code="image-not-an-image"}'
    before = value(answered), value(refused)
    client.post(f"{API}/assess", content=jpeg, params={"name": "secret.jpg"})
    client.post(f"{API}/assess", content=b"x")
    client.get("/secret/path")
    assert (value(answered), value(refused)) == (before[0] + 1, before[1] + 1)
    assert "secret" not in client.get("/metrics").text
    assert value("melascope_requests_in_flight") == 1  # this one


def test_json_is_compact_and_lossless(client: TestClient, jpeg: bytes) -> None:
    body = client.post(f"{API}/assess", content=jpeg).content
    assert json.loads(body) == json.loads(json.dumps(json.loads(body)))
    assert api.OUTCOMES.validate_json(client.post(f"{API}/assess-many", files=files(jpeg)).content).results
