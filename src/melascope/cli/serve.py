"""`melascope serve`: the web application and its API."""

from __future__ import annotations

import secrets
from pathlib import Path

import click


@click.command()
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings in TOML; options win over it."
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on. [default: 127.0.0.1]")
@click.option("--port", type=int, metavar="N", help="Port; 0: any that is free. [default: 8000]")
@click.option("--workers", type=int, metavar="N", help="Processes, each with its own network. [default: 1]")
@click.option(
    "--threads", type=int, metavar="N", help="Threads of each network. [default: processors / workers]"
)
@click.option("--bundle", metavar="NAME", help="Bundle: a name, an id or a path. [default: the active one]")
@click.option(
    "--base-path", metavar="PATH", help="Where a reverse proxy has put the application, e.g. /melascope."
)
@click.option("--allowed-hosts", metavar="NAMES", help="Host names that requests may state, with commas.")
@click.option(
    "--trusted-proxies", metavar="ADDRESSES", help="Addresses or networks of proxies that may say who calls."
)
@click.option(
    "--new-user", metavar="NAME", help="Ask for a password, print the lines for the settings, and end."
)
@click.option(
    "--new-token", metavar="NAME", help="Print a new token and its lines for the settings, and end."
)
def command(config: Path | None, new_user: str | None, new_token: str | None, **options: object) -> None:
    """Start the web application and its API.

    It listens on this machine alone, and starts for others only if users or tokens are configured. Every
    setting may also come from the environment (MELASCOPE_SERVE_PORT) or a TOML file; docs/how-to/serve.md
    lists them.
    """
    if new_user is not None:
        _print_user(new_user)
    elif new_token is not None:
        _print_token(new_token)
    else:
        from melascope.web.run import serve
        from melascope.web.settings import load_settings

        serve(load_settings(options, file=config))


def _print_user(name: str) -> None:
    from melascope.web.sessions import hash_password
    from melascope.web.settings import check_name, check_password

    check_name(name)
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    check_password(password)
    click.echo(f'[users."{name}"]\npassword = "{hash_password(password)}"')


def _print_token(name: str) -> None:
    from melascope.web.security import digest_of
    from melascope.web.settings import check_name

    check_name(name)
    token = secrets.token_urlsafe(32)
    click.echo(f"The token, shown this once: {token}", err=True)
    click.echo(f'[tokens."{name}"]\nsha256 = "{digest_of(token)}"\npermissions = ["assess"]')
