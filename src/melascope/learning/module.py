"""One training step, one validation, one optimiser: what Lightning drives."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import numpy as np
import torch
from scipy.special import softmax
from sklearn.metrics import roc_auc_score
from torch import Tensor

from melascope.domain.diagnosis import Diagnosis
from melascope.errors import RecipeError
from melascope.learning.backbones import Classifier, build_network, parameter_groups
from melascope.learning.cpu import widen_slow_depthwise
from melascope.learning.datamodule import Batch
from melascope.learning.losses import LabelSetLoss
from melascope.learning.recipe import Recipe
from melascope.learning.teachers import Teachers


class LesionModule(L.LightningModule):
    """A network, its loss and its figures on the validation cases.

    Parameters
    ----------
    prior_SC, counts_C
        See `LabelSetLoss`.
    """

    def __init__(self, recipe: Recipe, *, prior_SC: np.ndarray, counts_C: np.ndarray) -> None:
        super().__init__()
        self.recipe = recipe
        part = recipe.model
        if part.start_from:  # no need to fetch weights that are going to be replaced
            part = part.model_copy(update={"weights": "none"})
        self.network: Classifier = build_network(part, in_chans=recipe.preprocess.channels)
        self.network = self.network.to(memory_format=torch.channels_last)
        widen_slow_depthwise(self.network)
        self.loss = LabelSetLoss(recipe.loss, prior_SC=prior_SC, counts_C=counts_C)
        self._call = torch.compile(self.network) if recipe.train.compile else self.network
        #: Not of the network that is learnt: neither in checkpoints nor among the parameters.
        self.teachers: Teachers | None = None
        self._validated: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_fit_start(self) -> None:
        """Have the teachers where the network is."""
        if self.teachers is not None:
            self.teachers.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Seed by epoch, so that a resumed run draws what an uninterrupted one draws; freeze what is to be frozen."""
        torch.manual_seed((self.recipe.train.seed * 100_003 + self.current_epoch) * 1_009 + self.global_rank)
        frozen = (
            self.current_epoch < self.recipe.optim.freeze_epochs or self.recipe.optim.backbone_lr_factor == 0
        )
        self.network.backbone.requires_grad_(not frozen)
        self.network.backbone.train(not frozen)  # frozen batch norms keep their statistics

    def training_step(self, batch: Batch, _batch_idx: int) -> Tensor:
        """Mean loss of the batch, mixed labels included."""
        logits_NC = self._call(batch.pixels).logits
        loss_N: Tensor = batch.share_N * self.loss(logits_NC, batch.allowed_NC, batch.source_N)
        if self.recipe.augment.mixup_alpha or self.recipe.augment.cutmix_alpha:
            partner_N = batch.partner_N
            # The partner's label, at the frequencies of the partner's source.
            other_N = self.loss(logits_NC, batch.allowed_NC[partner_N], batch.source_N[partner_N])
            loss_N = loss_N + (1 - batch.share_N) * other_N
        if self.teachers is not None:
            loss_N = self.teachers.mix(loss_N, logits_NC, batch.pixels, batch.row_N)
        loss = loss_N.mean()
        self.log(
            "train_loss",
            loss,
            on_epoch=True,
            on_step=False,
            prog_bar=True,
            batch_size=len(loss_N),
            sync_dist=True,
        )
        return loss

    def validation_step(self, batch: Batch, _batch_idx: int) -> None:
        """Keep logits and loss for the epoch's end."""
        logits_NC = self.network(batch.pixels).logits.float()
        loss_N = self.loss(logits_NC, batch.allowed_NC, batch.source_N)
        self._validated.append((logits_NC, batch.allowed_NC, loss_N))

    def on_validation_epoch_end(self) -> None:
        """Figures of the epoch. Every process validates all cases, so there is nothing to gather."""
        parts = [torch.cat(column) for column in zip(*self._validated, strict=True)]
        self._validated.clear()
        logits_NC, allowed_NC, loss_N = (part.detach().cpu().numpy() for part in parts)
        if not np.isfinite(logits_NC).all():
            raise RecipeError(
                f"Training diverged: after epoch {self.current_epoch + 1} the network's answers are no finite numbers.",
                remedy="Lower optim.lr, or raise optim.warmup_epochs; with 16-mixed precision try bf16-mixed.",
            )
        figures = validation_figures(logits_NC, allowed_NC, list(self.recipe.model.classes))
        figures["val_loss"] = float(loss_N.mean())
        self.log_dict({name: float(value) for name, value in figures.items()}, prog_bar=True, sync_dist=False)

    def configure_optimizers(self) -> Any:
        """AdamW with a learning rate a group, and the recipe's schedule by step."""
        part = self.recipe.optim
        groups = parameter_groups(
            self.network,
            lr=part.lr,
            backbone_lr_factor=part.backbone_lr_factor,
            layer_decay=part.layer_decay,
            weight_decay=part.weight_decay,
        )
        optimizer = torch.optim.AdamW(groups)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        if part.schedule == "one-cycle":
            rates = [float(group["lr"]) for group in optimizer.param_groups]
            schedule: Any = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rates, total_steps=steps)
        else:
            warmup = round(part.warmup_epochs * steps / self.recipe.train.epochs)
            cosine = part.schedule == "cosine"
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: _rate(step, warmup=warmup, steps=steps, cosine=cosine)
            )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _rate(step: int, *, warmup: int, steps: int, cosine: bool) -> float:
    """Share of the highest learning rate at a step; never quite 0, where AdamW would stand still."""
    if step < warmup:
        return (step + 1) / warmup
    if not cosine:
        return 1.0
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def validation_figures(
    logits_NC: np.ndarray, allowed_NC: np.ndarray, classes: list[Diagnosis]
) -> dict[str, float]:
    """The figures of an epoch; NaN where the cases do not define one.

    Accuracy and balanced accuracy are over cases with an exact diagnosis; sensitivity and specificity are of
    melanoma as the most probable class, AUROC of melanoma's probability, over cases known to be melanoma or not;
    mean AUROC is that of every class present against the rest.
    """
    melanoma = classes.index(Diagnosis.MEL)
    called_N = logits_NC.argmax(axis=1)
    exact_N = allowed_NC.sum(axis=1) == 1
    true_N = allowed_NC.argmax(axis=1)
    known_N = exact_N | ~allowed_NC[:, melanoma]
    is_melanoma_N = exact_N & (true_N == melanoma)
    probability_NC = softmax(logits_NC, axis=1)
    present = np.unique(true_N[exact_N])
    one_vs_rest = [_auroc(true_N[exact_N] == c, probability_NC[exact_N, c]) for c in present]
    return {
        "val_accuracy": _mean(called_N[exact_N] == true_N[exact_N]),
        "val_balanced_accuracy": _mean(
            np.array([(called_N[exact_N & (true_N == c)] == c).mean() for c in present])
        ),
        "val_sensitivity": _mean(called_N[is_melanoma_N] == melanoma),
        "val_specificity": _mean(called_N[known_N & ~is_melanoma_N] != melanoma),
        "val_auroc": _auroc(is_melanoma_N[known_N], probability_NC[known_N, melanoma]),
        "val_mean_auroc": _mean(np.array(one_vs_rest)),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _auroc(positive_N: np.ndarray, score_N: np.ndarray) -> float:
    return (
        float(roc_auc_score(positive_N, score_N)) if positive_N.any() and not positive_N.all() else math.nan
    )
