"""Assessments as JSON lose nothing, and what is not one is refused."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melascope.domain.assessment import (
    SCHEMA_VERSION,
    AssessedImage,
    Assessment,
    Decision,
    Heatmap,
    Novelty,
    PredictionSet,
    PredictiveValues,
    QualityFinding,
    Reason,
)
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import UsageError
from melascope.runtime.assessment_json import from_json, to_json, to_jsonable
from melascope.runtime.reasons import reason

SHARE = st.floats(0, 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SHARES = st.dictionaries(st.sampled_from(Diagnosis), SHARE, min_size=1)
HEATMAPS = st.builds(
    Heatmap,
    values_HW=st.lists(st.lists(SHARE, min_size=2, max_size=2).map(tuple), min_size=1, max_size=3).map(tuple),
    frame_px=st.tuples(*[st.floats(-1e4, 1e4)] * 4),
)
IMAGES = st.builds(
    AssessedImage,
    name=TEXT,
    format=TEXT,
    width_px=st.integers(1, 10**5),
    height_px=st.integers(1, 10**5),
    sha256=st.text(string.hexdigits, min_size=64, max_size=64),
    melanoma_score=st.none() | SHARE,
    novelty=st.none() | st.builds(Novelty, score=SHARE, unusual_limit=SHARE, foreign_limit=SHARE),
    quality=st.lists(
        st.builds(QualityFinding, code=TEXT, value=SHARE, limit=SHARE, text=TEXT), max_size=2
    ).map(tuple),
    heatmap=st.none() | HEATMAPS,
)
REASONS = st.builds(
    Reason, code=TEXT, text=TEXT, values=st.dictionaries(TEXT, SHARE | st.integers(-9, 9) | TEXT, max_size=3)
)
ASSESSMENTS = st.builds(
    Assessment,
    schema_version=st.just(SCHEMA_VERSION),
    images=st.lists(IMAGES, min_size=1, max_size=2).map(tuple),
    bundle_id=TEXT,
    melanoma_probability=st.none() | SHARE,
    probabilities=st.none() | SHARES,
    melanoma_score=st.none() | SHARE,
    prediction_set=st.none()
    | st.builds(
        PredictionSet, coverage=SHARE, diagnoses=st.lists(st.sampled_from(Diagnosis), unique=True).map(tuple)
    ),
    prevalence=SHARES,
    decision=st.sampled_from(Decision),
    reasons=st.lists(REASONS, max_size=3).map(tuple),
    operating_point=TEXT,
    threshold=SHARE,
    predictive_values=st.builds(
        PredictiveValues, prevalence=SHARE, ppv=SHARE, ppv_interval=st.tuples(SHARE, SHARE), npv=SHARE,
        npv_interval=st.tuples(SHARE, SHARE),
    ),
)  # fmt: skip


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(ASSESSMENTS, st.sampled_from([None, 2]))
def test_nothing_is_lost(assessment: Assessment, indent: int | None) -> None:
    again = from_json(to_json(assessment, indent=indent))
    assert again == assessment
    assert list(again.probabilities or ()) == list(assessment.probabilities or ())
    assert from_json(json.dumps(to_jsonable(assessment))) == assessment


@pytest.fixture(scope="module")
def example() -> dict:
    image = AssessedImage(
        name="a.jpg", format="JPEG", width_px=10, height_px=5, sha256="0" * 64, melanoma_score=0.25,
        novelty=Novelty(familiarity="unusual", score=2.0, unusual_limit=1.0, foreign_limit=3.0),
        quality=(QualityFinding(code="blurred", severity="poor", value=0.1, limit=0.2, text="Blurred."),),
        heatmap=Heatmap(values_HW=((0.5, 1.0),), frame_px=(0.0, 0.0, 10.0, 5.0)),
    )  # fmt: skip
    share = {Diagnosis.MEL: 0.25, Diagnosis.NV: 0.75}
    return to_jsonable(
        Assessment(
            images=(image,), bundle_id="x@1", melanoma_probability=0.25, probabilities=share, prevalence=share,
            melanoma_score=0.25, decision=Decision.REFER, reasons=(reason("score-at", score=0.25, threshold=0.25),),
            prediction_set=PredictionSet(coverage=0.9, diagnoses=(Diagnosis.MEL,)), operating_point="p",
            threshold=0.25,
            predictive_values=PredictiveValues(
                prevalence=0.1, ppv=0.3, ppv_interval=(0.2, 0.4), npv=0.99, npv_interval=(0.9, 1.0)
            ),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 1}, "schema version 1"),
        ({"surprise": 1}, "surprise"),
        ({"decision": "excise"}, "decision"),
        ({"images": [{"name": "a"}]}, r"images\.0\.format"),
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
    schema = json.loads((Path(__file__).parents[3] / "docs/schema/assessment-v2.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(example)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(example | {"surprise": 1})
