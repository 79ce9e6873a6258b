"""Operating points: the melanoma probability from which on a lesion is referred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """A threshold, what it was chosen for, and what it achieved where it was chosen.

    `threshold` is on the calibrated melanoma probability at the prevalence of the calibration cases, so that the
    clinic's own prevalence changes the probability shown, never the decision.
    """

    name: str  #: e.g. "sensitivity-95"
    threshold: float  #: refer from here on, 0 to 1
    target: Literal["sensitivity", "specificity"]
    target_value: float
    sensitivity: float  #: achieved on the calibration lesions (one vote each: their highest probability)
    sensitivity_interval: tuple[float, float]  #: 95 %, Clopper-Pearson
    specificity: float
    specificity_interval: tuple[float, float]
    n_melanoma: int  #: calibration lesions with melanoma
    n_other: int
