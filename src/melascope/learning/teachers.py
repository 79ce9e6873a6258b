"""Distillation: a network learns from others what an image looks like, besides its label (Hinton et al., 2015).

Teachers see the very views that the student sees (Beyer et al., CVPR 2022), once each, however many views they look at
when they judge. With the runs of a cross-validation as teachers, each case is taught by the one network that has not
learnt from it: what it says is a judgement, not a memory of the label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from melascope.domain.case import Case
from melascope.imaging.preprocess import PreprocessSpec
from melascope.learning.earlier import marks
from melascope.learning.recipe import Recipe
from melascope.learning.run import Run


class Teachers:
    """The networks of earlier runs.

    A case is taught by the teachers that have not learnt from its lesion, or by all if every one has.

    Parameters
    ----------
    train
        The student's cases to learn from.
    runs
        See `earlier.teachers_of`.
    """

    def __init__(self, recipe: Recipe, train: Sequence[Case], runs: Sequence[Run]) -> None:
        self._part = recipe.distillation
        self._networks = [run.network.to(memory_format=torch.channels_last) for run in runs]
        self._scalings = [_scaling(recipe.preprocess, run.recipe.preprocess) for run in runs]
        learnt = [marks(run.learnt) for run in runs]
        unseen_NT = np.array([[not known & marks([case]) for known in learnt] for case in train])
        unseen_NT |= ~unseen_NT.any(axis=1, keepdims=True)
        self._teaches_NT = torch.from_numpy(unseen_NT)

    def to(self, device: torch.device) -> None:
        """Move the networks."""
        for network in self._networks:
            network.to(device)
        self._scalings = [(factor.to(device), offset.to(device)) for factor, offset in self._scalings]
        self._teaches_NT = self._teaches_NT.to(device)

    @torch.no_grad()
    def logits(self, pixels_NCHW: Tensor, row_N: Tensor) -> Tensor:
        """Mean logits of each case's teachers, shape (n, classes).

        Parameters
        ----------
        pixels_NCHW
            Normalised for the student.
        row_N
            Indices of the cases in `train`.
        """
        teaches_NT = self._teaches_NT[row_N]
        sums = []
        for teacher, network in enumerate(self._networks):
            factor, offset = self._scalings[teacher]
            own_M = torch.nonzero(teaches_NT[:, teacher]).flatten()
            seen = (pixels_NCHW[own_M] * factor + offset).contiguous(memory_format=torch.channels_last)
            said_MC = network.glance(seen).float() if len(own_M) else network.head.bias.float().expand(0, -1)
            sums.append(said_MC.new_zeros(len(row_N), said_MC.shape[1]).index_copy(0, own_M, said_MC))
        return torch.stack(sums).sum(dim=0) / teaches_NT.sum(dim=1, keepdim=True)

    def mix(self, hard_N: Tensor, logits_NC: Tensor, pixels_NCHW: Tensor, row_N: Tensor) -> Tensor:
        """Loss of each case, shape (n,): of its label, `hard_N`, and of what its teachers say, as the recipe weighs."""
        degrees = self._part.temperature
        said_NC = F.log_softmax(self.logits(pixels_NCHW, row_N) / degrees, dim=1)
        answer_NC = F.log_softmax(logits_NC.float() / degrees, dim=1)
        soft_N = F.kl_div(answer_NC, said_NC, log_target=True, reduction="none").sum(dim=1) * degrees**2
        return torch.lerp(hard_N, soft_N, self._part.weight)


def _scaling(ours: PreprocessSpec, theirs: PreprocessSpec) -> tuple[Tensor, Tensor]:
    """Factor and offset, shape (1, channels, 1, 1), from our normalised pixels to theirs."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (ours.mean, ours.std))
    their_mean, their_std = (torch.tensor(values).view(1, -1, 1, 1) for values in (theirs.mean, theirs.std))
    return std / their_std, (mean - their_mean) / their_std
