"""Who is signed in, and who failed to: shared by the worker processes of one server, gone with it."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from melascope.errors import MelascopeError, OverloadedError, TooManyRequestsError, UnauthenticatedError

# OWASP's password storage cheat sheet: Argon2id, 19 MiB, 2 passes, 1 lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

_MOST_KIB, _MOST_PASSES, _MOST_LANES = 128 * 1024, 10, 16  # of a hash that somebody else made
#: A salt of 16 bytes and a digest of 32, the bits that base64 leaves over being zero: Argon2 refuses nothing of it.
_HASH = re.compile(
    r"\$argon2id\$v=19\$m=([1-9][0-9]{0,5}),t=([1-9][0-9]?),p=([1-9][0-9]?)"
    r"\$[A-Za-z0-9+/]{21}[AQgw]\$[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]"
)

_KEY_BYTES = 32
_FAILURE_MEMORY_S = 15 * 60
#: Failures within that time after which an answer is refused: of one name from one address, from one address, of one
#: name from anywhere (high, so that a stranger can hardly lock somebody out).
_MOST_FAILURES = (5, 20, 100)

_TABLES = """
CREATE TABLE IF NOT EXISTS session (digest TEXT PRIMARY KEY, user TEXT NOT NULL, ends REAL NOT NULL);
CREATE TABLE IF NOT EXISTS failure (subject TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS failure_subject ON failure (subject, at);
"""


def hash_password(password: str) -> str:
    """The Argon2id hash that stands for a password in the settings."""
    return _HASHER.hash(password)


def can_be_verified(password_hash: str) -> bool:
    """Whether some password may belong to an Argon2id hash: whether it is whole, and of bounded cost to check."""
    whole = _HASH.fullmatch(password_hash)
    if whole is None:
        return False
    memory_kib, passes, lanes = map(int, whole.groups())
    return 8 * lanes <= memory_kib <= _MOST_KIB and passes <= _MOST_PASSES and lanes <= _MOST_LANES


class Sessions:
    """Sessions by an opaque token, of which the SHA-256 is kept.

    Parameters
    ----------
    folder
        Private to this server; made by `melascope serve` and shared by its processes.
    passwords
        Argon2id hashes by user name.
    hours
        How long a session lasts.
    """

    def __init__(self, folder: Path, passwords: Mapping[str, str], *, hours: float) -> None:
        self._passwords = passwords
        self._seconds = hours * 3600
        self._path = folder / "sessions.sqlite"
        self._one_hash_at_a_time = asyncio.Semaphore(1)  # each takes memory and a processor
        self._nobodys = _HASHER.hash(secrets.token_hex(16))
        self.key = _shared_key(folder / "key")  #: of CSRF tokens
        with self._database() as database:
            database.executescript(_TABLES)

    async def sign_in(self, name: str, password: str, *, address: str) -> str:
        """Start a session; returns its token. See `security.sign_in`."""
        network = _network(address)
        subjects = (f"{name}\n{network}", f"\n{network}", f"{name}\n")
        async with self._one_hash_at_a_time:
            self._refuse_guessing(subjects)
            known = self._passwords.get(name, self._nobodys)  # as much work for a name that nobody has
            if not await asyncio.to_thread(_verify, known, password) or name not in self._passwords:
                self._remember_failure(subjects)
                raise UnauthenticatedError(
                    "The name and the password do not belong together.", remedy="Check both and try again."
                )
        token = secrets.token_urlsafe(32)
        now = time.time()
        with self._database() as database:
            database.execute("DELETE FROM session WHERE ends < ?", (now,))
            database.execute(
                "INSERT INTO session VALUES (?, ?, ?)", (_digest(token), name, now + self._seconds)
            )
        return token

    def user_of(self, token: str) -> str | None:
        """The user who is signed in with this token."""
        with self._database() as database:
            row = database.execute(
                "SELECT user FROM session WHERE digest = ? AND ends > ?", (_digest(token), time.time())
            ).fetchone()
        return row[0] if row is not None and row[0] in self._passwords else None

    def end(self, token: str) -> None:
        """Sign out."""
        with self._database() as database:
            database.execute("DELETE FROM session WHERE digest = ?", (_digest(token),))

    def _refuse_guessing(self, subjects: tuple[str, ...]) -> None:
        since = time.time() - _FAILURE_MEMORY_S
        with self._database() as database:
            for subject, most in zip(subjects, _MOST_FAILURES, strict=True):
                count, oldest = database.execute(
                    "SELECT count(*), min(at) FROM failure WHERE subject = ? AND at > ?", (subject, since)
                ).fetchone()
                if count >= most:
                    raise TooManyRequestsError(
                        "Too many attempts to sign in have failed.",
                        remedy="Wait a quarter of an hour, or ask who runs this server.",
                        retry_after_s=max(1, int(oldest - since)),
                    )

    def _remember_failure(self, subjects: tuple[str, ...]) -> None:
        now = time.time()
        with self._database() as database:
            database.execute("DELETE FROM failure WHERE at < ?", (now - _FAILURE_MEMORY_S,))
            database.executemany(
                "INSERT INTO failure VALUES (?, ?)", [(subject, now) for subject in subjects]
            )

    def _database(self) -> _Transaction:
        return _Transaction(self._path)


class _Transaction:
    """A connection for one transaction; SQLite's own locks keep the processes apart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection = sqlite3.connect(self._path, timeout=5)
        except sqlite3.Error as fault:
            raise _unwritten() from fault
        return self._connection.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with closing(self._connection):
                self._connection.__exit__(kind, fault, trace)
        except sqlite3.Error as failed:
            raise _unwritten() from failed
        if isinstance(fault, sqlite3.Error):
            raise _unwritten() from fault


def _unwritten() -> OverloadedError:
    return OverloadedError(
        "Who is signed in cannot be looked up or written down just now.",
        remedy="Try again in a moment; if it stays so, the server's disk may be full.",
        retry_after_s=5,
    )


def _verify(known: str, password: str) -> bool:
    try:
        return _HASHER.verify(known, password)
    except (VerificationError, InvalidHashError):
        return False


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _shared_key(path: Path) -> bytes:
    """The first process makes it, whole at once, and the others read it."""
    with tempfile.TemporaryDirectory(dir=path.parent) as private, suppress(FileExistsError):
        draft = Path(private) / "key"
        draft.touch(0o600)
        draft.write_bytes(secrets.token_bytes(_KEY_BYTES))
        path.hardlink_to(draft)
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise MelascopeError(
            f"The key of this server's forms has {len(key)} bytes, not {_KEY_BYTES}.",
            remedy="Start the server again.",
        )
    return key


def _network(address: str) -> str:
    """By which an address is counted: whoever has one of IPv6 has the 2⁶⁴ beside it."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip), 64), strict=False))
