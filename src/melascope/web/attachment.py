"""What a file that is sent is called."""

from __future__ import annotations

import re
from urllib.parse import quote

_ATTRIBUTE_CHARACTERS = "!#$&+^`|"  # of RFC 5987's attr-char, beside those that `quote` always leaves


def attachment(name: str) -> str:
    """The value of `Content-Disposition` (RFC 6266) by which a browser keeps a file under a name.

    Parameters
    ----------
    name
        Any text. Programs that know no RFC 5987 read its ASCII letters, digits and `. _ -`, the rest replaced.

    Examples
    --------
    >>> print(attachment("Läsion 3.pdf"))
    attachment; filename="L_sion_3.pdf"; filename*=UTF-8''L%C3%A4sion%203.pdf
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    whole = quote(name, safe=_ATTRIBUTE_CHARACTERS, errors="replace")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{whole}"
