from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from melascope.datasets.leaks import check_split, group_cases, refuse_leaks
from melascope.datasets.split import split_cases
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import LeakError, UsageError

PARTS = {"train": 0.7, "val": 0.1, "test": 0.2}


def drawn(n: int, *, seed: int = 0) -> list[Case]:
    """Cases of very uneven classes, two sources, lesions of one to four images."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(["NV", "MEL", "BKL", "DF"], n, p=[0.7, 0.15, 0.12, 0.03])
    lesion = np.cumsum(rng.random(n) < 0.7)
    return [
        Case(
            image_id=f"i{k}",
            path=f"{k}.jpg",
            diagnosis=Diagnosis(str(classes[lesion[k] % n])),
            lesion_id=f"L{lesion[k]}",
            source="a" if lesion[k] % 3 else "b",
        )
        for k in range(n)
    ]


def splits(cases: list[Case]) -> dict[str, str | None]:
    return {case.image_id: case.split for case in cases}


def test_every_class_of_every_source_has_its_share() -> None:
    cases = split_cases(drawn(4000), fractions=PARTS, seed=1)
    for source in "ab":
        for diagnosis in {case.diagnosis for case in cases}:
            inside = [case for case in cases if (case.source, case.diagnosis) == (source, diagnosis)]
            for part, share in PARTS.items():
                assert abs(sum(case.split == part for case in inside) - share * len(inside)) <= 2, diagnosis


@settings(max_examples=60, deadline=None, phases=[p for p in Phase if p is not Phase.shrink])
@given(
    keys=st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60), st.sampled_from("ab")),
        min_size=60,
        max_size=120,
    ),
    seed=st.integers(0, 2**32),
    folds=st.integers(2, 4),
)
def test_no_tie_is_ever_torn_and_order_does_not_matter(
    keys: list[tuple[int, int, int, str]], seed: int, folds: int
) -> None:
    cases = [
        Case(
            image_id=f"i{k}",
            path="",
            patient_id=f"P{patient}" if patient < 5 else None,
            lesion_id=f"L{lesion}" if lesion > 20 else None,
            sha256=f"{digest}" if digest < 10 else None,
            source=source,
        )
        for k, (patient, lesion, digest, source) in enumerate(keys)
    ]
    clusters = {f"i{k}": k // 2 for k in range(10)}
    if len(set(group_cases(cases, clusters))) < folds:
        return
    dealt = split_cases(cases, folds=folds, seed=seed, clusters=clusters)
    assert check_split(dealt, clusters) == []
    assert [case.image_id for case in dealt] == [case.image_id for case in cases]
    assert splits(split_cases(cases[::-1], folds=folds, seed=seed, clusters=clusters)) == splits(dealt)
    assert {case.split for case in dealt} <= {str(fold) for fold in range(folds)}


def test_seeds_differ_and_repeat() -> None:
    cases = drawn(300)
    one = splits(split_cases(cases, fractions=PARTS, seed=1))
    assert one == splits(split_cases(cases, fractions=PARTS, seed=1))
    assert one != splits(split_cases(cases, fractions=PARTS, seed=2))


def test_a_fixed_split_that_is_not_there_is_refused() -> None:
    cases = [replace(case, split="isic2018-val") for case in drawn(10)]
    with pytest.raises(UsageError, match=r"'isic2018_val'.* found isic2018-val \(10\)"):
        split_cases(cases, folds=2, seed=0, fixed=["isic2018_val"])


def test_fixed_cases_stay_and_draw_their_kin_with_them() -> None:
    cases = drawn(200)
    cases[0] = replace(cases[0], split="test", lesion_id="HAM_1")
    cases[100] = replace(cases[100], lesion_id="HAM_1", source="another")
    cases[50] = replace(cases[50], split="train")
    dealt = split_cases(cases, fractions={"train": 0.5, "val": 0.5}, seed=0, fixed=["test"])
    assert [case.image_id for case in dealt if case.split == "test"] == ["i0", "i100"]
    with pytest.raises(LeakError, match="belong together and are fixed in test and val"):
        split_cases(
            [cases[0], replace(cases[100], split="val"), *cases[101:]], folds=2, seed=0, fixed=["test", "val"]
        )


@pytest.mark.parametrize(
    ("fractions", "folds"),
    [
        (None, None),
        ({"a": 1.0}, 3),
        (None, 1),
        ({"a": 0.5, "b": 0.4}, None),
        ({"a": 1.2, "b": -0.2}, None),
        ({}, None),
        (None, 60),
    ],
)
def test_impossible_splits(fractions: dict[str, float] | None, folds: int | None) -> None:
    with pytest.raises(UsageError):
        split_cases(drawn(50), fractions=fractions, folds=folds, seed=0)


def test_each_kind_of_leak_is_told() -> None:
    def pair(**ties: str) -> list[Case]:
        return [Case(image_id=s, path="", split=s, source="x", **ties) for s in ("train", "test")]

    for ties, kind, key in (
        ({"patient_id": "p"}, "patient", "x/patient/p"),
        ({"lesion_id": "l"}, "lesion", "x/lesion/l"),
        ({"sha256": "s"}, "bytes", "s"),
    ):
        (leak,) = check_split(pair(**ties))
        assert (leak.kind, leak.key, leak.splits) == (kind, key, ("test", "train"))
    (leak,) = check_split(pair(), {"train": 4, "test": 4})
    assert leak.kind == "duplicate"
    with pytest.raises(LeakError, match="leaks in 1 place: duplicate 4 is in test and train"):
        refuse_leaks([leak])
    refuse_leaks([])


def test_the_same_id_in_two_sources_is_one_lesion_only_if_the_archive_gave_it() -> None:
    def cases(lesion: str) -> list[Case]:
        return [Case(image_id=s, path="", split=s, source=s, lesion_id=lesion) for s in ("train", "test")]

    assert check_split(cases("7")) == []
    assert [leak.kind for leak in check_split(cases("IL_0000007"))] == ["lesion"]


def test_cases_without_a_split_leak_nothing() -> None:
    cases = [Case(image_id=s, path="", split=s or None, lesion_id="l") for s in ("", "test")]
    assert check_split(cases) == []


def test_groups_are_named_by_their_smallest_member() -> None:
    cases = [Case(image_id=i, path="") for i in "dcba"]
    assert group_cases(cases, {"d": 1, "b": 1, "c": 2}) == ["b", "c", "b", "a"]
    assert Counter(group_cases(cases)) == Counter("abcd")
