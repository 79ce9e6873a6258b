"""How the server runs: from options, the environment (`MELASCOPE_SERVE_*`) and a TOML file, in that order."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from melascope.errors import UsageError
from melascope.web.sessions import MOST_NAME_CHARACTERS, can_be_verified

ENVIRONMENT_PREFIX = "MELASCOPE_SERVE_"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
LEAST_PASSWORD_CHARACTERS = 12

_NAME = rf"^[A-Za-z0-9][A-Za-z0-9._@-]{{0,{MOST_NAME_CHARACTERS - 1}}}$"
_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{1,5})?")


def _listed(value: object) -> object:
    """The environment and the command line write lists with commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _whole(password_hash: str) -> str:
    """One that is cut off or altered would keep its user out without a word, or take the machine's memory."""
    if not can_be_verified(password_hash):
        raise ValueError(
            "this is no whole Argon2id hash of at most 128 MiB, 10 passes and 16 lanes; make it anew with "
            "`melascope serve --new-user NAME`"
        )
    return password_hash


def host_name(stated: str) -> str | None:
    """Of what a Host header states, as hosts are compared: without the port, in lower case; None where it is none."""
    found = _HOST.fullmatch(stated)
    if found is None:
        return None
    if found["name"]:
        return found["name"].lower()
    try:
        return str(ipaddress.IPv6Address(found["address"]))
    except ValueError:
        return None


def _host(stated: str) -> str:
    bare = stated.strip("[]")
    name = host_name(f"[{bare}]" if ":" in bare else bare)
    if name is None:
        raise ValueError(f"{stated!r} is no name and no address; leave scheme, port and path out")
    return name


def _network(stated: str) -> str:
    """As every reader of it takes it: the network of an address with bits of its host, `10.0.0.1/8`, too."""
    try:
        return str(ipaddress.ip_network(stated, strict=False))
    except ValueError:
        raise ValueError(f"{stated!r} is no address or network") from None


Hosts = Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], BeforeValidator(_listed)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_listed)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Token(_Strict):
    """A bearer token of a program; the server knows its SHA-256 only."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    permissions: tuple[Literal["assess", "metrics"], ...] = ("assess",)


class User(_Strict):
    """A person who signs in on the login page; the server knows an Argon2id hash only."""

    password: Annotated[str, AfterValidator(_whole)]


class Settings(_Strict):
    """Every setting of `melascope serve`; a contradiction is refused with its reason."""

    host: str = "127.0.0.1"  #: address to listen on
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64)  #: processes; each holds one network
    threads: int | None = Field(default=None, ge=1)  #: of each network; None: processors over workers
    bundle: str | None = None  #: name, id or path; None: the active one
    base_path: str = Field(
        default="", pattern=r"^(/[A-Za-z0-9._~-]+)*$"
    )  #: where a proxy has put the application

    users: dict[Annotated[str, Field(pattern=_NAME)], User] = {}
    tokens: dict[Annotated[str, Field(pattern=_NAME)], Token] = {}
    session_hours: float = Field(default=10, gt=0, le=24 * 7)
    allowed_hosts: Hosts = ()  #: host names that requests may state; empty: loopback's on loopback, else any
    trusted_proxies: Networks = ()  #: addresses or networks whose X-Forwarded-For and -Proto are believed
    insecure_cookies: bool = False  #: sign in without TLS; for trials on a network of one's own

    max_image_bytes: int = Field(default=32 * 1024**2, ge=1024)
    max_image_pixels: int = Field(default=50_000_000, ge=28 * 28)
    max_images: int = Field(default=50, ge=1, le=1000)  #: in one request
    max_request_bytes: int = Field(default=256 * 1024**2, ge=1024)
    max_buffered_bytes: int = Field(default=320 * 1024**2, ge=1024)  #: of all requests of a process together
    body_seconds: float = Field(default=20, gt=0)  #: that a body may fall behind 16 KiB a second
    max_body_seconds: float = Field(default=120, gt=0)  #: that a body may take in all
    room_seconds: float = Field(default=30, gt=0)  #: that a request may wait for room in memory
    shutdown_seconds: int = Field(default=30, ge=1)  #: for what was accepted to finish
    queue: int = Field(default=64, ge=1)  #: images of a process accepted and not yet answered
    queue_of_client: int = Field(default=32, ge=1)  #: requests of one client at once
    batch_size: int = Field(default=4, ge=1, le=64)
    decode_threads: int = Field(default=2, ge=1, le=64)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def published_by(self) -> str | None:
        """The setting by which others than this machine reach the server; None: they do not."""
        if not self.on_loopback:
            return f"host {self.host}"
        if self.trusted_proxies:
            return "trusted_proxies"
        names = [name for name in self.allowed_hosts if not is_loopback(name)]
        return f"allowed_hosts {names[0]}" if names else None

    @property
    def authenticates(self) -> bool:
        """Whether somebody has to sign in."""
        return bool(self.users or self.tokens)

    @property
    def secure_cookies(self) -> bool:
        """Whether cookies travel over TLS alone, as they do wherever others reach the server."""
        return self.published_by is not None and not self.insecure_cookies

    @property
    def hosts(self) -> tuple[str, ...]:
        """Host names that requests may state; empty: any."""
        return self.allowed_hosts or (LOOPBACK_NAMES if self.on_loopback else ())

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.published_by is not None and not self.authenticates:
            raise ValueError(
                f"by {self.published_by} others than this machine reach the server, and nobody would have to sign "
                "in: add users or tokens (`melascope serve --new-user NAME`), or listen on 127.0.0.1 without "
                "trusted_proxies and with names of loopback alone in allowed_hosts"
            )
        if self.max_image_bytes > self.max_request_bytes:
            raise ValueError("max_image_bytes is above max_request_bytes")
        if self.max_request_bytes + self.max_image_bytes > self.max_buffered_bytes:
            raise ValueError(
                "max_buffered_bytes is below max_request_bytes and max_image_bytes together: one client could "
                "leave no room for an image of another"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_name(name: str) -> None:
    """Refuse a name that neither a user nor a token may have.

    Raises
    ------
    UsageError
        Such a name.
    """
    if not re.match(_NAME, name):
        raise UsageError(
            f"{name!r} is no name of a user or a token.",
            remedy="Use 1 to 64 letters, digits and . _ @ -, a letter or digit first.",
        )


def check_password(password: str) -> None:
    """Refuse a password that is soon guessed.

    Raises
    ------
    UsageError
        Fewer characters than `LEAST_PASSWORD_CHARACTERS`.
    """
    if len(password) < LEAST_PASSWORD_CHARACTERS:
        raise UsageError(
            f"The password has {len(password)} characters.",
            remedy=f"Choose one of at least {LEAST_PASSWORD_CHARACTERS}; a few words in a row are easy to remember.",
        )


def load_settings(
    options: Mapping[str, object], *, file: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Settings:
    """Settings from all three places; an option wins over the environment, the environment over the file.

    Parameters
    ----------
    options
        By field name; None means not given.
    file
        TOML, in which the tables `users` and `tokens` may stand; None: `MELASCOPE_SERVE_CONFIG`, if set.

    Raises
    ------
    UsageError
        A file that cannot be read, an unknown name, a value outside its range, a contradiction.
    """
    stated = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    from_environment = stated.pop("config", None)
    path = file or (Path(from_environment) if from_environment else None)
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings.model_validate({**_read(path), **stated, **given})
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"The server's settings: {f'{place}: ' if place else ''}{said}.",
            remedy="See `melascope serve --help` and docs/how-to/serve.md.",
        ) from None


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise UsageError(
            f"{path}: the settings cannot be read ({fault}).", remedy="Give a TOML file that you may read."
        ) from fault
