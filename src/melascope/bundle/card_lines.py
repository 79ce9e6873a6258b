"""What model cards say alike, whoever writes them: figures, thresholds, promises."""

from __future__ import annotations

import re
from collections.abc import Sequence

from melascope.bundle.manifest import Figure, Measurement
from melascope.decision.calibration import Calibration
from melascope.decision.conformal import ConformalSets
from melascope.decision.novelty import NoveltyLimits
from melascope.decision.operating_point import OperatingPoint
from melascope.domain.diagnosis import Diagnosis

_FIGURES = {
    "melanoma_auroc": "melanoma: AUROC",
    "melanoma_average_precision": "melanoma: average precision",
    "sensitivity@{point}": "melanoma: sensitivity at {point}, images",
    "specificity@{point}": "melanoma: specificity at {point}, images",
    "lesion_sensitivity@{point}": "melanoma: sensitivity at {point}, lesions",
    "lesion_specificity@{point}": "melanoma: specificity at {point}, lesions",
    "melanoma_calibration_error": "melanoma: calibration error",
    "macro_auroc": "mean AUROC of the classes",
    "balanced_accuracy": "balanced accuracy of the classes present",
    "accuracy": "accuracy",
}


_MARKUP = re.compile(r"([\\`*\[\]<>|#])")


def plain(text: str) -> str:
    """Text that is not to be taken for Markdown."""
    return _MARKUP.sub(r"\\\1", text)


def decision_lines(
    calibration: Calibration,
    points: Sequence[OperatingPoint],
    classes: Sequence[Diagnosis],
    *,
    fitted_on: str,
) -> list[str]:
    """Calibration and thresholds; `fitted_on` says on what, in words."""
    melanoma = calibration.prevalence_C[classes.index(Diagnosis.MEL)]
    return [
        f"Calibrated by {calibration.method} on {fitted_on} ({calibration.n_cases:,} images, "
        f"{calibration.n_groups:,} lesions), at a melanoma prevalence of {melanoma:.1%}.",
        "",
        "| operating point | threshold | promise, with 90 % confidence | sensitivity there | specificity there "
        "| melanomas |",
        "|---|---|---|---|---|---|",
        *(
            f"| {point.name} | {point.threshold:.4f} | {_promise(point)} "
            f"| {_share(point.sensitivity, point.sensitivity_interval)} "
            f"| {_share(point.specificity, point.specificity_interval)} | {point.n_melanoma} |"
            for point in points
        ),
        "",
    ]


def sets_lines(classes: Sequence[Diagnosis], sets: ConformalSets | None) -> list[str]:
    """The promise of the prediction sets; nothing where there is none."""
    if sets is None:
        return []
    promised = [c for c, kept in zip(classes, sets.promised_C, strict=True) if kept]
    text = (
        f"Prediction sets: of the lesions of each diagnosis, at least {sets.coverage:.0%} get a list of "
        f"diagnoses to consider that holds it. Promised for {', '.join(promised) or 'none'}"
    )
    if kept_in := [c for c in classes if c not in promised]:
        text += f"; always on the list, for want of lesions: {', '.join(kept_in)}"
    return [text + ".", ""]


def novelty_lines(limits: NoveltyLimits | None) -> list[str]:
    """The limits of novelty; nothing where there are none."""
    if limits is None:
        return []
    return [
        f"Novelty ({limits.method}): beyond the outer limit an image cannot be assessed, beyond the inner one it gets "
        f"no reassuring decision; of {limits.n_images:,} held-out images these were {limits.false_alarm_foreign:.1%} "
        f"and {limits.false_alarm_unusual:.1%}.",
        "",
    ]


def figure_table(measurements: tuple[Measurement, ...], point: str) -> list[str]:
    """The main figures, a column a set of images."""
    names = {key.format(point=point): text.format(point=point) for key, text in _FIGURES.items()}
    lines = [
        "| Figure | " + " | ".join(plain(m.name) for m in measurements) + " |",
        "|---" * (len(measurements) + 1) + "|",
        "| images / lesions / images of melanoma | "
        + " | ".join(f"{m.n_images:,} / {m.n_groups:,} / {m.n_melanoma:,}" for m in measurements)
        + " |",
    ]
    lines += [
        f"| {text} | " + " | ".join(_figure(m.figures.get(name)) for m in measurements) + " |"
        for name, text in names.items()
    ]
    return lines


def _promise(point: OperatingPoint) -> str:
    if point.guaranteed:
        return f"{point.target} at least {point.target_value:.0%}"
    return f"none: too few lesions ({point.target} at least {point.lower_bound:.1%})"


def _figure(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "undefined"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _share(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"
