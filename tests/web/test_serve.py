"""`melascope serve`: starting, refusing to start, stopping, several workers."""

from __future__ import annotations

import os
import platform
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from drawn import encode, lesion
from live_server import LiveServer, read_answer
from web_accounts import PASSWORD, TOKEN, csrf_of

from melascope.web.security import digest_of
from melascope.web.sessions import hash_password
from melascope.web.settings import load_settings

API = "/api/v1"


def worker_ids(server: LiveServer) -> set[int]:
    """Processes that say that they serve."""
    lines = [line for line in server.log if "Started server process" in line]
    return {int(re.search(r"\[(\d+)\]", line)[1]) for line in lines}


def test_stopping_finishes_what_was_accepted_and_leaves_nothing(
    start_server: Callable[..., LiveServer], jpeg: bytes
) -> None:
    server = start_server("--threads", "1")
    head = f"POST {API}/assess HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
    with server.connect() as half, server.connect() as idle:  # the idle one is not waited for
        half.sendall(head + jpeg[:500])
        idle.sendall(b"GET /")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("Shutting down")
        half.sendall(jpeg[500:])
        answer = read_answer(half)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"melanoma_probability" in answer
    assert server.stop() == 0
    assert not list(server.temporary.glob("melascope-*"))


def test_an_interrupt_ends_it_without_a_traceback(start_server: Callable[..., LiveServer]) -> None:
    server = start_server()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(20) == 0
    assert not [line for line in server.log if "Traceback" in line]


def test_a_taken_port_is_told(start_server: Callable[..., LiveServer], tiny_bundle_path: Path) -> None:
    port = httpx.URL(start_server().address).port
    ended = serve("--port", str(port), "--bundle", str(tiny_bundle_path))
    assert ended.returncode == 2
    assert f"port {port}: the server cannot listen there" in ended.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_corrupted_bundle_is_told_before_anything_starts(
    tiny_bundle_path: Path, tmp_path: Path, workers: str
) -> None:
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(tiny_bundle_path) as sound, zipfile.ZipFile(broken, "w") as altered:
        for name in sound.namelist():
            data = sound.read(name)
            altered.writestr(name, data[:-1] + b"!" if name == "model.onnx" else data)
    ended = serve("--port", "0", "--workers", workers, "--bundle", str(broken))
    assert ended.returncode == 6
    assert "model.onnx was altered" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bundle_is_a_plain_file_of_bounded_size(tmp_path: Path) -> None:
    sparse, pipe = tmp_path / "sparse.zip", tmp_path / "pipe.zip"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    os.mkfifo(pipe)
    for path, said in (("/dev/zero", "plain file"), (pipe, "plain file"), (sparse, "at most")):
        ended = serve("--port", "0", "--bundle", str(path))
        assert ended.returncode == 6
        assert f"{path}: " in ended.stderr
        assert said in ended.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_thread_that_does_not_end_does_not_keep_the_process(
    start_server: Callable[..., LiveServer],
    tmp_path: Path,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time, melascope.web.service, melascope.web.run\n"
        "melascope.web.service.decode_image = lambda *_, **__: time.sleep(45)\n"
        "melascope.web.run._CLOSE_S = 0.5\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = start_server("--workers", str(workers), "--threads", "1", config="shutdown_seconds = 1\n")
    with server.connect() as connection:
        head = f"POST {API}/assess HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        connection.sendall(head.encode() + jpeg)
        time.sleep(0.5)
        began = time.monotonic()
        ended = server.stop()
    assert time.monotonic() - began < 15
    assert ended == (1 if workers == 1 else 0)  # a parent's own end is in order
    [told] = [line for line in server.log if "given up" in line]
    assert "decode_0" in told
    assert not list(server.temporary.glob("melascope-*"))


def test_elsewhere_it_does_not_start_without_somebody_to_sign_in() -> None:
    ended = serve("--host", "0.0.0.0", "--port", "0")
    assert ended.returncode == 2
    assert "nobody would have to sign in" in ended.stderr


@pytest.mark.parametrize(("setting", "told"), [("", True), ("insecure_cookies = true\n", False)])
def test_the_start_says_what_signing_in_needs(
    start_server: Callable[..., LiveServer], setting: str, told: bool
) -> None:
    """And the sequence of the how-to works for a trial."""
    config = f'{setting}[users.ana]\npassword = "{hash_password(PASSWORD)}"\n'
    server = start_server("--host", "0.0.0.0", config=config)
    port = httpx.URL(server.address).port
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        form = {"name": "ana", "password": PASSWORD, "csrf_token": csrf_of(client.get("/login").text)}
        assert (client.post("/login", data=form).status_code == 303) is not told
    server.process.send_signal(signal.SIGTERM)
    rest = server.process.stdout.read()
    assert ("insecure_cookies" in rest) is told


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told what to keep")
def test_a_burst_of_large_images_leaves_little_behind(start_server: Callable[..., LiveServer]) -> None:
    server = start_server()
    status = Path(f"/proc/{server.process.pid}/status")

    def resident_mib() -> float:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1]) / 1024

    large = encode(lesion(2400, 1800), "JPEG")
    before = resident_mib()
    with ThreadPoolExecutor(6) as senders:
        answers = [
            senders.submit(httpx.post, f"{server.address}/assess", files={"image": large}, timeout=60)
            for _ in range(12)
        ]
    assert {answer.result().status_code for answer in answers} == {200}
    assert resident_mib() - before < 80  # 40 to 50 MiB; 120 by the allocator's own ways


def test_no_space_on_the_disk_stops_nobody_but_who_would_sign_in(
    start_server: Callable[..., LiveServer],
) -> None:
    server = start_server(
        config=f'[users.ana]\npassword = "{hash_password(PASSWORD)}"\n[tokens.pacs]\nsha256 = "{digest_of(TOKEN)}"\n'
    )
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, 0))
    with httpx.Client(base_url=server.address, timeout=30) as client:
        large = encode(lesion(1500, 1100), "TIFF")  # beyond what parsers of forms keep in memory
        answer = client.post(
            f"{API}/assess-many", files={"image": large}, headers={"Authorization": f"Bearer {TOKEN}"}
        )
        assert answer.json()["results"][0]["problem"] is None
        form = {"name": "ana", "password": PASSWORD, "csrf_token": csrf_of(client.get("/login").text)}
        refused = client.post("/login", data=form)
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")


def test_more_connections_than_files_are_dropped_and_the_service_goes_on(
    start_server: Callable[..., LiveServer], jpeg: bytes
) -> None:
    server = start_server()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (700, 700))
    with ExitStack() as idle:
        for _ in range(800):
            idle.enter_context(server.connect())
    answer = httpx.post(f"{server.address}{API}/assess", content=jpeg, timeout=30)
    assert answer.status_code == 200
    assert not [line for line in server.log if "out of system resource" in line]


def test_a_killed_worker_is_replaced_and_the_service_goes_on(
    start_server: Callable[..., LiveServer], jpeg: bytes
) -> None:
    server = start_server("--workers", "2", "--threads", "1")
    deadline = time.monotonic() + 30
    while len(worker_ids(server)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    statuses: list[int] = []
    broken: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                statuses.append(
                    httpx.post(f"{server.address}{API}/assess", content=jpeg, timeout=60).status_code
                )
            except httpx.HTTPError as fault:
                broken.append(type(fault).__name__)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    time.sleep(1)
    os.kill(min(worker_ids(server)), signal.SIGKILL)
    deadline = time.monotonic() + 120
    while len(worker_ids(server)) < 3:
        assert time.monotonic() < deadline, "\n".join(line for line in server.log if '"request"' not in line)
        time.sleep(0.1)
    before = len(statuses)
    time.sleep(1.5)
    stop.set()
    for asker in askers:
        asker.join()
    assert set(statuses) == {200}
    assert len(statuses) > before
    assert len(broken) <= 2  # no more than the killed worker had in hand
    text = httpx.get(f"{server.address}/metrics").text
    assert re.search(r'requests_total\{method="POST",route="/api/v1/assess",status="200"\} \d+', text)
    assert "melascope_requests_in_flight 1.0" in text
    assert server.stop() == 0
    assert not list(server.temporary.glob("melascope-*"))


def test_workers_share_sessions_and_the_bundle_they_started_with(
    start_server: Callable[..., LiveServer], tmp_path: Path, jpeg: bytes
) -> None:
    config = f'workers = 2\nthreads = 1\n[users.ana]\npassword = "{hash_password(PASSWORD)}"\n'
    server = start_server(config=config)
    with httpx.Client(base_url=server.address) as client:
        csrf = csrf_of(client.get("/login").text)
        form = {"name": "ana", "password": PASSWORD, "csrf_token": csrf}
        assert client.post("/login", data=form).status_code == 303
        cookies = dict(client.cookies)
    for _ in range(12):  # a connection each, so that both workers are asked
        assert httpx.get(f"{server.address}{API}/bundle", cookies=cookies).status_code == 200


@pytest.mark.parametrize(
    ("trusted", "believed"),
    [((), False), (("127.0.0.1",), True), (("127.0.0.1/8",), True), (("10.0.0.0/8",), False)],
)
def test_a_proxy_is_believed_only_where_it_is_trusted(
    start_server: Callable[..., LiveServer], trusted: tuple[str, ...], believed: bool
) -> None:
    config = f'[tokens.pacs]\nsha256 = "{digest_of(TOKEN)}"\n'
    server = start_server(*(["--trusted-proxies", ",".join(trusted)] if trusted else []), config=config)
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    answer = httpx.get(f"{server.address}{API}/health", headers=headers)
    assert ("strict-transport-security" in answer.headers) is believed


def test_lines_for_the_settings_are_settings(tmp_path: Path) -> None:
    user = serve("--new-user", "ana", typed=f"{PASSWORD}\n{PASSWORD}\n")
    token = serve("--new-token", "pacs")
    file = tmp_path / "serve.toml"
    file.write_text(user.stdout + token.stdout)
    settings = load_settings({"host": "0.0.0.0"}, file=file, environment={})
    assert set(settings.users) == {"ana"}
    assert set(settings.tokens) == {"pacs"}
    assert PASSWORD not in user.stdout
    assert serve("--new-token", "a b").returncode == 2


def test_a_password_that_is_soon_guessed_is_refused() -> None:
    refused = serve("--new-user", "ana", typed="elevenchars\nelevenchars\n")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "The password has 11 characters.\n  Choose one of at least 12" in refused.stderr


def serve(*arguments: str, typed: str | None = None):
    return subprocess.run(
        [sys.executable, "-m", "melascope", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        input=typed,
        check=False,
    )
