"""No reassuring decision where there is any doubt, and none at all where there is nothing to go by."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melascope.decision.triage import triage
from melascope.domain.assessment import Decision
from melascope.domain.diagnosis import Diagnosis

BENIGN, MALIGNANT = Diagnosis.NV, Diagnosis.BCC


def decide(**changes: object) -> tuple[Decision, tuple[str, ...]]:
    plain = {"referred": False, "suspects": (BENIGN,), "plausible": (BENIGN,)}
    return triage(**{**plain, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "decision", "causes"),
    [
        ({}, Decision.NO_SIGN, ()),
        ({"plausible": None}, Decision.NO_SIGN, ()),
        ({"severities": {"note"}}, Decision.NO_SIGN, ()),
        ({"plausible": (BENIGN, Diagnosis.DF)}, Decision.NO_SIGN, ()),
        ({"referred": True}, Decision.REFER, ()),
        ({"referred": True, "plausible": (MALIGNANT,)}, Decision.REFER, ()),
        ({"referred": True, "severities": {"poor"}}, Decision.REFER, ("poor-photograph",)),
        ({"plausible": ()}, Decision.UNCERTAIN, ("no-diagnosis-fits",)),
        ({"plausible": (BENIGN, MALIGNANT)}, Decision.UNCERTAIN, ("malignancy-not-excluded",)),
        ({"suspects": (BENIGN, MALIGNANT)}, Decision.UNCERTAIN, ("malignancy-not-excluded",)),
        ({"suspects": (MALIGNANT,), "plausible": None}, Decision.UNCERTAIN, ("malignancy-not-excluded",)),
        ({"familiarity": "unusual"}, Decision.UNCERTAIN, ("unusual-image",)),
        ({"severities": {"poor", "note"}}, Decision.UNCERTAIN, ("poor-photograph",)),
        ({"familiarity": "foreign"}, Decision.CANNOT_ASSESS, ("foreign-image",)),
        ({"familiarity": "foreign", "referred": True}, Decision.CANNOT_ASSESS, ("foreign-image",)),
        (
            {"familiarity": "foreign", "severities": {"unusable"}},
            Decision.CANNOT_ASSESS,
            ("unusable-photograph", "foreign-image"),
        ),
    ],
)
def test_the_rule(changes: dict, decision: Decision, causes: tuple[str, ...]) -> None:
    assert decide(**changes) == (decision, causes)


@given(
    st.booleans(),
    st.sampled_from(Diagnosis),
    st.none() | st.sets(st.sampled_from(Diagnosis)),
    st.sampled_from(["familiar", "unusual", "foreign"]),
    st.sets(st.sampled_from(["note", "poor", "unusable"])),
)
def test_reassurance_takes_that_nothing_speaks_against_it(
    referred: bool, likeliest: Diagnosis, plausible: set | None, familiarity: str, severities: set
) -> None:
    decision, causes = decide(
        referred=referred,
        suspects=(likeliest,),
        plausible=plausible,
        familiarity=familiarity,
        severities=severities,
    )
    if decision is Decision.NO_SIGN:
        assert not referred
        assert not causes
        assert familiarity == "familiar"
        assert not severities & {"poor", "unusable"}
        assert plausible is None or plausible
        assert not any(diagnosis.malignant for diagnosis in (likeliest, *(plausible or ())))
    if referred:
        assert decision in (Decision.REFER, Decision.CANNOT_ASSESS)


def test_more_doubt_never_reassures() -> None:
    gravity = [Decision.NO_SIGN, Decision.UNCERTAIN, Decision.CANNOT_ASSESS]
    for plausible, severities in product([(BENIGN,), (BENIGN, MALIGNANT)], [set(), {"poor"}, {"unusable"}]):
        order = [
            gravity.index(decide(plausible=plausible, severities=severities, familiarity=familiarity)[0])
            for familiarity in ("familiar", "unusual", "foreign")
        ]
        assert order == sorted(order)
