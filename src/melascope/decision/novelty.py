"""Placeholder of the contract, to be replaced whole by the novelty work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from melascope.domain.assessment import Familiarity


@dataclass(frozen=True, kw_only=True, slots=True)
class NoveltyLimits:
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    method: str
    unusual: float
    foreign: float
    false_alarm_unusual: float
    false_alarm_foreign: float
    n_images: int

    def familiarity(self, score: float) -> Familiarity:
        return "foreign" if score > self.foreign else "unusual" if score > self.unusual else "familiar"


class NoveltyModel:
    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self:
        raise NotImplementedError

    def score(self, embedding_NE: NDArray[np.float64], logits_NC: NDArray[np.float64]) -> NDArray[np.float64]:
        raise NotImplementedError
