from dataclasses import replace

import numpy as np
import pytest

from melascope.errors import LeakError, MelascopeError
from melascope.evaluation.holdout import check_no_leak, check_unseen, fit_decision, folds, rows_of_split
from melascope.evaluation.predictions import Predictions


def moved(predictions, row, **changes):
    cases = list(predictions.cases)
    cases[row] = replace(cases[row], **changes)
    return Predictions(classes=predictions.classes, logits_NC=predictions.logits_NC, cases=tuple(cases))


def test_a_lesion_or_patient_in_two_splits_is_named(simulated):
    predictions = simulated(60)
    check_no_leak(predictions)
    of_l1 = next(n for n, case in enumerate(predictions.cases) if case.lesion_id == "L1")
    same = next(n for n, c in enumerate(predictions.cases) if c.lesion_id == "L2")
    with pytest.raises(LeakError, match=r"1 lesions or patients .*'ham10000/lesion/L1' in test and val"):
        check_no_leak(moved(predictions, same, lesion_id="L1"))
    patients = moved(moved(predictions, of_l1, patient_id="P"), same, patient_id="P")
    with pytest.raises(LeakError, match="ham10000/patient/P"):
        check_no_leak(patients)


def test_a_lesion_leaks_even_where_its_images_name_different_patients(simulated):
    predictions = simulated(60)
    first, second = (
        next(n for n, case in enumerate(predictions.cases) if case.lesion_id == lesion)
        for lesion in ("L1", "L2")
    )
    odd = moved(predictions, second, lesion_id="L1", patient_id="Q")
    with pytest.raises(LeakError, match="lesion/L1"):
        check_no_leak(moved(odd, first, patient_id="P"))


def test_an_id_that_datasets_share_leaks_across_them(simulated):
    predictions = simulated(60)
    of_test, of_val = (
        next(n for n, case in enumerate(predictions.cases) if case.split == split)
        for split in ("test", "val")
    )
    shared = moved(
        moved(predictions, of_test, lesion_id="HAM_7"), of_val, lesion_id="HAM_7", source="isic2018"
    )
    with pytest.raises(LeakError, match="isic/lesion/HAM_7"):
        check_no_leak(shared)


def test_splits_that_models_learn_from_are_told(simulated):
    seen = {"fitted_on": ("clinic",), "sources": ()}
    check_unseen(rows_of_split(simulated(60), "test"), **seen)
    check_unseen(simulated(10, split="holdout"), **seen)
    for split in ("train", "val", "0", "12", "clinic"):
        with pytest.raises(LeakError, match=rf"\({split}: "):
            check_unseen(simulated(10, split=split), **seen)


def test_splits_are_told_by_name(simulated):
    predictions = simulated(60)
    test, val = rows_of_split(predictions, "test"), rows_of_split(predictions, "val")
    assert {case.split for case in test.cases} == {"test"}
    assert len(test.cases) + len(val.cases) == len(rows_of_split(predictions, "all").cases)
    assert len(rows_of_split(predictions, "test+val").cases) == len(predictions.cases)
    with pytest.raises(MelascopeError, match=r"'holdout'; found .*val \("):
        rows_of_split(predictions, "val+holdout")


def test_too_few_melanomas_to_choose_a_threshold_is_said(simulated):
    with pytest.raises(MelascopeError, match="lesions with melanoma"):
        fit_decision(simulated(25, split="val"))


def test_folds_part_neither_lesions_nor_patients(simulated):
    predictions = simulated(200)
    cases = [
        replace(case, patient_id=f"P{n // 7}") if case.lesion_id and n % 70 > 7 else case
        for n, case in enumerate(predictions.cases)
    ]
    predictions = replace(predictions, cases=tuple(cases))
    fold_N = folds(predictions, 4)
    for units in (predictions.lesions_N, predictions.groups_N):
        assert len(set(zip(units, fold_N, strict=True))) == len(set(units))
    assert set(fold_N) == {0, 1, 2, 3}
    with pytest.raises(MelascopeError, match=r"lesions or patients; 5000 folds"):
        folds(predictions, 5000)


def test_folds_share_lesions_and_melanomas_evenly(simulated):
    predictions = simulated(200)
    fold_N, lesions_N = folds(predictions, 4), np.array(predictions.lesions_N)
    for of_N in (predictions.melanoma_N >= 0, predictions.melanoma_N == 1):
        counts = [len(set(lesions_N[of_N & (fold_N == fold)])) for fold in range(4)]
        assert max(counts) - min(counts) <= 1
