"""A real `melascope serve` in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx


class LiveServer:
    """Started on a free port of loopback; stopped at the end of a `with` block.

    Parameters
    ----------
    bundle
        That answers.
    options
        Of `melascope serve`.
    config
        The text of a settings file in TOML.
    """

    def __init__(self, bundle: Path, folder: Path, *options: str, config: str | None = None) -> None:
        arguments = [
            sys.executable,
            "-m",
            "melascope",
            "serve",
            "--port",
            "0",
            "--bundle",
            str(bundle),
            *options,
        ]
        if config is not None:
            file = folder / "serve.toml"
            file.write_text(config)
            arguments += ["--config", str(file)]
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"},
        )
        self.log: list[str] = []
        threading.Thread(target=self._read_log, daemon=True).start()
        self.address = self._address()

    def __enter__(self) -> LiveServer:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.address}/api/v1/ready", timeout=5).is_success:
                    return self
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError("\n".join(self.log))

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self.process.stdout.close()

    def connect(self) -> socket.socket:
        """A bare connection."""
        url = httpx.URL(self.address)
        connection = socket.create_connection((url.host, url.port), timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def wait_for_log(self, text: str, *, seconds: float = 20) -> None:
        """Until a line of the log holds the text."""
        deadline = time.monotonic() + seconds
        while not any(text in line for line in self.log):
            assert time.monotonic() < deadline, "\n".join(self.log)
            time.sleep(0.02)

    def _address(self) -> str:
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+?(?=/ )", line)
        assert found, "\n".join([line, *self.log])
        return found[0]

    def _read_log(self) -> None:
        with self.process.stderr as lines:
            for line in lines:
                self.log.append(line.rstrip())


def read_answer(connection: socket.socket) -> bytes:
    """All that comes until the other side closes, or 20 seconds pass."""
    parts = []
    while True:
        try:
            part = connection.recv(65536)
        except (TimeoutError, ConnectionResetError):
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)
