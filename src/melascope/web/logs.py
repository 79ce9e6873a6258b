"""The log: one JSON object a line on stderr; never an image, the name of a file or who is signed in."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

#: What a record may carry beside its message; anything else is left out.
_FIELDS = ("request_id", "method", "route", "status", "ms", "code", "address", "fault")


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= {name: vars(record)[name] for name in _FIELDS if name in vars(record)}
        if record.exc_info and record.exc_info[0] is not None:
            line.setdefault("fault", [record.exc_info[0].__name__])  # what it says may hold names of files
        return json.dumps(line, ensure_ascii=False, default=str)


def configure() -> None:
    """Send our log and uvicorn's to stderr as JSON lines; uvicorn's own lines about requests are dropped."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("melascope", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("uvicorn.access").disabled = True
