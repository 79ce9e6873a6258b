"""Simulated predictions: a fair model on two sources, one of which knows no more than melanoma or not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from melascope.domain.case import Case
from melascope.domain.diagnosis import ISIC2018_CLASSES, Diagnosis
from melascope.evaluation.predictions import Predictions

FREQUENCIES = (0.2, 0.5, 0.08, 0.06, 0.1, 0.03, 0.03)
SITES = ("back", "face", "trunk")


def simulate(
    n_lesions: int = 300, *, seed: int = 0, skill: float = 2.5, split: str | None = None
) -> Predictions:
    """Lesions alternate between val and test unless `split` is given; every fourth is of ISIC 2017."""
    truth = np.random.default_rng(99)  # the same cases for every seed: two seeds are two models
    random = np.random.default_rng(seed)
    cases, logits = [], []
    for lesion in range(n_lesions):
        c = int(truth.choice(7, p=FREQUENCIES))
        age, site, n_images = (
            float(truth.integers(4, 18) * 5),
            str(truth.choice(SITES)),
            int(truth.integers(1, 4)),
        )
        isic2017 = lesion % 4 == 0
        lesion_logits_C = random.normal(0, 1, 7) + skill * np.eye(7)[c] + np.log(FREQUENCIES)
        for image in range(1 if isic2017 else n_images):
            diagnosis = ISIC2018_CLASSES[c]
            unknown = isic2017 and diagnosis not in (Diagnosis.MEL, Diagnosis.BKL)
            cases.append(
                Case(
                    image_id=f"ISIC_{lesion:05d}_{image}",
                    path="",
                    diagnosis=Diagnosis.UNK if unknown else diagnosis,
                    melanoma=diagnosis is Diagnosis.MEL,
                    lesion_id=None if isic2017 else f"L{lesion}",
                    age=age,
                    sex="female" if lesion % 3 else None,
                    site=site,
                    source="isic2017" if isic2017 else "ham10000",
                    split=split or ("val" if lesion % 2 else "test"),
                )
            )
            logits.append(1.8 * (lesion_logits_C + random.normal(0, 0.5, 7)))
    return Predictions(classes=ISIC2018_CLASSES, logits_NC=np.array(logits), cases=tuple(cases))


@pytest.fixture(scope="session")
def simulated() -> Callable[..., Predictions]:
    return simulate
