"""All figures of one model on one set of cases, with their intervals: what the report prints and a bundle
keeps.

Which cases count: melanoma figures use every case of which it is known whether it is a melanoma (a set such
as ISIC 2017 knows no more of some); class figures use the cases whose diagnosis is one of the model's
classes. Figures of probabilities (calibration error, Brier, log loss) give each lesion one vote, as their
fitting did; all others count images, but those named `lesion_` count lesions, by their highest score.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melascope.decision.prevalence import Prior
from melascope.domain.case import UNNAMED
from melascope.domain.diagnosis import Diagnosis
from melascope.evaluation import metrics
from melascope.evaluation.intervals import Estimate, Named, Statistic, estimate
from melascope.evaluation.judged import Judged

#: Threshold-free figures of melanoma, then of the classes.
MELANOMA_FIGURES = (
    "melanoma_auroc",
    "melanoma_partial_auroc_80",
    "melanoma_average_precision",
    "melanoma_sensitivity_at_specificity_90",
    "melanoma_specificity_at_sensitivity_95",
    "melanoma_calibration_error",
    "melanoma_brier",
)
_MACRO = (
    "macro_auroc",
    "macro_average_precision",
    "macro_specificity",
    "macro_ppv",
    "macro_npv",
    "macro_f1",
)
CLASS_FIGURES = ("balanced_accuracy", "accuracy", *_MACRO, "log_loss")  # balanced accuracy: macro sensitivity
POINT_FIGURES = (
    "sensitivity",
    "specificity",
    "lesion_sensitivity",
    "lesion_specificity",
    "ppv",
    "npv",
    "f1",
    "accuracy",
)
PER_CLASS_FIGURES = ("sensitivity", "specificity", "ppv", "npv", "f1", "auroc", "average_precision")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """Figures of one model on one set; NaN where undefined."""

    n_images: int
    n_groups: int  #: patients or lesions: the unit of the intervals
    n_lesions: int
    n_melanoma: int  #: images
    n_melanoma_lesions: int
    n_melanoma_unknown: int  #: images left out of the melanoma figures
    n_diagnosed: int  #: images that the class figures count
    sources: dict[str, int]  #: images a dataset
    classes: tuple[Diagnosis, ...]
    prior: Prior  #: class frequencies that the class figures assume
    n_bootstrap: int
    seed: int
    figures: dict[str, Estimate]  #: of `MELANOMA_FIGURES` and `CLASS_FIGURES`
    operating_points: dict[str, dict[str, Estimate]]  #: name of the point -> `POINT_FIGURES`
    per_class: dict[Diagnosis, dict[str, Estimate]]  #: class -> `PER_CLASS_FIGURES`
    confusion_CC: tuple[tuple[int, ...], ...]  #: images; rows are the truth

    def to_dict(self) -> dict[str, Any]:
        """For JSON: an undefined number is None."""
        return {
            "n_images": self.n_images,
            "n_groups": self.n_groups,
            "n_lesions": self.n_lesions,
            "n_melanoma": self.n_melanoma,
            "n_melanoma_lesions": self.n_melanoma_lesions,
            "n_melanoma_unknown": self.n_melanoma_unknown,
            "n_diagnosed": self.n_diagnosed,
            "sources": self.sources,
            "classes": [str(diagnosis) for diagnosis in self.classes],
            "prior": self.prior,
            "n_bootstrap": self.n_bootstrap,
            "seed": self.seed,
            "figures": figures_to_dict(self.figures),
            "operating_points": {name: figures_to_dict(f) for name, f in self.operating_points.items()},
            "per_class": {str(c): figures_to_dict(f) for c, f in self.per_class.items()},
            "confusion": [list(row) for row in self.confusion_CC],
        }


def figures_to_dict(figures: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    """For JSON: {name: {value, low, high}}, None where undefined."""

    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {
        name: {"value": number(figure.value), "low": number(figure.low), "high": number(figure.high)}
        for name, figure in figures.items()
    }


def headline(measured: Metrics) -> dict[str, Estimate]:
    """The figures that a bundle keeps: `<figure>`, and `<figure>@<operating point>` for each point."""
    at_points = {
        f"{figure}@{point}": figures[figure]
        for point, figures in measured.operating_points.items()
        for figure in ("sensitivity", "specificity", "lesion_sensitivity", "lesion_specificity")
    }
    return measured.figures | at_points


def measure(judged: Judged, *, n_bootstrap: int = 1000, seed: int = 0) -> Metrics:
    """Every figure of the judged rows, with 95 % intervals from resampling patients or lesions.

    Warns
    -----
    UndefinedMetricWarning
        A figure has no value on these cases; it is NaN.
    """
    predictions = judged.predictions
    statistic = melanoma_statistic(judged) | point_statistic(judged) | class_statistic(judged)
    estimates = estimate(statistic, predictions.groups_N, n_draws=n_bootstrap, seed=seed)
    votes = judged.votes()
    melanoma_N = predictions.melanoma_N
    return Metrics(
        n_images=len(melanoma_N),
        n_groups=len(set(predictions.groups_N)),
        n_lesions=len(set(predictions.lesions_N)),
        n_melanoma=int((melanoma_N == 1).sum()),
        n_melanoma_lesions=int(votes.melanoma_L.sum()),
        n_melanoma_unknown=int(np.isnan(melanoma_N).sum()),
        n_diagnosed=int((predictions.class_index_N >= 0).sum()),
        sources=dict(Counter(case.source or UNNAMED for case in predictions.cases).most_common()),
        classes=predictions.classes,
        prior=judged.prior,
        n_bootstrap=n_bootstrap,
        seed=seed,
        figures={name: estimates[name] for name in MELANOMA_FIGURES + CLASS_FIGURES},
        operating_points={
            point: {name: estimates[f"{name}@{point}"] for name in POINT_FIGURES} for point in judged.referred
        },
        per_class={
            diagnosis: {name: estimates[f"{name}/{diagnosis}"] for name in PER_CLASS_FIGURES}
            for diagnosis in predictions.classes
        },
        confusion_CC=tuple(tuple(int(n) for n in row) for row in confusion_counts(judged)),
    )


def confusion_counts(judged: Judged) -> NDArray[np.float64]:
    """Images, shape (classes, classes); rows are the truth, columns the most probable class."""
    class_index_N, classes = judged.predictions.class_index_N, judged.predictions.classes
    known_N = class_index_N >= 0
    predicted_N = judged.probability_NC[known_N].argmax(axis=1)
    confusion_BCC = metrics.confusion(class_index_N[known_N], predicted_N, len(classes))
    return np.asarray(confusion_BCC[0])


def melanoma_statistic(judged: Judged) -> Statistic:
    """`MELANOMA_FIGURES` as a function of case weights."""
    known_N = ~np.isnan(judged.predictions.melanoma_N)
    melanoma_N = judged.predictions.melanoma_N[known_N] == 1
    score_N, vote_N = judged.score_N[known_N], judged.vote_N[known_N]

    def of_weights(weight_BN: NDArray[np.float64]) -> Named:
        weight_BN = weight_BN[:, known_N]
        roc = metrics.Roc.of(score_N, melanoma_N, weight_BN)
        return {
            "melanoma_auroc": metrics.auroc(roc),
            "melanoma_partial_auroc_80": metrics.partial_auroc(roc, 0.8),
            "melanoma_average_precision": metrics.average_precision(roc),
            "melanoma_sensitivity_at_specificity_90": metrics.sensitivity_at_specificity(roc, 0.9),
            "melanoma_specificity_at_sensitivity_95": metrics.specificity_at_sensitivity(roc, 0.95),
            "melanoma_calibration_error": metrics.calibration_error(score_N, melanoma_N, weight_BN * vote_N),
            "melanoma_brier": metrics.brier(score_N, melanoma_N, weight_BN * vote_N),
        }

    return Statistic(of_weights)


def point_statistic(judged: Judged) -> Statistic:
    """`POINT_FIGURES` of each operating point, named `<figure>@<point>`, as a function of case weights."""
    outcome_N = judged.predictions.melanoma_N
    known_N = ~np.isnan(outcome_N)
    votes = judged.votes()

    def of_weights(weight_BN: NDArray[np.float64]) -> Named:
        named: Named = {}
        for point, referred_N in judged.referred.items():
            images = metrics.Counts.of_decision(
                referred_N[known_N], outcome_N[known_N] == 1, weight_BN[:, known_N]
            )
            lesions = metrics.Counts.of_decision(
                referred_N[votes.image_L], votes.melanoma_L, weight_BN[:, votes.image_L]
            )
            of_point = {
                "sensitivity": images.sensitivity(),
                "specificity": images.specificity(),
                "lesion_sensitivity": lesions.sensitivity(),
                "lesion_specificity": lesions.specificity(),
                "ppv": images.ppv(),
                "npv": images.npv(),
                "f1": images.f1(),
                "accuracy": images.accuracy(),
            }
            named |= {f"{name}@{point}": value_B for name, value_B in of_point.items()}
        return named

    shares: dict[str, NDArray[np.bool_]] = {}
    for point, referred_N in judged.referred.items():
        shares |= {
            f"sensitivity@{point}": outcome_N == 1,
            f"specificity@{point}": outcome_N == 0,
            f"lesion_sensitivity@{point}": outcome_N == 1,
            f"lesion_specificity@{point}": outcome_N == 0,
            f"ppv@{point}": known_N & referred_N,
            f"npv@{point}": known_N & ~referred_N,
        }
    return Statistic(of_weights, shares)


def class_statistic(judged: Judged) -> Statistic:
    """`CLASS_FIGURES`, and `PER_CLASS_FIGURES` named `<figure>/<class>`, as a function of case weights."""
    class_index_N, classes = judged.predictions.class_index_N, judged.predictions.classes
    known_N = class_index_N >= 0
    true_N, probability_NC = class_index_N[known_N], judged.probability_NC[known_N]
    predicted_N = probability_NC.argmax(axis=1)
    log_probability_NC, vote_N = judged.log_probability_NC[known_N], judged.vote_N[known_N]

    def of_weights(weight_BN: NDArray[np.float64]) -> Named:
        weight_BN = weight_BN[:, known_N]
        confusion_BCC = metrics.confusion(true_N, predicted_N, len(classes), weight_BN)
        counts = metrics.Counts.of_classes(confusion_BCC)
        rocs = [metrics.Roc.of(probability_NC[:, c], true_N == c, weight_BN) for c in range(len(classes))]
        per_class = {
            "sensitivity": counts.sensitivity(),
            "specificity": counts.specificity(),
            "ppv": counts.ppv(),
            "npv": counts.npv(),
            "f1": counts.f1(),
            "auroc": np.stack([metrics.auroc(roc) for roc in rocs], axis=1),
            "average_precision": np.stack([metrics.average_precision(roc) for roc in rocs], axis=1),
        }
        present_BC = confusion_BCC.sum(axis=2) > 0
        named = {
            "accuracy": metrics.accuracy(confusion_BCC),
            "balanced_accuracy": metrics.balanced_accuracy(confusion_BCC),
            "log_loss": metrics.log_loss(log_probability_NC, true_N, weight_BN * vote_N),
        }
        named |= {name: metrics.macro(per_class[name.removeprefix("macro_")], present_BC) for name in _MACRO}
        return named | {
            f"{name}/{diagnosis}": value_BC[:, c]
            for name, value_BC in per_class.items()
            for c, diagnosis in enumerate(classes)
        }

    called_N = judged.probability_NC.argmax(axis=1)
    shares: dict[str, NDArray[np.bool_]] = {}
    for c, diagnosis in enumerate(classes):
        shares |= {
            f"sensitivity/{diagnosis}": class_index_N == c,
            f"specificity/{diagnosis}": known_N & (class_index_N != c),
            f"ppv/{diagnosis}": known_N & (called_N == c),
            f"npv/{diagnosis}": known_N & (called_N != c),
        }
    return Statistic(of_weights, shares)
