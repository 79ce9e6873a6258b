"""The published JSON schema is the one that the code keeps."""

from __future__ import annotations

import json
from pathlib import Path

from melascope.runtime.assessment_json import json_schema

SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "assessment-v2.json"


def test_the_published_schema_is_current() -> None:
    assert json.loads(SCHEMA.read_text()) == json_schema(), (
        "write it anew: python -c 'import json; from melascope.runtime.assessment_json import json_schema; "
        f"print(json.dumps(json_schema(), indent=2))' > {SCHEMA.name}"
    )


def test_every_name_of_the_schema_is_described() -> None:
    """A version may not change: what it requires is written down here as well."""
    assert json_schema()["required"] == [
        "schema_version", "images", "bundle_id", "melanoma_probability", "probabilities", "melanoma_score",
        "prediction_set", "prevalence", "decision", "reasons", "operating_point", "threshold", "predictive_values",
    ]  # fmt: skip
