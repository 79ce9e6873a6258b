"""The loss: cross-entropy on what is known of a label, with remedies for class imbalance.

A label is a set of classes that it allows: one for a diagnosis, all but melanoma for "not melanoma", all for
"unknown". The loss is the negative log of the probability of the set (a marginal likelihood), so coarse labels
teach what they say and nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.learning.recipe import LossPart


def allowed_classes(cases: Sequence[Case], classes: Sequence[Diagnosis]) -> NDArray[np.bool_]:
    """Shape (n, classes): which classes a case's label allows."""
    allowed_NC = np.ones((len(cases), len(classes)), dtype=bool)
    melanoma = list(classes).index(Diagnosis.MEL)
    for row, case in enumerate(cases):
        if case.diagnosis in classes:
            allowed_NC[row] = [diagnosis is case.diagnosis for diagnosis in classes]
        elif case.melanoma is not None:
            allowed_NC[row] = [(c == melanoma) == case.melanoma for c in range(len(classes))]
    return allowed_NC


def class_counts(allowed_NC: NDArray[np.bool_], *, rounds: int = 20) -> NDArray[np.float64]:
    """Expected number of cases a class, at least 1: a coarse label counts for its classes in their proportion."""
    counts_C = np.ones(allowed_NC.shape[1])
    for _ in range(rounds):  # expectation maximisation; settles at once where all labels are exact
        share_NC = allowed_NC * counts_C
        counts_C = np.maximum((share_NC / share_NC.sum(axis=1, keepdims=True)).sum(axis=0), 1.0)
    return counts_C


def sampling_weights(allowed_NC: NDArray[np.bool_], power: float) -> NDArray[np.float64]:
    """How often to draw each case so that the classes come near equal frequency (`power` 1)."""
    weight_C = class_counts(allowed_NC) ** -power
    return np.asarray((allowed_NC * weight_C).sum(axis=1) / allowed_NC.sum(axis=1))


class LabelSetLoss(nn.Module):
    """Mean loss of a batch.

    Parameters
    ----------
    prior_SC
        Class frequencies of each source, shape (sources, classes), rows sum to 1; for `logit-adjustment`.
    counts_C
        Expected cases a class over all; for `class-weights`.
    """

    prior_SC: Tensor
    weight_C: Tensor

    def __init__(
        self, part: LossPart, *, prior_SC: NDArray[np.float64], counts_C: NDArray[np.float64]
    ) -> None:
        super().__init__()
        self.part = part
        adjust = part.power if part.imbalance == "logit-adjustment" else 0.0
        self.register_buffer(
            "prior_SC", torch.from_numpy(adjust * np.log(prior_SC)).float(), persistent=False
        )
        weight_C = np.ones(len(counts_C))
        if part.imbalance == "class-weights":
            weight_C = (counts_C.sum() / counts_C) ** part.power
            weight_C *= counts_C.sum() / (weight_C @ counts_C)  # mean weight over the cases is 1
        self.register_buffer("weight_C", torch.from_numpy(weight_C).float(), persistent=False)

    def forward(self, logits_NC: Tensor, allowed_NC: Tensor, source_N: Tensor) -> Tensor:
        """Loss of each case, shape (n,)."""
        log_p_NC = F.log_softmax(logits_NC.float() + self.prior_SC[source_N], dim=1)
        log_allowed_N = torch.logsumexp(log_p_NC.masked_fill(~allowed_NC, -torch.inf), dim=1)
        exact_N = allowed_NC.sum(dim=1) == 1
        loss_N = -log_allowed_N
        if self.part.focal_gamma:
            loss_N = (1 - log_allowed_N.exp()).clamp(min=1e-6) ** self.part.focal_gamma * loss_N
        if self.part.label_smoothing:
            smooth = (
                self.part.label_smoothing * exact_N
            )  # a coarse label is not certain of its classes anyway
            loss_N = (1 - smooth) * loss_N - smooth * log_p_NC.mean(dim=1)
        weight_N = (self.weight_C * allowed_NC).sum(dim=1) / allowed_NC.sum(dim=1)
        return torch.where(exact_N, weight_N, torch.ones_like(weight_N)) * loss_N
