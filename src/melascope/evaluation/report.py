"""An evaluation, whole: `metrics.json` for programs and one self-contained HTML page for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import jinja2

from melascope import __version__
from melascope.decision.operating_point import OperatingPoint
from melascope.evaluation import plots
from melascope.evaluation.evaluate import Evaluation
from melascope.evaluation.intervals import Estimate
from melascope.evaluation.measure import Judged

#: Figure -> its name in words; those in `_IN_PERCENT` are shown as such.
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
    }
)


def write_report(evaluation: Evaluation, folder: Path) -> tuple[Path, Path]:
    """Write `metrics.json` and `report.html` into the folder; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics_path, report_path = folder / "metrics.json", folder / "report.html"
    text = json.dumps(evaluation.to_dict(), indent=2, allow_nan=False) + "\n"
    metrics_path.write_text(text, encoding="utf-8")
    report_path.write_text(render(evaluation), encoding="utf-8")
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
    judged, points = evaluation.judged, evaluation.fitted.operating_points
    return environment.get_template("report.html.j2").render(
        e=evaluation,
        m=evaluation.measured,
        main=next(point for point in points if point.name == evaluation.fitted.main_point),
        names=FIGURE_NAMES,
        version=__version__,
        plots=_plots(judged, points),
    )


def _plots(judged: Judged, points: tuple[OperatingPoint, ...]) -> dict[str, str]:
    """No plots where the cases lack melanomas or others: a curve of nothing misleads."""
    outcomes = set(judged.predictions.melanoma_N.tolist())
    if not {0.0, 1.0} <= outcomes:
        return {}
    return {
        "roc": plots.roc_plot(judged, points),
        "precision_recall": plots.precision_recall_plot(judged),
        "reliability": plots.reliability_plot(judged),
        "scores": plots.score_plot(judged, points),
    }


def format_number(value: float, name: str) -> str:
    """A figure's value as the page and the terminal show it."""
    if math.isnan(value):
        return "undefined"
    return f"{100 * value:.1f} %" if name in _IN_PERCENT else f"{value:.3f}"


def format_figure(figure: Estimate, name: str) -> str:
    """A figure with its interval."""
    value = format_number(figure.value, name)
    if math.isnan(figure.low):
        return value
    scale, digits = (100, 1) if name in _IN_PERCENT else (1, 3)
    return f"{value} ({scale * figure.low:.{digits}f} to {scale * figure.high:.{digits}f})"
