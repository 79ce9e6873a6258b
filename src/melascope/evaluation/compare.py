"""Is one model better than another on the same images?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melascope.errors import MelascopeError
from melascope.evaluation import metrics
from melascope.evaluation.intervals import Estimate, Named, Statistic, estimate
from melascope.evaluation.judged import Judged
from melascope.evaluation.measure import figures_to_dict
from melascope.evaluation.metrics import Roc

#: What is compared.
COMPARED = ("melanoma_auroc", "balanced_accuracy", "macro_auroc")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two models and their difference, whose interval holds 0 where the data cannot tell them apart."""

    first: dict[str, Estimate]
    second: dict[str, Estimate]
    difference: dict[str, Estimate]  #: first - second

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        return {
            "first": figures_to_dict(self.first),
            "second": figures_to_dict(self.second),
            "difference": figures_to_dict(self.difference),
        }


def compare(first: Judged, second: Judged, *, n_bootstrap: int = 1000, seed: int = 0) -> Comparison:
    """Paired bootstrap: each draw of lesions or patients judges both models, and their difference is taken
    within it.

    Raises
    ------
    MelascopeError
        The two are not of the same images with the same truth.
    """
    second = _aligned(first, second)
    of_first, of_second = _compared(first), _compared(second)

    def both(weight_BN: NDArray[np.float64]) -> Named:
        one, other = of_first(weight_BN), of_second(weight_BN)
        return (
            {f"first {name}": one[name] for name in COMPARED}
            | {f"second {name}": other[name] for name in COMPARED}
            | {f"difference {name}": one[name] - other[name] for name in COMPARED}
        )

    estimates = estimate(Statistic(both), first.predictions.groups_N, n_draws=n_bootstrap, seed=seed)
    first_figures, second_figures, difference = (
        {name: estimates[f"{which} {name}"] for name in COMPARED}
        for which in ("first", "second", "difference")
    )
    return Comparison(first=first_figures, second=second_figures, difference=difference)


def _compared(judged: Judged) -> Callable[[NDArray[np.float64]], Named]:
    """`COMPARED` as a function of case weights."""
    melanoma_N, class_index_N = judged.predictions.melanoma_N, judged.predictions.class_index_N
    outcome_N, diagnosed_N = ~np.isnan(melanoma_N), class_index_N >= 0
    true_N, probability_NC = class_index_N[diagnosed_N], judged.probability_NC[diagnosed_N]
    n_classes = probability_NC.shape[1]

    def of_weights(weight_BN: NDArray[np.float64]) -> Named:
        roc = Roc.of(judged.score_N[outcome_N], melanoma_N[outcome_N] == 1, weight_BN[:, outcome_N])
        weight_BN = weight_BN[:, diagnosed_N]
        confusion_BCC = metrics.confusion(true_N, probability_NC.argmax(axis=1), n_classes, weight_BN)
        rocs = [Roc.of(probability_NC[:, c], true_N == c, weight_BN) for c in range(n_classes)]
        auroc_BC = np.stack([metrics.auroc(roc) for roc in rocs], axis=1)
        return {
            "melanoma_auroc": metrics.auroc(roc),
            "balanced_accuracy": metrics.balanced_accuracy(confusion_BCC),
            "macro_auroc": metrics.macro(auroc_BC, confusion_BCC.sum(axis=2) > 0),
        }

    return of_weights


def _aligned(first: Judged, second: Judged) -> Judged:
    """`second` in the order of `first`."""
    row = {case.image_id: n for n, case in enumerate(second.predictions.cases)}
    image_ids = [case.image_id for case in first.predictions.cases]
    unpaired = row.keys() ^ set(image_ids)
    if unpaired:
        raise MelascopeError(
            f"{len(unpaired)} images have a prediction of one model only, such as {min(unpaired)!r}.",
            remedy="Compare predictions of the same images.",
        )
    second = second.take([row[image_id] for image_id in image_ids])
    differing = [
        mine.image_id
        for mine, yours in zip(first.predictions.cases, second.predictions.cases, strict=True)
        if (mine.diagnosis, mine.melanoma) != (yours.diagnosis, yours.melanoma)
    ]
    if differing:
        raise MelascopeError(
            f"The truth of {len(differing)} images differs between the two, such as {differing[0]!r}.",
            remedy="Predict both from the same case table.",
        )
    return second
