"""What an answer over HTTP costs, beside the bare runtime and a plain FastAPI server of the same network in torch.

Run on an otherwise idle machine: `make bench`. Everything is measured in one run on loopback with a drawn lesion as
a 600x450 JPEG, heatmap included; prints figures and ratios and writes benchmarks/results/serve.json.
`--uploads 10000` watches the server's memory over so many uploads; `--requests 40` makes a short run.
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
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from melascope.bundle.catalogue import load_bundle
from melascope.imaging.decode import decode_image
from melascope.runtime.assessor import Assessor
from melascope.runtime.session import default_threads

ROOT = Path(__file__).parents[1]
USERS = 16


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
    for number in range(requests + 5):
        began = time.perf_counter()
        connection.request("POST", path, data)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        if number >= 5:  # the first do not count
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


def bare(assessor: Assessor, data: bytes, requests: int) -> list[float]:
    """Milliseconds of decoding and assessing in this process, without HTTP."""

    def call() -> None:
        assessor.assess([decode_image(data, name="x")], heatmap=True)

    return timed(call, requests)


def timed(call: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of each call, after a few that do not count."""
    for _ in range(5):
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


def measure_server(host: str, port: int, path: str, data: bytes, requests: int) -> dict[str, float]:
    """One user, then many."""
    times = one_user(host, port, path, data, requests)
    throughput, failed = many_users(host, port, path, data, 2 * requests)
    return {
        "p50_ms": statistics.median(times),
        "p95_ms": percentile(times, 0.95),
        f"answers_per_s_{USERS}_users": throughput,
        "failed": failed,
    }


def main() -> None:
    """Measure, print, record."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bundle")
    options.add_argument("--requests", type=int, default=200)
    options.add_argument("--uploads", type=int, default=0)
    asked = options.parse_args()
    bundle, data = load_bundle(asked.bundle), photograph()
    path = "/api/v1/assess?heatmap=true"
    serve = [sys.executable, "-m", "melascope", "serve", "--port", "0"]
    if asked.bundle:
        serve += ["--bundle", asked.bundle]
    figures: dict[str, dict[str, float]] = {}
    with running(serve) as (host, port, server, ready_s):
        figures["melascope serve"] = measure_server(host, port, path, data, asked.requests)
        figures["melascope serve"] |= {"ready_s": ready_s, "resident_mib": resident_mib(server)}
        if asked.uploads:
            many_users(host, port, path, data, asked.uploads // 10)
            early = resident_mib(server)
            _, failed = many_users(host, port, path, data, asked.uploads - asked.uploads // 10)
            figures["memory"] = {
                "uploads": asked.uploads,
                "failed": failed,
                "resident_mib_after_a_tenth": early,
                "resident_mib_at_the_end": resident_mib(server),
            }
    times = bare(Assessor(bundle), data, asked.requests)
    figures["bare runtime"] = {
        "p50_ms": statistics.median(times),
        "p95_ms": percentile(times, 0.95),
        "answers_per_s": 1000 / statistics.mean(times),
    }
    plain = [sys.executable, str(ROOT / "benchmarks" / "plain_server.py"), bundle.manifest.model_dump_json()]
    with running(plain) as (host, port, _, ready_s):
        figures["FastAPI + torch"] = measure_server(host, port, path, data, asked.requests)
        figures["FastAPI + torch"]["ready_s"] = ready_s
    ours, theirs, base = (figures[name] for name in ("melascope serve", "FastAPI + torch", "bare runtime"))
    throughput = f"answers_per_s_{USERS}_users"
    ratios = {
        "p50, served to bare": ours["p50_ms"] / base["p50_ms"],
        "throughput, served to bare": ours[throughput] / base["answers_per_s"],
        "p50, FastAPI + torch to ours": theirs["p50_ms"] / ours["p50_ms"],
        "throughput, ours to FastAPI + torch": ours[throughput] / theirs[throughput],
    }
    report(bundle.id, figures, ratios)


def report(bundle_id: str, figures: dict[str, dict[str, float]], ratios: dict[str, float]) -> None:
    """Print and record."""
    print(f"{bundle_id}, {default_threads()} processors, 600x450 JPEG with heatmap")
    for name, values in figures.items():
        print(f"{name:18} " + ", ".join(f"{what} {value:.4g}" for what, value in values.items()))
    for name, value in ratios.items():
        print(f"{name:38} {value:6.2f}")
    record = {
        "bundle": bundle_id,
        "processors": default_threads(),
        "processor": platform.processor() or platform.machine(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "figures": {
            name: {what: round(value, 3) for what, value in values.items()}
            for name, values in figures.items()
        },
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
    }
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    (results / "serve.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
