"""Assessments as JSON, lossless both ways; the schema is published in docs/schema/assessment-v1.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from melascope.domain.assessment import SCHEMA_VERSION, Assessment
from melascope.errors import UsageError

_ADAPTER = TypeAdapter(Assessment)


def to_json(assessment: Assessment, *, indent: int | None = None) -> bytes:
    """UTF-8 JSON; floats keep every digit."""
    return _ADAPTER.dump_json(assessment, indent=indent)


def to_jsonable(assessment: Assessment) -> dict[str, Any]:
    """The JSON object, as Python values."""
    jsonable: dict[str, Any] = _ADAPTER.dump_python(assessment, mode="json")
    return jsonable


def from_json(data: bytes | str) -> Assessment:
    """The assessment that `to_json` wrote.

    Raises
    ------
    UsageError
        Not JSON, of another schema version, an unknown or missing key, a value outside its domain.
    """
    return _checked(lambda: _ADAPTER.validate_json(data))


def from_jsonable(values: object) -> Assessment:
    """The assessment that `to_jsonable` gave, e.g. a part of a larger JSON document.

    Raises
    ------
    UsageError
        As `from_json`.
    """
    return _checked(lambda: _ADAPTER.validate_json(json.dumps(values)))


def _checked(read: Callable[[], Assessment]) -> Assessment:
    try:
        assessment = read()
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise UsageError(
            f"The assessment is not valid: {place}: {first['msg']}.",
            remedy="Give JSON as `melascope assess --format json` writes it.",
        ) from fault
    if assessment.schema_version != SCHEMA_VERSION:
        raise UsageError(
            f"The assessment has the schema version {assessment.schema_version}.",
            remedy=f"This melascope reads {SCHEMA_VERSION}.",
        )
    return assessment


def json_schema() -> dict[str, Any]:
    """The published JSON Schema (draft 2020-12) of what `to_json` writes."""
    schema = _ADAPTER.json_schema(mode="serialization")
    schema["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": f"melascope assessment, version {SCHEMA_VERSION}",
        "required": list(schema["properties"]),
    }
