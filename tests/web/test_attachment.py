"""Names of files that are sent, read back by the standard library's parser of headers."""

from __future__ import annotations

import re
from email.message import Message
from email.utils import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from melascope.web.attachment import attachment

#: RFC 6266 with RFC 5987's ext-value.
_GRAMMAR = re.compile(
    r"""attachment; filename="[A-Za-z0-9._-]*"; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*"""
)


def name_in(header: str) -> str:
    message = Message()
    message["Content-Disposition"] = header.replace('filename="', 'x="')  # leaves it the extended one alone
    charset, _, name = message.get_param("filename", header="Content-Disposition", unquote=False)
    return unquote(name).encode("latin-1").decode(charset)


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_name_comes_back_whole_and_breaks_no_header(name: str) -> None:
    header = attachment(name)
    assert _GRAMMAR.fullmatch(header)
    assert name_in(header) == name


@pytest.mark.parametrize(
    ("sent", "plain", "whole"),
    [
        ("mole.jpg", "mole.pdf", "mole.pdf"),
        ("Läsion 3.jpg", "L_sion_3.pdf", "Läsion 3.pdf"),
        ("a'; x*=b.exe", "a___x__b.pdf", "a'; x*=b.pdf"),
    ],
)
def test_a_report_is_called_as_its_photograph(
    client: TestClient, jpeg: bytes, sent: str, plain: str, whole: str
) -> None:
    answer = client.post("/report.pdf", files={"image": (sent, jpeg)})
    header = answer.headers["content-disposition"]
    assert f'filename="{plain}"' in header
    assert name_in(header) == whole
