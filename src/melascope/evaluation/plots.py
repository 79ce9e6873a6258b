"""The report's plots, as SVG that takes the page's text colour and asks no host for anything."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import binomtest

from melascope.decision.operating_point import OperatingPoint
from melascope.evaluation.measure import Judged
from melascope.evaluation.metrics import Roc

_INK = "#010203"  # becomes currentColor: dark on a light page, light on a dark one
_MELANOMA, _OTHER, _POINT = "#c2573a", "#4a86c5", "#8a6fc0"  # told apart by the colour-blind too
_N_BINS = 10
_SCORE_TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def _svg(name: str, draw: Callable[[Axes], None], *, width_in: float = 5.0, height_in: float = 4.6) -> str:
    """An `<svg>` element; `name` keeps its inner ids apart from those of the page's other plots."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*" |height="[^"]*" (?=[^>]*viewBox)', r"\1", svg, count=2)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{name}" class="plot" ', 1)


def _known(judged: Judged) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    melanoma_N = judged.predictions.melanoma_N
    known_N = ~np.isnan(melanoma_N)
    return judged.score_N[known_N], melanoma_N[known_N] == 1


def roc_plot(judged: Judged, points: Sequence[OperatingPoint]) -> str:
    """ROC curve of melanoma over images, the operating points marked where they fall on these images."""
    score_N, melanoma_N = _known(judged)
    roc = Roc.of(score_N, melanoma_N)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.7, linestyle=":", label="guessing")
        axes.plot(roc.false_positive_rate_BT()[0], roc.sensitivity_BT()[0], color=_MELANOMA)
        for point, marker in zip(points, "osD^vP*X", strict=False):
            referred_N = point.refers(score_N)
            axes.plot(
                referred_N[~melanoma_N].mean(),
                referred_N[melanoma_N].mean(),
                marker,
                color=_POINT,
                markersize=7,
                clip_on=False,
                label=point.name,
            )
        axes.set(xlabel="1 - specificity: other lesions referred", ylabel="sensitivity: melanomas referred")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.legend(loc="lower right")

    return _svg("ROC curve of melanoma", draw)


def precision_recall_plot(judged: Judged) -> str:
    """Precision against sensitivity over images, with the share of melanoma that guessing would reach."""
    score_N, melanoma_N = _known(judged)
    roc = Roc.of(score_N, melanoma_N)
    gains_T = 1 + np.flatnonzero(np.diff(roc.true_BT[0]))  # the thresholds that find one more melanoma
    true_T, false_T = roc.true_BT[0, gains_T], roc.false_BT[0, gains_T]

    def draw(axes: Axes) -> None:
        axes.axhline(
            melanoma_N.mean(),
            color=_INK,
            linewidth=0.7,
            linestyle=":",
            label=f"guessing: {100 * melanoma_N.mean():.1f} % are melanoma",
        )
        sensitivity_T, ppv_T = true_T / true_T[-1], true_T / (true_T + false_T)
        axes.step(np.append(0, sensitivity_T), np.append(ppv_T[0], ppv_T), color=_MELANOMA, where="pre")
        axes.set(xlabel="sensitivity: melanomas referred", ylabel="PPV: melanomas among the referred")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), aspect="equal")
        axes.legend(loc="lower left")

    return _svg("Precision-recall curve of melanoma", draw)


def reliability_plot(judged: Judged) -> str:
    """Observed share of melanoma in bins of the stated probability, with 95 % intervals and counts.

    Lesions have one vote each, shared by their images; the interval is that of so many lesions.
    """
    score_N, melanoma_N = _known(judged)
    vote_N = judged.vote_N[~np.isnan(judged.predictions.melanoma_N)]
    bin_N = np.minimum((score_N * _N_BINS).astype(int), _N_BINS - 1)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.7, linestyle=":", label="what is stated occurs")
        for k in range(_N_BINS):
            in_bin_N = bin_N == k
            n_votes = float(vote_N[in_bin_N].sum())
            if not n_votes:
                continue
            stated = float(vote_N[in_bin_N] @ score_N[in_bin_N]) / n_votes
            observed = float(vote_N[in_bin_N] @ melanoma_N[in_bin_N]) / n_votes
            n_lesions = max(1, round(n_votes))
            interval = binomtest(min(n_lesions, round(observed * n_lesions)), n_lesions).proportion_ci()
            axes.plot([stated, stated], [interval.low, interval.high], color=_MELANOMA, linewidth=1.2)
            axes.plot(stated, observed, "o", color=_MELANOMA, markersize=6, clip_on=False)
            axes.annotate(str(n_lesions), (stated, -0.055), ha="center", va="center", fontsize=8)
        axes.annotate("lesions", (-0.07, -0.055), ha="right", va="center", fontsize=8, annotation_clip=False)
        axes.axhline(-0.02, color=_INK, linewidth=0.3)
        axes.set(xlabel="stated probability of melanoma", ylabel="observed share of melanoma")
        axes.set(xlim=(-0.05, 1.01), ylim=(-0.09, 1.01), aspect="equal")
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.08))

    return _svg("Stated against observed probability of melanoma", draw)


def score_plot(judged: Judged, points: Sequence[OperatingPoint]) -> str:
    """How the scores of melanomas and of other lesions spread, and where the thresholds cut."""
    score_N, melanoma_N = _known(judged)
    ends = (_SCORE_TICKS[0], _SCORE_TICKS[-1])
    position_N = logit(np.clip(score_N, *ends))
    edges = np.linspace(logit(ends[0]), logit(ends[1]), 41).tolist()

    def draw(axes: Axes) -> None:
        for chosen_N, colour, label in ((~melanoma_N, _OTHER, "other"), (melanoma_N, _MELANOMA, "melanoma")):
            share_N = np.full(chosen_N.sum(), 100 / max(chosen_N.sum(), 1))
            axes.hist(
                position_N[chosen_N],
                edges,
                weights=share_N,
                color=colour,
                alpha=0.55,
                label=f"{label} ({chosen_N.sum()} images)",
            )
        top = axes.get_ylim()[1]
        by_threshold = sorted(points, key=lambda point: point.threshold, reverse=True)
        for level, point in enumerate(by_threshold):  # names stand above each other: thresholds may be close
            at, height = logit(np.clip(point.threshold, *ends)), top * (1.03 + 0.08 * level)
            axes.plot([at, at], [0, height], color=_POINT, linewidth=1.2, linestyle="--", clip_on=False)
            axes.annotate(f" {point.name}", (at, height), fontsize=8, va="center", annotation_clip=False)
        axes.set_ylim(0, top)
        axes.set_xticks(logit(np.array(_SCORE_TICKS)), [f"{100 * tick:g} %" for tick in _SCORE_TICKS])
        axes.set(xlabel="probability of melanoma (stretched scale)", ylabel="% of the images of its kind")
        axes.legend(loc="upper right")

    return _svg("Spread of the melanoma scores", draw, width_in=10.4, height_in=4.0)
