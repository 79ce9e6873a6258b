"""Plots of what is made of the scores: probabilities, decisions, prediction sets, and silence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.stats import binomtest

from melascope.domain.assessment import Decision, PredictiveValues
from melascope.evaluation.drawing import INK, MELANOMA, OTHER, PALE, POINT, svg
from melascope.evaluation.judged import Judged
from melascope.evaluation.selective import RiskCurve, diagnosis_curve, missed_curve
from melascope.evaluation.sets import SetFigures
from melascope.evaluation.triaged import TriageFigures

_N_BINS = 10
_MARKERS = "osD^vP*X"
_DECISION_COLOURS = {
    Decision.REFER: MELANOMA,
    Decision.UNCERTAIN: POINT,
    Decision.NO_SIGN: OTHER,
    Decision.CANNOT_ASSESS: PALE,
}


def _percent() -> PercentFormatter:
    return PercentFormatter(1.0, symbol=" %")


def triage_plot(triage: TriageFigures) -> str:
    """A bar a truth, parted by what is told."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, counts in enumerate(triage.counts.values()):
            n, left = sum(counts.values()), 0.0
            for decision, colour in _DECISION_COLOURS.items():
                width = 100 * counts[decision] / n
                label = decision.label if row == 0 else None
                axes.barh(row, width, left=left, color=colour, alpha=0.85, label=label, height=0.62)
                if width >= 4:
                    axes.annotate(
                        f"{width:.0f} %", (left + width / 2, row), ha="center", va="center", color="white"
                    )
                left += width
        names = [f"{truth} ({sum(counts.values())})" for truth, counts in triage.counts.items()]
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(xlabel="% of the lesions of its kind", xlim=(0, 100))
        figure.legend(loc="outside upper left", ncols=4)

    return svg(
        "What is told of each kind of lesion", draw, width_in=10.4, height_in=1.5 + 0.5 * len(triage.counts)
    )


def predictive_value_plot(projected: Sequence[PredictiveValues], judged_prevalence: float) -> str:
    """PPV and NPV against the share of melanoma, with 95 % bands."""
    at = [values.prevalence for values in projected]

    def panel(axes: Axes, name: str, label: str, colour: str) -> None:
        axes.plot(at, np.array([getattr(values, name) for values in projected], dtype=float), color=colour)
        low, high = zip(*(getattr(values, f"{name}_interval") for values in projected), strict=True)
        axes.fill_between(at, low, high, color=colour, alpha=0.22, linewidth=0)
        axes.axvline(judged_prevalence, color=INK, linewidth=0.7, linestyle=":", label="in the set judged")
        axes.set_xscale("log")
        axes.set_xticks([0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5], ["0.1 %", "1", "2", "5", "10", "20", "50"])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(_percent())
        axes.set(xlabel="lesions that are melanoma", title=label, xlim=(at[0], at[-1]))
        axes.margins(y=0.02)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        panel(left, "ppv", "PPV: melanomas among the referred", MELANOMA)
        panel(right, "npv", "NPV: others among those not referred", OTHER)
        left.set_ylim(0, None)
        right.set_ylim(None, 1.0)
        left.legend(loc="upper left")

    return svg("Predictive values against the share of melanoma", draw, width_in=10.4, height_in=3.8)


def reliability_plot(before: Judged, after: Judged) -> str:
    """Observed share of melanoma in bins of the stated probability, with 95 % intervals and counts.

    Lesions have one vote each, shared by their images; the interval is that of so many lesions.
    """

    def draw(figure: Figure) -> None:
        curves, counts = figure.subplots(2, 2, sharex=True, height_ratios=(3, 1))
        for axes, below, judged, title in zip(
            curves, counts, (before, after), ("as trained", "calibrated"), strict=True
        ):
            _reliability(axes, below, judged)
            axes.set_title(title)
            below.set(xlabel="stated probability of melanoma", xlim=(-0.02, 1.02))
            below.xaxis.set_major_formatter(_percent())
        curves[0].set_ylabel("observed share of melanoma")
        counts[0].set_ylabel("lesions")
        curves[0].legend(loc="upper left")

    return svg("Stated against observed probability of melanoma", draw, width_in=10.4, height_in=5.6)


def _reliability(axes: Axes, below: Axes, judged: Judged) -> None:
    known_N = ~np.isnan(judged.predictions.melanoma_N)
    score_N, melanoma_N = judged.score_N[known_N], judged.predictions.melanoma_N[known_N] == 1
    vote_N = judged.vote_N[known_N]
    bin_N = np.minimum((score_N * _N_BINS).astype(int), _N_BINS - 1)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":", label="what is stated occurs")
    votes_K = np.bincount(bin_N, weights=vote_N, minlength=_N_BINS)
    for k in np.flatnonzero(votes_K):
        in_bin_N = bin_N == k
        stated = float(vote_N[in_bin_N] @ score_N[in_bin_N]) / votes_K[k]
        observed = float(vote_N[in_bin_N] @ melanoma_N[in_bin_N]) / votes_K[k]
        n_lesions = max(1, round(votes_K[k]))
        interval = binomtest(min(n_lesions, round(observed * n_lesions)), n_lesions).proportion_ci()
        axes.plot([stated, stated], [interval.low, interval.high], color=MELANOMA, linewidth=1.2)
        axes.plot(stated, observed, "o", color=MELANOMA, markersize=6, clip_on=False)
        below.annotate(
            str(n_lesions), ((k + 0.5) / _N_BINS, votes_K[k]), ha="center", va="bottom", fontsize=8
        )
    axes.yaxis.set_major_formatter(_percent())
    axes.set(ylim=(-0.02, 1.02))
    below.bar((np.arange(_N_BINS) + 0.5) / _N_BINS, votes_K, width=0.9 / _N_BINS, color=OTHER, alpha=0.7)
    below.set_ylim(0, 1.25 * votes_K.max())


def set_plot(sets: SetFigures) -> str:
    """Coverage of each diagnosis against the promise, and how many diagnoses the sets hold."""

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        rows = [(d, of) for d, of in sets.per_class.items() if of.n_lesions]
        for row, (_, of) in enumerate(rows):
            left.plot([of.coverage.low, of.coverage.high], [row, row], color=OTHER, linewidth=1.4)
            face = OTHER if of.promised else "none"
            left.plot(of.coverage.value, row, "o", color=OTHER, markerfacecolor=face, clip_on=False)
        left.axvline(sets.promise, color=INK, linewidth=0.9, linestyle="--")
        left.annotate(f"promised: {100 * sets.promise:.0f} %", (sets.promise, -0.7), ha="center", fontsize=8)
        left.set_yticks(range(len(rows)), [f"{d.label} ({of.n_lesions})" for d, of in rows])
        left.set(title="lesions whose set holds the diagnosis", xlim=(None, 1.0), ylim=(len(rows) - 0.5, -1))
        left.xaxis.set_major_locator(MaxNLocator(5))
        left.xaxis.set_major_formatter(_percent())
        sizes = np.flatnonzero(sets.size_shares)
        right.bar(sizes, [sets.size_shares[size] for size in sizes], color=OTHER, alpha=0.7)
        for size in sizes:
            share = sets.size_shares[size]
            right.annotate(f"{100 * share:.1f} %", (size, share), ha="center", va="bottom", fontsize=8)
        right.set_xticks(range(sizes.max() + 1))
        right.yaxis.set_major_formatter(_percent())
        right.set(title="diagnoses per set")

    return svg("Prediction sets: coverage and size", draw, width_in=10.4, height_in=3.6)


def risk_plot(judged: Judged) -> str:
    """Both risk-coverage curves, the operating points marked on that of the melanomas."""

    def curve_of(axes: Axes, curve: RiskCurve, colour: str, title: str, xlabel: str) -> None:
        axes.plot(curve.answered_BT[0], curve.risk_BT[0], color=colour)
        axes.xaxis.set_major_formatter(_percent())
        axes.yaxis.set_major_formatter(_percent())
        axes.set(xlabel=xlabel, title=title, xlim=(0, 1.01), ylim=(0, None))

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        curve_of(
            left, diagnosis_curve(judged), OTHER, "wrong diagnoses", "lesions answered, the surest first"
        )
        curve_of(
            right,
            missed_curve(judged),
            MELANOMA,
            "melanomas among the reassured",
            "lesions reassured, the least suspicious first",
        )
        votes = judged.votes()
        for (point, referred_N), marker in zip(judged.referred.items(), _MARKERS, strict=False):
            reassured_L = ~referred_N[votes.image_L]
            if reassured_L.any():
                missed = votes.melanoma_L[reassured_L].mean()
                right.plot(reassured_L.mean(), missed, marker, color=POINT, label=point, clip_on=False)
        right.legend(loc="upper left")

    return svg("Risk against the share answered", draw, width_in=10.4, height_in=3.8)
