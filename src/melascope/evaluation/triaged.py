"""What doctors would have been told of these lesions, against what the lesions were."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from melascope.decision.novelty import NoveltyLimits
from melascope.decision.triage import GRAVITY, Cause, Triage, triage
from melascope.domain.assessment import Decision, Familiarity
from melascope.evaluation import metrics
from melascope.evaluation.intervals import Estimate, Named, Statistic, estimate
from melascope.evaluation.judged import Judged
from melascope.evaluation.measure import figures_to_dict

#: In the order of the report: from the most to the least that is done.
DECISIONS = (Decision.REFER, Decision.UNCERTAIN, Decision.NO_SIGN, Decision.CANNOT_ASSESS)


class Truth(StrEnum):
    """What a lesion was."""

    MELANOMA = "melanoma"
    MALIGNANT = "other malignant"
    BENIGN = "benign"
    NOT_MELANOMA = "not melanoma, diagnosis unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class TriagedLesion:
    """One lesion of known outcome and what is said of it."""

    truth: Truth
    decision: Decision
    causes: tuple[Cause, ...]  #: why it is not simply what the threshold says
    row: int  #: of its most suspicious image


class Reassured(NamedTuple):
    """A melanoma of which the doctor was told that there is no sign of it."""

    image_id: str  #: its most suspicious image
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TriageFigures:
    """Counts and shares of lesions at one operating point."""

    operating_point: str
    counts: dict[Truth, dict[Decision, int]]  #: lesions; a truth without lesions is left out
    shares: dict[Truth, dict[Decision, Estimate]]  #: of the lesions of that truth
    answered: Estimate  #: share of all lesions that get an answer: referral or reassurance
    causes: dict[Decision, dict[Cause, dict[Truth, int]]]  #: lesions; one may have several
    reassured_melanomas: tuple[Reassured, ...]  #: the least suspicious first

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "operating_point": self.operating_point,
            "counts": self.counts,
            "shares": {
                truth: figures_to_dict({str(decision): f for decision, f in shares.items()})
                for truth, shares in self.shares.items()
            },
            **figures_to_dict({"answered": self.answered}),
            "causes": self.causes,
            "reassured_melanomas": [found._asdict() for found in self.reassured_melanomas],
        }


def triage_images(judged: Judged, point: str, limits: NoveltyLimits | None) -> list[Triage]:
    """The decision for each image alone.

    Novelty counts where both the limits and the image's score are known, quality where the table tells it.
    """
    classes, plausible_NC = judged.predictions.classes, judged.plausible_NC
    likeliest_N = judged.log_probability_NC.argmax(axis=1)
    quality_N = judged.predictions.quality_N
    return [
        triage(
            referred=bool(referred),
            suspects=[classes[likeliest_N[n]]],
            plausible=None if plausible_NC is None else [classes[c] for c in np.flatnonzero(plausible_NC[n])],
            familiarity=familiarity,
            severities=() if quality_N is None else {finding.severity for finding in quality_N[n]},
        )
        for n, (referred, familiarity) in enumerate(
            zip(judged.referred[point], _familiarities(judged, limits), strict=True)
        )
    ]


def _familiarities(judged: Judged, limits: NoveltyLimits | None) -> list[Familiarity]:
    novelty_N = judged.predictions.novelty_N
    if limits is None or novelty_N is None:
        return ["familiar"] * len(judged.score_N)
    return ["familiar" if np.isnan(score) else limits.familiarity(float(score)) for score in novelty_N]


def triage_lesions(judged: Judged, point: str, limits: NoveltyLimits | None) -> tuple[TriagedLesion, ...]:
    """One decision a lesion of known outcome: the gravest of those for its images, with that one's causes.

    A lesion cannot be assessed where none of its images can.
    """
    images_of: dict[str, list[int]] = defaultdict(list)
    for n, lesion in enumerate(judged.predictions.lesions_N):
        images_of[lesion].append(n)
    triages, lesions_N = triage_images(judged, point, limits), judged.predictions.lesions_N
    votes = judged.votes()
    lesions = []
    for row, melanoma in zip(votes.image_L.tolist(), votes.melanoma_L.tolist(), strict=True):
        of_images = [triages[n] for n in images_of[lesions_N[row]]]
        decision = max((found.decision for found in of_images), key=GRAVITY.index)
        causes = dict.fromkeys(
            cause for found in of_images if found.decision is decision for cause in found.causes
        )
        truth = (
            Truth.MELANOMA if melanoma else _other_truth(judged.predictions.cases[row].diagnosis.malignant)
        )
        lesions.append(TriagedLesion(truth=truth, decision=decision, causes=tuple(causes), row=row))
    return tuple(lesions)


def _other_truth(malignant: bool | None) -> Truth:
    return {True: Truth.MALIGNANT, False: Truth.BENIGN, None: Truth.NOT_MELANOMA}[malignant]


def measure_triage(
    judged: Judged,
    point: str,
    limits: NoveltyLimits | None,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> TriageFigures:
    """Decisions against truth, with 95 % intervals from resampling patients or lesions."""
    lesions = triage_lesions(judged, point, limits)
    rows = np.array([lesion.row for lesion in lesions], dtype=np.intp)
    truth_L = np.array([lesion.truth for lesion in lesions])
    decision_L = np.array([lesion.decision for lesion in lesions])
    answered_L = np.isin(decision_L, [Decision.REFER, Decision.NO_SIGN])
    truths = [truth for truth in Truth if truth in truth_L]

    def of_weights(weight_BN: NDArray[np.float64]) -> Named:
        weight_BL = weight_BN[:, rows]
        named = {"answered": metrics.mean(answered_L.astype(np.float64), weight_BL, "the share answered")}
        for truth in truths:
            is_truth_L = truth_L == truth
            for decision in DECISIONS:
                told_B = weight_BL @ (is_truth_L & (decision_L == decision))
                named[f"{truth}/{decision}"] = metrics.ratio(told_B, weight_BL @ is_truth_L, truth)
        return named

    def rows_where(of_L: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.isin(np.arange(len(judged.score_N)), rows[of_L])

    shares = {f"{t}/{d}": rows_where(truth_L == t) for t in truths for d in DECISIONS}
    shares["answered"] = rows_where(np.ones(len(rows), dtype=bool))
    estimates = estimate(
        Statistic(of_weights, shares), judged.predictions.groups_N, n_draws=n_bootstrap, seed=seed
    )
    told = Counter((lesion.truth, lesion.decision) for lesion in lesions)
    missed = [lesion.row for lesion in lesions if _is_missed(lesion)]
    missed.sort(key=lambda row: judged.score_N[row])
    return TriageFigures(
        operating_point=point,
        counts={truth: {decision: told[truth, decision] for decision in DECISIONS} for truth in truths},
        shares={truth: {d: estimates[f"{truth}/{d}"] for d in DECISIONS} for truth in truths},
        answered=estimates["answered"],
        causes=_causes(lesions),
        reassured_melanomas=tuple(
            Reassured(judged.predictions.cases[row].image_id, float(judged.score_N[row])) for row in missed
        ),
    )


def _is_missed(lesion: TriagedLesion) -> bool:
    return lesion.truth is Truth.MELANOMA and lesion.decision is Decision.NO_SIGN


def _causes(lesions: tuple[TriagedLesion, ...]) -> dict[Decision, dict[Cause, dict[Truth, int]]]:
    """Lesions a cause and truth, the most frequent cause first, for each decision that has any."""
    found: dict[Decision, dict[Cause, Counter[Truth]]] = defaultdict(lambda: defaultdict(Counter))
    for lesion in lesions:
        for cause in lesion.causes:
            found[lesion.decision][cause][lesion.truth] += 1
    return {
        decision: {
            cause: dict(by_truth)
            for cause, by_truth in sorted(found[decision].items(), key=lambda item: -item[1].total())
        }
        for decision in DECISIONS
        if decision in found
    }
