"""What a referral is worth where melanoma is rarer, or more frequent, than among the lesions judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from melascope.decision.operating_point import OperatingPoint, clopper_pearson
from melascope.decision.predictive_values import predictive_values
from melascope.domain.assessment import PredictiveValues
from melascope.evaluation.judged import Judged

#: Shares of melanoma for which the report gives numbers.
PREVALENCES = (0.01, 0.02, 0.05, 0.10, 0.20)


def melanoma_share(judged: Judged) -> float:
    """Share of melanomas among the lesions judged whose outcome is known, 0 to 1; there must be one."""
    return float(judged.votes().melanoma_L.mean())


def project(
    judged: Judged, point: OperatingPoint, prevalences: Iterable[float]
) -> tuple[PredictiveValues, ...]:
    """PPV and NPV at these prevalences, from the lesions judged; none where these are all melanomas, or none is.

    Exact where only the share of melanoma differs: neither melanomas nor other lesions are harder there. What
    never happens (a referral, or its absence) has the value None.
    """
    votes = judged.votes()
    referred_L = judged.referred[point.name][votes.image_L]
    if votes.melanoma_L.all() or not votes.melanoma_L.any():
        return ()
    found_M, spared_O = referred_L[votes.melanoma_L], ~referred_L[~votes.melanoma_L]
    achieved = replace(
        point,
        sensitivity=float(found_M.mean()),
        sensitivity_interval=clopper_pearson(int(found_M.sum()), len(found_M)),
        specificity=float(spared_O.mean()),
        specificity_interval=clopper_pearson(int(spared_O.sum()), len(spared_O)),
        n_melanoma=len(found_M),
        n_other=len(spared_O),
    )
    return tuple(predictive_values(achieved, prevalence) for prevalence in prevalences)
