"""What an answer over HTTP costs, beside the bare runtime and a plain FastAPI server of the same network in torch.

Run on an otherwise idle machine: `make bench`, about three minutes. Everything is measured in one run on loopback with
a drawn lesion as a 600x450 JPEG, heatmap included: each contestant answers 400 requests of one user, in four rounds
that take turns and begin with ten requests that do not count, and twice as many of 16 users at once. Prints figures and
ratios and writes benchmarks/results/serve.json. `--uploads 10000` watches the server's memory over so many uploads;
`--requests 40` makes a short run, which is not recorded: its 95th percentile is of two requests.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from PIL import Image

from melascope.bundle.catalogue import load_bundle
from melascope.imaging.decode import decode_image
from melascope.runtime.assessor import Assessor
from melascope.runtime.session import default_threads

ROOT = Path(__file__).parents[1]
USERS = 16
ROUNDS = 4
REQUESTS = 400  # of one user: the 95th percentile has 20 above it
WARM_UP = 10  # of each round
PATH = "/api/v1/assess?heatmap=true"


def photograph() -> bytes:
    """600x450, JPEG."""
    with Image.open(ROOT / "examples" / "drawn-lesion.png") as drawn:
        buffer = io.BytesIO()
        drawn.convert("RGB").resize((600, 450)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


@contextmanager
def running(command: list[str]) -> Iterator[tuple[str, int, subprocess.Popen[str], float]]:
    """A server of its own process: host, port, process, seconds until it was ready."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            found = re.search(r"http://([\d.]+):(\d+)", server.stdout.readline())
            host, port = found[1], int(found[2])
            while ask(host, port, "GET", "/api/v1/ready")[0] != 200:
                time.sleep(0.01)
            yield host, port, server, time.perf_counter() - began
        finally:
            server.terminate()
            server.wait(60)


def ask(host: str, port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """One request on a connection of its own; status 0 where nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=120)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def one_user(host: str, port: int, path: str, data: bytes, requests: int) -> list[float]:
    """Milliseconds of each answer, one after the other on one connection."""
    connection = http.client.HTTPConnection(host, port, timeout=120)
    times = []
    for number in range(requests + WARM_UP):
        began = time.perf_counter()
        connection.request("POST", path, data)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        if number >= WARM_UP:
            times.append((time.perf_counter() - began) * 1000)
    connection.close()
    return times


def many_users(host: str, port: int, path: str, data: bytes, requests: int) -> tuple[float, int]:
    """Answers a second for `USERS` users at once, and how many requests failed."""
    left, lock, failed = requests, threading.Lock(), 0

    def use() -> None:
        nonlocal left, failed
        connection = http.client.HTTPConnection(host, port, timeout=120)
        while True:
            with lock:
                if not left:
                    break
                left -= 1
            connection.request("POST", path, data)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                with lock:
                    failed += 1
        connection.close()

    users = [threading.Thread(target=use) for _ in range(USERS)]
    began = time.perf_counter()
    for user in users:
        user.start()
    for user in users:
        user.join()
    return requests / (time.perf_counter() - began), failed


def timed(call: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of each call, after a few that do not count."""
    for _ in range(WARM_UP):
        call()
    times = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1000)
    return times


def resident_mib(process: subprocess.Popen[str]) -> float:
    """Memory of the process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def percentile(times: list[float], share: float) -> float:
    """By rank."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


class Measured:
    """What one contestant showed, over all rounds."""

    def __init__(self) -> None:
        self.times_ms: list[float] = []
        self.answers = self.failed = 0
        self.seconds = 0.0

    def add_users(self, host: str, port: int, data: bytes, requests: int) -> None:
        """One user's requests, then twice as many of many users at once."""
        self.times_ms += one_user(host, port, PATH, data, requests)
        per_s, failed = many_users(host, port, PATH, data, 2 * requests)
        self.answers += 2 * requests
        self.failed += failed
        self.seconds += 2 * requests / per_s

    def figures(self) -> dict[str, float]:
        """By name."""
        return {
            "p50_ms": statistics.median(self.times_ms),
            "p95_ms": percentile(self.times_ms, 0.95),
            "answers_per_s": self.answers / self.seconds,
            "failed": self.failed,
        }


def main() -> None:
    """Measure, print, record."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bundle")
    options.add_argument("--requests", type=int, default=REQUESTS)
    options.add_argument("--uploads", type=int, default=0)
    options.add_argument("--without-torch", action="store_true", help="leave the plain server out")
    asked = options.parse_args()
    bundle, data = load_bundle(asked.bundle), photograph()
    serve = [sys.executable, "-m", "melascope", "serve", "--port", "0"]
    if asked.bundle:
        serve += ["--bundle", asked.bundle]
    plain = [sys.executable, str(ROOT / "benchmarks" / "plain_server.py"), bundle.manifest.model_dump_json()]
    bare, ours, theirs = Measured(), Measured(), Measured()
    assessor = Assessor(bundle)
    figures: dict[str, dict[str, float]] = {}
    with ExitStack() as servers:
        host, port, server, ready_s = servers.enter_context(running(serve))
        if not asked.without_torch:
            plain_host, plain_port, _, plain_ready_s = servers.enter_context(running(plain))
        for _ in range(ROUNDS):  # in turn, so that what else the machine does falls on all of them
            times = timed(
                lambda: assessor.assess([decode_image(data, name="x")], heatmap=True),
                asked.requests // ROUNDS,
            )
            bare.times_ms += times
            bare.answers += len(times)
            bare.seconds += sum(times) / 1000
            ours.add_users(host, port, data, asked.requests // ROUNDS)
            if not asked.without_torch:
                theirs.add_users(plain_host, plain_port, data, asked.requests // ROUNDS)
        figures["bare runtime"] = bare.figures()
        figures["melascope serve"] = ours.figures() | {
            "ready_s": ready_s,
            "resident_mib": resident_mib(server),
        }
        if not asked.without_torch:
            figures["FastAPI + torch"] = theirs.figures() | {"ready_s": plain_ready_s}
        if asked.uploads:
            figures["memory"] = watch_memory(host, port, server, data, asked.uploads)
    report(bundle.id, figures)
    if asked.requests >= REQUESTS:
        record(bundle.id, figures, asked.requests)


def watch_memory(
    host: str, port: int, server: subprocess.Popen[str], data: bytes, uploads: int
) -> dict[str, float]:
    """Of the server, after a tenth of the uploads and at the end."""
    _, early_failed = many_users(host, port, PATH, data, uploads // 10)
    early = resident_mib(server)
    _, failed = many_users(host, port, PATH, data, uploads - uploads // 10)
    return {
        "uploads": uploads,
        "failed": early_failed + failed,
        "resident_mib_after_a_tenth": early,
        "resident_mib_at_the_end": resident_mib(server),
    }


def ratios_of(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of the contestants to each other."""
    base, ours = figures["bare runtime"], figures["melascope serve"]
    ratios = {
        "p50, ours to bare": ours["p50_ms"] / base["p50_ms"],
        "p95, ours to bare": ours["p95_ms"] / base["p95_ms"],
        "answers a second, ours to bare": ours["answers_per_s"] / base["answers_per_s"],
    }
    if theirs := figures.get("FastAPI + torch"):
        ratios["p50, FastAPI + torch to ours"] = theirs["p50_ms"] / ours["p50_ms"]
        ratios["answers a second, ours to FastAPI + torch"] = ours["answers_per_s"] / theirs["answers_per_s"]
    return ratios


def report(bundle_id: str, figures: dict[str, dict[str, float]]) -> None:
    """Print."""
    print(f"{bundle_id}, {default_threads()} processors, 600x450 JPEG with heatmap, {USERS} users at once")
    for name, values in figures.items():
        print(f"{name:18} " + ", ".join(f"{what} {value:.4g}" for what, value in values.items()))
    for name, value in ratios_of(figures).items():
        print(f"{name:42} {value:6.2f}")


def record(bundle_id: str, figures: dict[str, dict[str, float]], requests: int) -> None:
    """Write down."""
    told = {
        "bundle": bundle_id,
        "processors": default_threads(),
        "processor": platform.processor() or platform.machine(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "requests_of_one_user": requests,
        "warm_up_of_each_round": WARM_UP,
        "users": USERS,
        "figures": {
            name: {what: round(value, 3) for what, value in values.items()}
            for name, values in figures.items()
        },
        "ratios": {name: round(value, 3) for name, value in ratios_of(figures).items()},
    }
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    (results / "serve.json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
