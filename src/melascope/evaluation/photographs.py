"""What is known of the photographs themselves: how many are novel to the model, and how many are flawed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from melascope.decision.novelty import NoveltyLimits
from melascope.domain.case import UNNAMED
from melascope.evaluation import metrics
from melascope.evaluation.intervals import Estimate, Named, Statistic, estimate
from melascope.evaluation.judged import Judged
from melascope.evaluation.measure import figures_to_dict
from melascope.evaluation.predictions import Finding, Predictions

Part: TypeAlias = Literal["all", "source", "diagnosis"]
#: Which photographs have it, and of which photographs that is a share.
_Share: TypeAlias = tuple[NDArray[np.bool_], NDArray[np.bool_]]
_Estimates: TypeAlias = Callable[[dict[str, _Share]], dict[str, Estimate]]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoveltyShares:
    """How many photographs of one source or diagnosis are unlike those that the model learnt from."""

    part: Part
    value: str  #: of the source or diagnosis; empty for all
    n_images: int  #: whose novelty is known
    unusual: Estimate  #: share beyond the limit of the familiar, foreign ones included
    foreign: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingShare:
    """How many photographs have one finding."""

    finding: Finding
    n_images: int
    share: Estimate  #: of all photographs


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotographFigures:
    """None where the table, or the bundle, does not tell."""

    novelty: tuple[NoveltyShares, ...] | None
    quality: tuple[FindingShare, ...] | None  #: the most frequent first

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined numbers are None."""
        novelty = [
            {"part": found.part, "value": found.value, "n_images": found.n_images}
            | figures_to_dict({"unusual": found.unusual, "foreign": found.foreign})
            for found in self.novelty or ()
        ]
        quality = [
            found.finding._asdict() | {"n_images": found.n_images} | figures_to_dict({"share": found.share})
            for found in self.quality or ()
        ]
        return {
            "novelty": None if self.novelty is None else novelty,
            "quality": None if self.quality is None else quality,
        }


def measure_photographs(
    judged: Judged, limits: NoveltyLimits | None, *, n_bootstrap: int = 1000, seed: int = 0
) -> PhotographFigures:
    """Shares of photographs, with 95 % intervals from resampling patients or lesions."""
    predictions = judged.predictions
    novelty_N, quality_N = predictions.novelty_N, predictions.quality_N

    def estimates(shares: dict[str, _Share]) -> dict[str, Estimate]:
        return estimate(_statistic(shares), predictions.groups_N, n_draws=n_bootstrap, seed=seed)

    return PhotographFigures(
        novelty=None
        if limits is None or novelty_N is None
        else _novelty(predictions, novelty_N, limits, estimates),
        quality=None if quality_N is None else _quality(quality_N, estimates),
    )


def _novelty(
    predictions: Predictions, novelty_N: NDArray[np.float64], limits: NoveltyLimits, estimates: _Estimates
) -> tuple[NoveltyShares, ...]:
    known_N = ~np.isnan(novelty_N)
    parts: dict[tuple[Part, str], NDArray[np.bool_]] = {("all", ""): known_N}
    labels: dict[Part, list[str]] = {
        "source": [case.source or UNNAMED for case in predictions.cases],
        "diagnosis": [case.diagnosis.label for case in predictions.cases],
    }
    for part, label_N in labels.items():
        for value, _ in Counter(label_N).most_common():
            parts[part, value] = known_N & (np.array(label_N) == value)
    parts = {name: of_N for name, of_N in parts.items() if of_N.any()}
    found = estimates(
        {
            f"unusual {part} {value}": (novelty_N > limits.unusual, of_N)
            for (part, value), of_N in parts.items()
        }
        | {
            f"foreign {part} {value}": (novelty_N > limits.foreign, of_N)
            for (part, value), of_N in parts.items()
        }
    )
    return tuple(
        NoveltyShares(
            part=part,
            value=value,
            n_images=int(of_N.sum()),
            unusual=found[f"unusual {part} {value}"],
            foreign=found[f"foreign {part} {value}"],
        )
        for (part, value), of_N in parts.items()
    )


def _quality(quality_N: tuple[tuple[Finding, ...], ...], estimates: _Estimates) -> tuple[FindingShare, ...]:
    counts = Counter(finding for findings in quality_N for finding in set(findings))
    all_N = np.ones(len(quality_N), dtype=bool)
    found = estimates(
        {
            str(finding): (np.array([finding in findings for findings in quality_N]), all_N)
            for finding in counts
        }
    )
    return tuple(
        FindingShare(finding=finding, n_images=n, share=found[str(finding)])
        for finding, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def _statistic(shares: dict[str, _Share]) -> Statistic:
    def of_weights(weight_BN: NDArray[np.float64]) -> Named:
        return {
            name: metrics.ratio(weight_BN @ (is_N & of_N), weight_BN @ of_N, name)
            for name, (is_N, of_N) in shares.items()
        }

    return Statistic(of_weights, {name: of_N for name, (_, of_N) in shares.items()})
