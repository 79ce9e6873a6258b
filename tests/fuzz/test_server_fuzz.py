"""Damaged files of every kind to a running server: each is answered or clearly refused, soon, and the server goes on.

`MELASCOPE_FUZZ_FILES=5000 pytest tests/fuzz/test_server_fuzz.py` sends so many; MELASCOPE_FUZZ_SEED makes others.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from drawn import encode, lesion
from live_server import LiveServer

API = "/api/v1"
_MOST_SECONDS = 15.0
_MOST_MIB = 1500  # of the server, at its peak: an image of 50 million pixels is decoded meanwhile


@pytest.fixture(scope="module")
def server(tiny_bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tiny_bundle_path, tmp_path_factory.mktemp("fuzzed")) as server:
        yield server


def requests(files: list[Path]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What is sent, its address and the rest: every file bare, some of them in each kind of form."""
    for start in range(0, len(files), 5):
        group = files[start : start + 5]
        form = [("image", (path.name.encode(errors="replace").decode(), path.read_bytes())) for path in group]
        for path, (_, (name, data)) in zip(group, form, strict=True):
            yield (
                path.name,
                f"{API}/assess",
                {"content": data, "params": {"heatmap": True, "name": name[:200]}},
            )
        told = f"{group[0].name} and the next"
        yield told, f"{API}/assess-many", {"files": form}
        yield told, f"{API}/assess-lesion", {"files": form[:2]}
        yield group[0].name, "/assess", {"files": form[:1], "headers": {"Accept": "text/html"}}
        yield group[0].name, "/report.pdf", {"files": form[:1]}


def is_clear(answer: httpx.Response) -> bool:
    """An answer, a refusal that says why, or word that there is no room just now."""
    if answer.status_code == 503:
        return answer.json()["code"] == "overloaded" and "retry-after" in answer.headers
    if answer.status_code not in {200, 400, 413, 415, 422}:
        return False
    if answer.headers["content-type"] == "application/problem+json":
        return bool(answer.json()["detail"])
    return True


def test_every_file_has_an_answer_or_a_clear_refusal_soon_and_the_server_goes_on(
    server: LiveServer, malformed_files: Path
) -> None:
    files = [path for path in sorted(malformed_files.iterdir()) if path.is_file()]
    statuses: Counter[int] = Counter()
    with httpx.Client(base_url=server.address, timeout=60) as client:
        for name, path, how in requests(files):
            began = time.monotonic()
            answer = client.post(path, **how)
            assert is_clear(answer), (name, path, answer.status_code, answer.text[:500])
            assert time.monotonic() - began < _MOST_SECONDS, (name, path)
            statuses[answer.status_code] += 1
            for result in (
                answer.json()["results"] if path.endswith("assess-many") and answer.is_success else ()
            ):
                assert (result["assessment"] is None) != (result["problem"] is None), name
                assert result["problem"] is None or result["problem"]["status"] < 500, (
                    name,
                    result["problem"],
                )
        assert client.post(f"{API}/assess", content=encode(lesion(300, 225), "JPEG")).status_code == 200
    assert statuses[200] > 50 < statuses[422], statuses
    assert server.process.poll() is None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    peak_mib = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
    print(f"{len(files)} files: {dict(statuses)}, peak {peak_mib:.0f} MiB")
    assert peak_mib < _MOST_MIB
    assert not [line for line in server.log if '"fault"' in line]
