"""Who may sign in to the applications of the tests, and with what."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from melascope.web.security import digest_of
from melascope.web.sessions import hash_password

PASSWORD, TOKEN, METRICS_TOKEN = "correct horse", "a-token-of-tests", "a-token-of-metrics"


def accounts() -> dict[str, object]:
    """Settings with a user `ana` and the tokens `pacs` and `prometheus`."""
    return {
        "users": {"ana": {"password": hash_password(PASSWORD)}},
        "tokens": {
            "pacs": {"sha256": digest_of(TOKEN)},
            "prometheus": {"sha256": digest_of(METRICS_TOKEN), "permissions": ("metrics",)},
        },
    }


def csrf_of(page: str) -> str:
    """The token in a page's form."""
    found = re.search(r'name="csrf_token"\s+value="([^"]+)"', page)
    assert found, page
    return found[1]


def sign_in(client: TestClient, name: str = "ana", password: str = PASSWORD):
    """The answer of the login form."""
    csrf = csrf_of(client.get("/login").text)
    form = {"name": name, "password": password, "csrf_token": csrf}
    return client.post("/login", data=form)


# --- default deny ------------------------------------------------------------------------------------------
