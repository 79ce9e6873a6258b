"""An evaluation, whole: `metrics.json` for programs and one self-contained HTML page for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import jinja2
import numpy as np

from melascope import __version__
from melascope.decision.calibration import CalibrationMethod
from melascope.decision.operating_point import OperatingPoint
from melascope.decision.triage import Cause
from melascope.evaluation import decision_plots, plots
from melascope.evaluation.evaluate import Evaluation
from melascope.evaluation.intervals import Estimate
from melascope.evaluation.judged import as_trained
from melascope.evaluation.projected import melanoma_share, project
from melascope.evaluation.selective import SHARES
from melascope.evaluation.triaged import DECISIONS
from melascope.writing import whole_file

#: Figure -> its name in words; those in `_IN_PERCENT` are shown as such, as is every "share".
FIGURE_NAMES: Mapping[str, str] = {
    "melanoma_auroc": "AUROC",
    "melanoma_partial_auroc_80": "partial AUROC above 80 %",
    "melanoma_average_precision": "average precision",
    "melanoma_sensitivity_at_specificity_90": "sensitivity at 90 % specificity",
    "melanoma_specificity_at_sensitivity_95": "specificity at 95 % sensitivity",
    "melanoma_calibration_error": "calibration error",
    "melanoma_brier": "Brier score",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_auroc": "mean AUROC",
    "macro_specificity": "mean specificity",
    "macro_f1": "mean F1",
    "macro_ppv": "mean PPV",
    "macro_npv": "mean NPV",
    "macro_average_precision": "mean average precision",
    "log_loss": "log loss",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "lesion_sensitivity": "sensitivity, lesions",
    "lesion_specificity": "specificity, lesions",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "average precision",
}
_IN_PERCENT = frozenset(
    {
        "melanoma_sensitivity_at_specificity_90",
        "melanoma_specificity_at_sensitivity_95",
        "accuracy",
        "balanced_accuracy",
        "macro_specificity",
        "macro_ppv",
        "macro_npv",
        "sensitivity",
        "specificity",
        "lesion_sensitivity",
        "lesion_specificity",
        "ppv",
        "npv",
        "share",
    }
)
_CAUSES: Mapping[Cause, str] = {
    "unusable-photograph": "the photograph is unusable",
    "foreign-image": "it does not look like a photograph of a lesion as the model knows them",
    "unusual-image": "it is unlike the photographs that the model has learnt from",
    "poor-photograph": "the photograph is poor",
    "no-diagnosis-fits": "no diagnosis fits",
    "malignancy-not-excluded": "a malignant diagnosis cannot be excluded",
}
_METHODS: Mapping[CalibrationMethod, str] = {
    "none": "none: the network's own probabilities",
    "temperature": "temperature: all logits divided by one number",
    "bias-corrected-temperature": "bias-corrected temperature: all logits divided by one number, and one number "
    "added for each diagnosis",
    "vector": "vector scaling: each diagnosis's logit has a factor and a shift of its own",
    "platt": "Platt: after bias-corrected temperature, each diagnosis's log-odds on a straight line of its own",
    "beta": "beta: after bias-corrected temperature, each diagnosis's log-odds on a bent line of its own",
    "isotonic": "isotonic: after bias-corrected temperature, each diagnosis's log-odds on a rising curve of its own",
}


def write_report(evaluation: Evaluation, folder: Path) -> tuple[Path, Path]:
    """Write `metrics.json` and `report.html` into the folder; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics_path, report_path = folder / "metrics.json", folder / "report.html"
    text = json.dumps(evaluation.to_dict(), indent=2, allow_nan=False) + "\n"
    page = render(evaluation)
    with whole_file(metrics_path) as file:
        file.write(text)
    with whole_file(report_path) as file:
        file.write(page)
    return metrics_path, report_path


def render(evaluation: Evaluation) -> str:
    """The page: everything inline, nothing fetched."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("melascope.evaluation", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = format_figure
    environment.filters["number"] = format_number
    environment.filters["interval"] = format_interval
    return environment.get_template("report.html.j2").render(
        e=evaluation,
        m=evaluation.measured,
        main=evaluation.fitted.main,
        names=FIGURE_NAMES,
        causes=_CAUSES,
        method=_METHODS[evaluation.fitted.calibration.method],
        decisions=DECISIONS,
        shares=SHARES,
        promise=promise,
        estimate=Estimate,
        version=__version__,
        plots=_plots(evaluation),
    )


def _plots(evaluation: Evaluation) -> dict[str, str]:
    """No curves where the cases lack melanomas or others: a curve of nothing misleads."""
    judged, fitted = evaluation.judged, evaluation.fitted
    drawn = {"triage": decision_plots.triage_plot(evaluation.triage)}
    if evaluation.sets is not None and evaluation.measured.n_diagnosed:
        drawn["sets"] = decision_plots.set_plot(evaluation.sets)
    if not {0.0, 1.0} <= set(judged.predictions.melanoma_N.tolist()):
        return drawn
    grid = project(judged, fitted.main, np.geomspace(0.001, 0.5, 60).tolist())
    return drawn | {
        "roc": plots.roc_plot(judged),
        "precision_recall": plots.precision_recall_plot(judged),
        "scores": plots.score_plot(judged, fitted.operating_points),
        "reliability": decision_plots.reliability_plot(as_trained(judged.predictions), judged),
        "predictive_values": decision_plots.predictive_value_plot(grid, melanoma_share(judged)),
        "risk": decision_plots.risk_plot(judged),
    }


def promise(point: OperatingPoint) -> str:
    """What the operating point guarantees of lesions like those it was chosen on, in words."""
    target = f"{100 * point.target_value:.0f} %"
    if point.guaranteed:
        return f"{point.target} at least {target} with {100 * point.confidence:.0f} % confidence"
    n, kind = (
        (point.n_melanoma, "melanomas") if point.target == "sensitivity" else (point.n_other, "other lesions")
    )
    return f"none: {n} {kind} are too few to promise {target}"


def format_number(value: float | None, name: str) -> str:
    """A figure's value as the page and the terminal show it."""
    if value is None or math.isnan(value):
        return "undefined"
    scale, digits, unit = _scale(name)
    return f"{scale * value:.{digits}f}{unit}"


def _scale(name: str) -> tuple[int, int, str]:
    """Factor, decimals and unit."""
    if name == "projected_npv":  # near 100 %
        return 100, 2, " %"
    return (100, 1, " %") if name in _IN_PERCENT else (1, 3, "")


def format_interval(figure: Estimate, name: str) -> str:
    """A figure's interval without its unit; empty where there is none."""
    if math.isnan(figure.low):
        return ""
    scale, digits, _ = _scale(name)
    return f"{scale * figure.low:.{digits}f} to {scale * figure.high:.{digits}f}"


def format_figure(figure: Estimate, name: str) -> str:
    """A figure with its interval."""
    interval = format_interval(figure, name)
    return format_number(figure.value, name) + (f" ({interval})" if interval else "")
