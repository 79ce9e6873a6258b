"""The same figures within parts of the cases: does the model serve them alike?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from melascope.domain.case import Case
from melascope.evaluation.intervals import Estimate, estimate
from melascope.evaluation.judged import Judged
from melascope.evaluation.measure import figures_to_dict, melanoma_statistic, point_statistic

#: Lesions with, and as many without melanoma that a subgroup's figures take.
MIN_LESIONS = 10

_AGE_BANDS = ((0, 40, "under 40"), (40, 60, "40 to 59"), (60, math.inf, "60 and over"))


def _age_band(case: Case) -> str | None:
    age = case.age
    return None if age is None else next(name for low, high, name in _AGE_BANDS if low <= age < high)


#: What the cases are parted by.
ATTRIBUTES: dict[str, Callable[[Case], str | None]] = {
    "source": lambda case: case.source,
    "sex": lambda case: case.sex,
    "age": _age_band,
    "site": lambda case: case.site,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subgroup:
    """One part of the cases and its figures; none where it is too small to tell."""

    attribute: str  #: of `ATTRIBUTES`
    value: str  #: "unknown" where the cases do not say
    n_images: int
    n_lesions: int  #: whose outcome is known
    n_melanoma_lesions: int
    #: melanoma_auroc, and sensitivity and specificity at the operating point
    figures: dict[str, Estimate] | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "attribute": self.attribute,
            "value": self.value,
            "n_images": self.n_images,
            "n_lesions": self.n_lesions,
            "n_melanoma_lesions": self.n_melanoma_lesions,
            "figures": None if self.figures is None else figures_to_dict(self.figures),
        }


def by_subgroup(
    judged: Judged,
    point: str,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> tuple[Subgroup, ...]:
    """AUROC of melanoma, sensitivity and specificity at `point` by source, sex, age band and body site."""
    subgroups = []
    for attribute, value_of in ATTRIBUTES.items():
        values = np.array([value_of(case) or "unknown" for case in judged.predictions.cases])
        names, counts = np.unique(values, return_counts=True)
        in_order = sorted(zip(-counts, names, strict=True), key=lambda item: _place(attribute, *item))
        for _, name in in_order:
            part = judged.take(np.flatnonzero(values == name))
            subgroups.append(_subgroup(part, attribute, str(name), point, n_bootstrap, seed))
    return tuple(subgroups)


def _place(attribute: str, minus_count: int, name: str) -> tuple[bool, int]:
    """Ages upwards, all else the largest first; unknown last."""
    bands = [band for _, _, band in _AGE_BANDS]
    return name == "unknown", bands.index(name) if attribute == "age" and name in bands else minus_count


def _subgroup(part: Judged, attribute: str, value: str, point: str, n_bootstrap: int, seed: int) -> Subgroup:
    votes = part.votes()
    n_lesions, n_melanoma = len(votes.melanoma_L), int(votes.melanoma_L.sum())
    figures = None
    if min(n_melanoma, n_lesions - n_melanoma) >= MIN_LESIONS:
        wanted = ("melanoma_auroc", f"sensitivity@{point}", f"specificity@{point}")
        estimates = estimate(
            melanoma_statistic(part) | point_statistic(part),
            part.predictions.groups_N,
            n_draws=n_bootstrap,
            seed=seed,
        )
        figures = {name: estimates[name] for name in wanted}
    return Subgroup(
        attribute=attribute,
        value=value,
        n_images=len(part.score_N),
        n_lesions=n_lesions,
        n_melanoma_lesions=n_melanoma,
        figures=figures,
    )
