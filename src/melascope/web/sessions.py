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

from argon2 import PasswordHasher, extract_parameters
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

MOST_NAME_CHARACTERS = 64  # of a user

_KEY_BYTES = 32
_FAILURE_MEMORY_S = 15 * 60
#: Failures within that time after which an answer is refused: of one name from one network, from one network, of one
#: name from anywhere. The last is not for a network from which that user has signed in: no stranger locks it out.
_OF_NAME_AND_NETWORK, _OF_NETWORK, _OF_NAME = 5, 20, 100
#: Rows of failures, 9 MB of them; familiar networks have some to themselves.
_MOST_ROWS, _ROWS_OF_FAMILIAR = 100_000, 10_000
_MOST_OF_USER = 100  # sessions, familiar networks: the oldest make room

_TABLES = """
CREATE TABLE IF NOT EXISTS session (digest TEXT PRIMARY KEY, user TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS familiar (digest BLOB PRIMARY KEY, user TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS failure (subject BLOB NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS failure_subject ON failure (subject, at);
"""
_FORGET_OLDEST = (
    "DELETE FROM {0} WHERE user = :user AND digest NOT IN "
    "(SELECT digest FROM {0} WHERE user = :user ORDER BY at DESC, rowid DESC LIMIT :most)"
)


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
        self._one_attempt_at_a_time = asyncio.Semaphore(1)  # a hash takes memory and a processor
        costs = {_cost(known): known for known in passwords.values()}
        self._nobodys = {cost: _nobodys(known) for cost, known in costs.items()}
        self.key = _shared_key(folder / "key")  #: of CSRF tokens
        with self._database() as database:
            database.executescript(_TABLES)

    async def sign_in(self, name: str, password: str, *, address: str) -> str:
        """Start a session; returns its token. See `security.sign_in`.

        An attempt is written down as a failure before the password is looked at, and crossed out if it was none: where
        nothing can be written, nobody can guess.
        """
        network = network_of(address)
        async with self._one_attempt_at_a_time:
            written = await asyncio.to_thread(self._write_attempt, name, network)
            if not await asyncio.to_thread(self._belong_together, name, password):
                raise UnauthenticatedError(
                    "The name and the password do not belong together.", remedy="Check both and try again."
                )
        token = secrets.token_urlsafe(32)
        now = time.time()
        with self._database() as database:
            database.executemany("DELETE FROM failure WHERE subject = ? AND at = ?", written)
            database.execute("DELETE FROM session WHERE at < ?", (now - self._seconds,))
            database.execute("INSERT INTO session VALUES (?, ?, ?)", (_digest(token), name, now))
            here = self._subject(network, name)
            database.execute("INSERT OR REPLACE INTO familiar VALUES (?, ?, ?)", (here, name, now))
            for table in ("session", "familiar"):
                database.execute(_FORGET_OLDEST.format(table), {"user": name, "most": _MOST_OF_USER})
        return token

    def user_of(self, token: str) -> str | None:
        """The user who is signed in with this token."""
        with self._database() as database:
            row = database.execute(
                "SELECT user FROM session WHERE digest = ? AND at > ?",
                (_digest(token), time.time() - self._seconds),
            ).fetchone()
        return row[0] if row is not None and row[0] in self._passwords else None

    def end(self, token: str) -> None:
        """Sign out."""
        with self._database() as database:
            database.execute("DELETE FROM session WHERE digest = ?", (_digest(token),))

    def _write_attempt(self, name: str, network: str) -> list[tuple[bytes, float]]:
        """Count an attempt as a failure, unless there are too many; returns the rows."""
        now = time.time()
        since = now - _FAILURE_MEMORY_S
        here = self._subject(network, name)
        limits = {self._subject(network): _OF_NETWORK}
        if len(name) <= MOST_NAME_CHARACTERS:  # nobody has a longer one
            limits |= {here: _OF_NAME_AND_NETWORK, self._subject("", name): _OF_NAME}
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")  # no other process counts meanwhile
            database.execute("DELETE FROM failure WHERE at < ?", (since,))
            known = database.execute("SELECT 1 FROM familiar WHERE digest = ?", (here,)).fetchone()
            for subject, most in limits.items():
                count, oldest = database.execute(
                    "SELECT count(*), min(at) FROM failure WHERE subject = ?", (subject,)
                ).fetchone()
                if count >= most and not (known and subject == self._subject("", name)):
                    raise TooManyRequestsError(
                        "Too many attempts to sign in have failed.",
                        remedy="Wait a quarter of an hour, or ask who runs this server.",
                        retry_after_s=max(1, int(oldest - since)),
                    )
            count, oldest = database.execute("SELECT count(*), min(at) FROM failure").fetchone()
            if count + len(limits) > _MOST_ROWS + (_ROWS_OF_FAMILIAR if known else 0):
                raise OverloadedError(
                    "More attempts to sign in have failed than this server keeps count of.",
                    remedy="Wait a quarter of an hour, or ask who runs this server.",
                    retry_after_s=max(1, int((oldest or now) - since)),
                )
            rows = [(subject, now) for subject in limits]
            database.executemany("INSERT INTO failure VALUES (?, ?)", rows)
        return rows

    def _belong_together(self, name: str, password: str) -> bool:
        """As much work whoever it is: a hash of each cost that any user's has."""
        own = self._passwords.get(name)
        hashes = {**self._nobodys, **({_cost(own): own} if own else {})}
        verified = [known for known in hashes.values() if _verify(known, password)]
        return own is not None and own in verified

    def _subject(self, network: str, name: str = "") -> bytes:
        """What is kept of whose failure it was: of fixed size, whatever was sent."""
        said = repr((network, name)).encode()
        return hashlib.blake2b(said, digest_size=16, key=self.key).digest()

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


def _cost(password_hash: str) -> str:
    """Its parameters, as it states them."""
    return password_hash.split("$")[3]


def _nobodys(like: str) -> str:
    """A hash as dear to verify as another, of a password that nobody has."""
    return PasswordHasher.from_parameters(extract_parameters(like)).hash(secrets.token_hex(16))


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


def network_of(address: str) -> str:
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
