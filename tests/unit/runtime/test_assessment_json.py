"""Assessments as JSON lose nothing, and what is not one is refused."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melascope.domain.assessment import Assessment, Decision, Heatmap, ImageFacts
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import UsageError
from melascope.runtime.assessment_json import from_json, to_json, to_jsonable

SHARE = st.floats(0, 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SHARES = st.dictionaries(st.sampled_from(Diagnosis), SHARE, min_size=1)
HEATMAPS = st.builds(
    Heatmap,
    values_HW=st.lists(st.lists(SHARE, min_size=2, max_size=2).map(tuple), min_size=1, max_size=3).map(tuple),
    frame_px=st.tuples(*[st.floats(-1e4, 1e4)] * 4),
)
ASSESSMENTS = st.builds(
    Assessment,
    schema_version=st.just(1),
    image=st.builds(
        ImageFacts,
        name=TEXT,
        format=TEXT,
        width_px=st.integers(1, 10**5),
        height_px=st.integers(1, 10**5),
        sha256=st.text(string.hexdigits, min_size=64, max_size=64),
    ),
    bundle_id=TEXT,
    melanoma_probability=SHARE,
    probabilities=SHARES,
    prevalence=SHARES,
    melanoma_score=SHARE,
    decision=st.sampled_from(Decision),
    reasons=st.lists(TEXT, max_size=3).map(tuple),
    operating_point=TEXT,
    threshold=SHARE,
    heatmap=st.none() | HEATMAPS,
)


@given(ASSESSMENTS, st.sampled_from([None, 2]))
def test_nothing_is_lost(assessment: Assessment, indent: int | None) -> None:
    again = from_json(to_json(assessment, indent=indent))
    assert again == assessment
    assert list(again.probabilities) == list(assessment.probabilities)
    assert from_json(json.dumps(to_jsonable(assessment))) == assessment


@pytest.fixture(scope="module")
def example() -> dict:
    heatmap = Heatmap(values_HW=((0.5, 1.0),), frame_px=(0.0, 0.0, 10.0, 5.0))
    facts = ImageFacts(name="a.jpg", format="JPEG", width_px=10, height_px=5, sha256="0" * 64)
    share = {Diagnosis.MEL: 0.25, Diagnosis.NV: 0.75}
    return to_jsonable(
        Assessment(
            image=facts, bundle_id="x@1", melanoma_probability=0.25, probabilities=share, prevalence=share,
            melanoma_score=0.25, decision=Decision.REFER, reasons=("because",), operating_point="p",
            threshold=0.1, heatmap=heatmap,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema version 2"),
        ({"surprise": 1}, "surprise"),
        ({"decision": "excise"}, "decision"),
        ({"image": {"name": "a"}}, r"image\.format"),
        ({"probabilities": {"WART": 1.0}}, "probabilities"),
        ({"threshold": None}, "threshold"),
    ],
)
def test_what_is_no_assessment_is_refused(example: dict, change: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_json(json.dumps(example | change))


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(UsageError, match="not valid"):
        from_json(b"{")


def test_json_of_an_assessment_keeps_the_published_schema(example: dict) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(__file__).parents[3] / "docs/schema/assessment-v1.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(example)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(example | {"surprise": 1})
