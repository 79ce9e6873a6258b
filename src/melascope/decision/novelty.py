"""Novelty: is this a dermoscopic photograph of a lesion at all, and one like those the model has learnt from?

One linear model tells the embeddings and the appearance of dermoscopic photographs from those of other pictures
(outlier exposure). Distances in the embedding alone, which need no other pictures, find far fewer of them at the same
rate of false alarms: docs/experiments.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from melascope.domain.assessment import Familiarity
from melascope.errors import MelascopeError

METHOD = "logistic regression of embedding and appearance against foreign pictures"

_PENALTY = 0.003  # on the squared weights of standardised traits, beside the mean loss
_CONSTANT = 1e-9  # deviation, relative to the mean, that is mere rounding
_ROUNDING = 1e-9  # of summed votes, which are fractions of one lesion
_EMBEDDING, _APPEARANCE, _BIAS = "embedding_weight", "appearance_weight", "bias"


@dataclass(frozen=True, kw_only=True, slots=True)
class NoveltyLimits:
    """From which scores on an image is unusual, and from which on foreign.

    Raises
    ------
    ValueError
        A number outside its range, or limits in the wrong order.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    method: str
    unusual: float  #: scores above it are unlike what the model has learnt from: no reassuring decision
    foreign: float  #: scores above it cannot be assessed; at least `unusual`
    false_alarm_unusual: (
        float  #: share of images of new lesions, like those of calibration, above it: at most
    )
    false_alarm_foreign: float
    n_images: int  #: of calibration

    def __post_init__(self) -> None:
        if not (math.isfinite(self.unusual) and self.unusual <= self.foreign < math.inf):
            raise ValueError(
                f"unusual is {self.unusual} and foreign {self.foreign}; both finite, in this order"
            )
        if not 0 < self.false_alarm_foreign <= self.false_alarm_unusual < 1:
            raise ValueError(
                f"false_alarm_foreign is {self.false_alarm_foreign} and false_alarm_unusual "
                f"{self.false_alarm_unusual}; both above 0 and below 1, in this order"
            )
        if self.n_images < 1:
            raise ValueError(f"n_images is {self.n_images}; it must be at least 1")

    def familiarity(self, score: float) -> Familiarity:
        """What a score means; NaN is foreign."""
        if score <= self.unusual:
            return "familiar"
        return "unusual" if score <= self.foreign else "foreign"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NoveltyModel:
    """Weights on the signed square roots of the embedding, and on the appearance.

    Roots, for what a network's last layer gives is skewed: a few large activations would drown the others.
    """

    embedding_weight_E: NDArray[np.float32]
    appearance_weight_A: NDArray[np.float32]
    bias: float

    def score(
        self, embedding_NE: NDArray[np.floating], appearance_NA: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Log-odds of a foreign picture, shape (n,): the higher, the more novel.

        Parameters
        ----------
        embedding_NE
            Shape (n, e), of the network.
        appearance_NA
            Shape (n, a), of the images that the network saw, from `imaging.appearance`.

        Raises
        ------
        MelascopeError
            Traits of another number than the model was fitted on.
        """
        found = (np.shape(embedding_NE)[1], np.shape(appearance_NA)[1])
        fitted = (len(self.embedding_weight_E), len(self.appearance_weight_A))
        if found != fitted:
            raise MelascopeError(
                f"An image has {found[0]} numbers of embedding and {found[1]} of appearance; the novelty model "
                f"was fitted on {fitted[0]} and {fitted[1]}.",
                remedy="Fit the novelty model with the network that it is used with.",
            )
        return np.asarray(
            _rooted(embedding_NE) @ self.embedding_weight_E.astype(np.float64)
            + np.asarray(appearance_NA, dtype=np.float64) @ self.appearance_weight_A.astype(np.float64)
            + self.bias
        )

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What `from_arrays` reads, for a file; a few kilobytes."""
        return {
            _EMBEDDING: self.embedding_weight_E,
            _APPEARANCE: self.appearance_weight_A,
            _BIAS: np.array([self.bias], dtype=np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self:
        """The model of these arrays.

        Raises
        ------
        MelascopeError
            Names, shapes or types that are not a novelty model's, or numbers that are not finite.
        """
        remedy = f"A novelty model has the floating-point vectors {_EMBEDDING}, {_APPEARANCE} and {_BIAS} (1 number)."
        if set(arrays) != {_EMBEDDING, _APPEARANCE, _BIAS}:
            raise MelascopeError(
                f"The novelty model has the arrays {', '.join(sorted(arrays)) or 'none'}.", remedy=remedy
            )
        for name, array in arrays.items():
            if array.dtype.kind != "f" or array.ndim != 1 or (name == _BIAS and len(array) != 1):
                raise MelascopeError(
                    f"The novelty model's {name} is {array.dtype} of shape {array.shape}.", remedy=remedy
                )
            if not np.isfinite(array).all():
                raise MelascopeError(
                    f"The novelty model's {name} holds numbers that are not finite.", remedy=remedy
                )
        return cls(
            embedding_weight_E=arrays[_EMBEDDING].astype(np.float32),
            appearance_weight_A=arrays[_APPEARANCE].astype(np.float32),
            bias=float(arrays[_BIAS][0]),
        )


def fit_novelty(
    *,
    familiar_embedding_NE: NDArray[np.floating],
    familiar_appearance_NA: NDArray[np.floating],
    foreign_embedding_ME: NDArray[np.floating],
    foreign_appearance_MA: NDArray[np.floating],
) -> NoveltyModel:
    """Tell familiar images from foreign ones by penalised logistic regression; both count the same in all.

    Parameters
    ----------
    familiar_embedding_NE, familiar_appearance_NA
        Shapes (n, e) and (n, a): images of lesions that the network was trained on, and copies of them as other
        clinics might give them.
    foreign_embedding_ME, foreign_appearance_MA
        Shapes (m, e) and (m, a): pictures that show no lesion; the more kinds, the better.

    Raises
    ------
    MelascopeError
        No image on a side, or a trait that is not finite.

    References
    ----------
    Hendrycks, Mazeika and Dietterich, "Deep anomaly detection with outlier exposure", ICLR 2019.
    """
    from scipy.optimize import minimize  # not needed to apply a model, so no part of what serves
    from scipy.special import expit

    if not len(familiar_embedding_NE) or not len(foreign_embedding_ME):
        raise MelascopeError(
            f"There are {len(familiar_embedding_NE)} familiar and {len(foreign_embedding_ME)} foreign images.",
            remedy="A novelty model is fitted on both.",
        )
    traits_KT = np.concatenate(
        [
            np.concatenate([_rooted(familiar_embedding_NE), familiar_appearance_NA], axis=1),
            np.concatenate([_rooted(foreign_embedding_ME), foreign_appearance_MA], axis=1),
        ]
    )
    if not np.isfinite(traits_KT).all():
        raise MelascopeError(
            "An embedding or appearance is not finite.", remedy="Train or export the network again."
        )
    sign_K = np.repeat([-1.0, 1.0], [len(familiar_embedding_NE), len(foreign_embedding_ME)])
    vote_K = np.where(sign_K < 0, 0.5 / (sign_K < 0).sum(), 0.5 / (sign_K > 0).sum())
    mean_T, deviation_T = traits_KT.mean(axis=0), traits_KT.std(axis=0)
    varies_T = deviation_T > _CONSTANT * np.abs(mean_T)
    scale_T = np.where(varies_T, deviation_T, np.inf)  # a trait that never varies gets no weight
    standard_KT = (traits_KT - mean_T) / scale_T

    def loss_and_gradient(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight_T, bias = parameters[:-1], parameters[-1]
        margin_K = sign_K * (standard_KT @ weight_T + bias)
        slope_K = -vote_K * sign_K * expit(-margin_K)
        loss = vote_K @ np.logaddexp(0.0, -margin_K) + 0.5 * _PENALTY * weight_T @ weight_T
        return float(loss), np.append(standard_KT.T @ slope_K + _PENALTY * weight_T, slope_K.sum())

    fitted = minimize(loss_and_gradient, np.zeros(len(mean_T) + 1), jac=True, method="L-BFGS-B").x
    weight_T = fitted[:-1] / scale_T
    n_embedding = np.shape(familiar_embedding_NE)[1]
    return NoveltyModel(
        embedding_weight_E=weight_T[:n_embedding].astype(np.float32),
        appearance_weight_A=weight_T[n_embedding:].astype(np.float32),
        bias=float(np.float32(fitted[-1] - weight_T @ mean_T)),
    )


def fit_limits(
    score_N: NDArray[np.floating],
    lesions_N: list[str],
    *,
    unusual: float = 0.05,
    foreign: float = 0.015,
    method: str = METHOD,
) -> NoveltyLimits:
    """The lowest limits that keep the promised rates of false alarms.

    The promise (conformal, exact for finite samples) is for one image, whichever, of a new lesion like those of
    calibration; every lesion has one vote, shared by its images. Of other clinics' lesions it promises nothing.

    Parameters
    ----------
    score_N
        Shape (n,), of images that neither the network nor the novelty model was fitted on.
    lesions_N
        Length n, the lesion of each image.
    unusual, foreign
        Shares of false alarms, 0 < foreign <= unusual < 1.

    Raises
    ------
    MelascopeError
        Too few lesions to promise the share of `foreign`.

    References
    ----------
    Laxhammar and Falkman, "Conformal prediction for distribution-independent anomaly detection in streaming
    vessel data", StreamKDD 2010. Lee, Barber and Willett, "Distribution-free inference with hierarchical data",
    arXiv 2306.06342, 2023 (several images of a lesion).
    """
    _, lesion_N, images_L = np.unique(
        np.asarray(lesions_N, dtype=str), return_inverse=True, return_counts=True
    )
    if foreign * (len(images_L) + 1) < 1:
        raise MelascopeError(
            f"There are {len(images_L)} calibration lesions; so few cannot promise {foreign:.1%} false alarms.",
            remedy=f"Calibrate on at least {math.ceil(1 / foreign) - 1} lesions, or do without a novelty model "
            "(`melascope export --without-novelty`).",
        )
    falling_N = np.argsort(-np.asarray(score_N, dtype=np.float64), kind="stable")
    score_N = np.asarray(score_N, dtype=np.float64)[falling_N]
    #: Lesions up to and with each image, and the new one, whose score may be anything.
    votes_N = np.cumsum(1 / images_L[lesion_N[falling_N]]) + 1

    def limit(share: float) -> float:
        beyond = int(np.searchsorted(votes_N, share * (len(images_L) + 1) + _ROUNDING, side="right"))
        return float(score_N[min(beyond, len(score_N) - 1)])

    return NoveltyLimits(
        method=method,
        unusual=limit(unusual),
        foreign=limit(foreign),
        false_alarm_unusual=unusual,
        false_alarm_foreign=foreign,
        n_images=len(score_N),
    )


def _rooted(embedding_NE: NDArray[np.floating]) -> NDArray[np.float64]:
    embedding_NE = np.asarray(embedding_NE, dtype=np.float64)
    return np.asarray(np.sign(embedding_NE) * np.sqrt(np.abs(embedding_NE)))
