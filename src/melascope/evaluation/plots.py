"""Plots of how well the scores tell melanoma from other lesions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import logit

from melascope.decision.operating_point import OperatingPoint
from melascope.evaluation.drawing import INK, MELANOMA, OTHER, POINT, svg
from melascope.evaluation.judged import Judged
from melascope.evaluation.metrics import Roc

_SCORE_TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
_MARKERS = "osD^vP*X"


def _known(judged: Judged) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    melanoma_N = judged.predictions.melanoma_N
    known_N = ~np.isnan(melanoma_N)
    return judged.score_N[known_N], melanoma_N[known_N] == 1


def roc_plot(judged: Judged) -> str:
    """ROC curve of melanoma over images, the operating points marked where they fall on these images."""
    score_N, melanoma_N = _known(judged)
    known_N = ~np.isnan(judged.predictions.melanoma_N)
    roc = Roc.of(score_N, melanoma_N)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":", label="guessing")
        axes.plot(roc.false_positive_rate_BT()[0], roc.sensitivity_BT()[0], color=MELANOMA)
        for (point, referred_N), marker in zip(judged.referred.items(), _MARKERS, strict=False):
            axes.plot(
                referred_N[known_N][~melanoma_N].mean(),
                referred_N[known_N][melanoma_N].mean(),
                marker,
                color=POINT,
                markersize=7,
                clip_on=False,
                label=point,
            )
        axes.set(xlabel="1 - specificity: other lesions referred", ylabel="sensitivity: melanomas referred")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.legend(loc="lower right")

    return svg("ROC curve of melanoma", draw)


def precision_recall_plot(judged: Judged) -> str:
    """Precision against sensitivity over images, with the share of melanoma that guessing would reach."""
    score_N, melanoma_N = _known(judged)
    roc = Roc.of(score_N, melanoma_N)
    gains_T = 1 + np.flatnonzero(np.diff(roc.true_BT[0]))  # the thresholds that find one more melanoma
    true_T, false_T = roc.true_BT[0, gains_T], roc.false_BT[0, gains_T]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axhline(
            melanoma_N.mean(),
            color=INK,
            linewidth=0.7,
            linestyle=":",
            label=f"guessing: {100 * melanoma_N.mean():.1f} % are melanoma",
        )
        sensitivity_T, ppv_T = true_T / true_T[-1], true_T / (true_T + false_T)
        axes.step(np.append(0, sensitivity_T), np.append(ppv_T[0], ppv_T), color=MELANOMA, where="pre")
        axes.set(xlabel="sensitivity: melanomas referred", ylabel="PPV: melanomas among the referred")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), aspect="equal")
        axes.legend(loc="lower left")

    return svg("Precision-recall curve of melanoma", draw)


def score_plot(judged: Judged, points: Sequence[OperatingPoint]) -> str:
    """How the scores of melanomas and of other lesions spread, and where the thresholds cut."""
    score_N, melanoma_N = _known(judged)
    ends = (_SCORE_TICKS[0], _SCORE_TICKS[-1])
    position_N = logit(np.clip(score_N, *ends))
    edges = np.linspace(logit(ends[0]), logit(ends[1]), 41).tolist()

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for chosen_N, colour, label in ((~melanoma_N, OTHER, "other"), (melanoma_N, MELANOMA, "melanoma")):
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
            axes.plot([at, at], [0, height], color=POINT, linewidth=1.2, linestyle="--", clip_on=False)
            axes.annotate(f" {point.name}", (at, height), fontsize=8, va="center", annotation_clip=False)
        axes.set_ylim(0, top)
        axes.set_xticks(logit(np.array(_SCORE_TICKS)), [f"{100 * tick:g} %" for tick in _SCORE_TICKS])
        axes.set(xlabel="probability of melanoma (stretched scale)", ylabel="% of the images of its kind")
        axes.legend(loc="upper right")

    return svg("Spread of the melanoma scores", draw, width_in=10.4, height_in=4.0)
