"""Settings: where they come from, and which contradictions are refused."""

from __future__ import annotations

from pathlib import Path

import argon2
import pytest

from melascope.errors import UsageError
from melascope.web.sessions import can_be_verified, hash_password
from melascope.web.settings import LOOPBACK_NAMES, Settings, is_loopback, load_settings

TOKEN = f'[tokens.pacs]\nsha256 = "{"0" * 64}"'
WHOLE = "$argon2id$v=19$m=19456,t=2,p=1$pDJrVtpBKxpba9I+nrRV6A$tuCPxhgR3pbH8kq6Vqfr5YdWwTN4PRk0CrwOgStXm3o"
DAMAGED = (
    WHOLE[:-1],
    WHOLE[:-11],
    WHOLE[: WHOLE.rindex("$")],
    f"{WHOLE}A",
    f"{WHOLE[:-1]}!",
    WHOLE.replace("$", "$$"),
    WHOLE.replace("argon2id", "argon2i"),
    WHOLE.replace("v=19", "v=91"),
    WHOLE.replace("m=19456", "m=7"),
    WHOLE.replace("t=2", "t=0"),
    WHOLE.replace("p=1", "p=0"),
    WHOLE.replace("p=1", "p=17"),
    WHOLE.replace("p=1", "p=16").replace("m=19456", "m=127"),
    WHOLE.replace("m=19456", "m=131073"),
    WHOLE.replace("m=19456", "m=4294967295"),
    WHOLE.replace("m=19456", "m=" + "9" * 5000),
    WHOLE.replace("m=19456", "m=019456"),
    WHOLE.replace("t=2", "t=11"),
    WHOLE.replace("t=2", "t=\N{FULLWIDTH DIGIT TWO}"),
    WHOLE.replace("pDJr", "p\N{LATIN SMALL LETTER E WITH ACUTE}Jr"),
    f"{WHOLE[:-1]}p",
    f"{WHOLE}\\n",
)


def test_an_option_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('port = 1\nworkers = 2\nqueue = 7\nallowed_hosts = ["localhost"]\n')
    environment = {"MELASCOPE_SERVE_PORT": "3", "MELASCOPE_SERVE_WORKERS": "4", "MELASCOPE_BUNDLE": "other"}
    settings = load_settings({"port": 5, "host": None}, file=file, environment=environment)
    assert (settings.port, settings.workers, settings.queue) == (5, 4, 7)
    assert settings.allowed_hosts == ("localhost",)
    named = load_settings({}, environment={"MELASCOPE_SERVE_CONFIG": str(file)})
    assert named.queue == 7


@pytest.mark.parametrize("parameters", [{}, {"memory_cost": 2**17, "time_cost": 10, "parallelism": 16}])
def test_whole_hashes_of_bounded_cost_are_taken(parameters: dict[str, int]) -> None:
    whole = argon2.PasswordHasher(**parameters).hash("x")
    assert can_be_verified(whole)
    assert argon2.PasswordHasher().verify(whole, "x")


def test_lists_may_come_with_commas() -> None:
    settings = load_settings({}, environment={"MELASCOPE_SERVE_ALLOWED_HOSTS": "localhost, ::1"})
    assert settings.allowed_hosts == ("localhost", "::1")


def test_networks_and_hosts_are_read_once_for_all_who_compare_them() -> None:
    users = {"ana": {"password": WHOLE}}
    settings = Settings(
        users=users,
        trusted_proxies="127.0.0.1/8, 10.0.0.7, 2001:DB8::1/64",
        allowed_hosts="Skin.Example, [::1], 2001:DB8:0::1",
    )
    assert settings.trusted_proxies == ("127.0.0.0/8", "10.0.0.7/32", "2001:db8::/64")
    assert settings.allowed_hosts == ("skin.example", "::1", "2001:db8::1")
    assert not Settings(users=users, allowed_hosts="LOCALHOST").secure_cookies
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "prot"),
        ("port = 99999", "port"),
        ('host = "0.0.0.0"', "nobody would have to sign in"),
        ('host = "::"', "nobody would have to sign in"),
        ('host = "clinic.example"', "nobody would have to sign in"),
        ('trusted_proxies = ["127.0.0.1"]', "by trusted_proxies .* nobody would have to sign in"),
        ('allowed_hosts = ["localhost", "clinic.example"]', "by allowed_hosts clinic.example .* nobody"),
        ("max_image_bytes = 999999999999", "max_image_bytes"),
        ("max_request_bytes = 999999999999", "max_request_bytes"),
        (f'trusted_proxies = ["proxy"]\n{TOKEN}', "trusted_proxies.*'proxy' is no address"),
        (f'allowed_hosts = ["skin.example:443"]\n{TOKEN}', "'skin.example:443' is no name"),
        (f'allowed_hosts = ["https://skin.example"]\n{TOKEN}', "'https://skin.example' is no name"),
        (f'allowed_hosts = ["[::1]:80"]\n{TOKEN}', "is no name and no address"),
        ('base_path = "melascope/"', "base_path"),
        ('[users.ana]\npassword = "plain"', "users.ana.password"),
        ('[users."a b"]\npassword = "$argon2id$"', "users"),
        *((f'[users.ana]\npassword = "{damaged}"', "users.ana.password: .* no whole") for damaged in DAMAGED),
        ('[tokens.pacs]\nsha256 = "short"', "tokens.pacs.sha256"),
        ("port = ", "cannot be read"),
    ],
)
def test_a_contradiction_is_refused_with_its_reason(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_settings({}, file=file, environment={})


def test_elsewhere_it_starts_with_somebody_to_sign_in_and_cookies_for_tls_alone() -> None:
    users = {"ana": {"password": hash_password("x")}}
    open_to_others = Settings(host="0.0.0.0", users=users)
    assert open_to_others.secure_cookies
    assert open_to_others.hosts == ()
    at_home = Settings(users=users, allowed_hosts=LOOPBACK_NAMES)
    assert not at_home.secure_cookies
    assert "localhost" in Settings(users=users).hosts


@pytest.mark.parametrize(
    "behind", [{"trusted_proxies": ["127.0.0.1"]}, {"allowed_hosts": ["clinic.example"]}]
)
def test_behind_a_proxy_of_the_same_machine_it_is_as_elsewhere(behind: dict[str, object]) -> None:
    users = {"ana": {"password": WHOLE}}
    assert Settings(users=users, **behind).secure_cookies
    assert not Settings(users=users, insecure_cookies=True, **behind).secure_cookies


def test_a_password_is_not_told_in_a_refusal(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('[users.ana]\npassword = "hunter2"')
    with pytest.raises(UsageError) as refused:
        load_settings({}, file=file, environment={})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "localhost.example", ""])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)
