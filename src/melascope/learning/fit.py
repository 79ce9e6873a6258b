"""A training run: from a recipe and a split case table to a checkpoint and predictions.csv."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import timm
import tomli_w
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger
from numpy.typing import NDArray

from melascope import __version__
from melascope.datasets.cache import Progress
from melascope.datasets.table import write_cases
from melascope.domain.case import Case
from melascope.errors import MissingExtraError, RecipeError, UsageError
from melascope.evaluation.predictions import Predictions, write_predictions
from melascope.learning.backbones import mean_weights
from melascope.learning.cpu import computes_bfloat16, keep_freed_memory
from melascope.learning.datamodule import CaseData
from melascope.learning.earlier import Origin, starts_of, teachers_of
from melascope.learning.losses import allowed_classes, class_counts
from melascope.learning.module import LesionModule, validation_figures
from melascope.learning.parts import Parts, divide
from melascope.learning.recipe import Recipe, load_recipe
from melascope.learning.run import EARLIER, distinct, training_facts
from melascope.learning.teachers import Teachers


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Where and on what a run runs; nothing here changes what a network learns, but for the number of devices."""

    folder: Path  #: of the run
    cache_folder: Path  #: of cached pixels
    fold: str | None = None  #: the split that is validated on; the other numbered folds are trained on
    resume: bool = False
    accelerator: str = "auto"
    devices: str = "auto"
    nodes: int = 1
    strategy: str = "auto"
    workers: int = 0  #: processes that load batches
    mlflow: str | None = None  #: tracking address
    audit_override: str | None = None  #: the reason given for training on a leaking split
    progress: Progress | None = None  #: of the pixel cache
    callbacks: tuple[Callback, ...] = ()


def fit(recipe: Recipe, cases: Sequence[Case], options: RunOptions) -> Path:
    """Train, keep the best checkpoint, write `predictions.csv`, `cases.csv`, `recipe.toml` and `run.json`.

    Returns
    -------
    Path
        The run's folder.
    """
    began = time.monotonic()
    keep_freed_memory()
    parts = divide(cases, options.fold)
    folder = options.folder
    _check_monitor(recipe, parts)
    starts, teachers = starts_of(recipe, parts), teachers_of(recipe, parts)
    origin = Origin.of(recipe, starts, teachers)
    checkpoint = _prepare_folder(folder, recipe, cases, options)
    if origin.known:
        write_cases(origin.known, folder / EARLIER)
    L.seed_everything(recipe.train.seed, verbose=False)
    data = CaseData(
        recipe,
        train=parts.train,
        val=parts.val,
        evaluate=parts.evaluate,
        cache_folder=options.cache_folder,
        progress=options.progress,
        workers=options.workers,
        first_epoch=_epochs_done(checkpoint),
    )
    module = LesionModule(recipe, **imbalance(recipe, data))
    if starts:
        module.network.load_state_dict(mean_weights([run.network for run in starts]))
    if teachers:
        module.teachers = Teachers(recipe, parts.train, teachers)
    best = ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor=recipe.train.monitor,
        mode=_mode(recipe),
        enable_version_counter=False,
    )
    last = ModelCheckpoint(dirpath=folder, filename="last", enable_version_counter=False)
    trainer = _trainer(recipe, options, [best, last])
    if recipe.train.epochs:
        try:
            trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # how Lightning ends after Ctrl-C
            raise KeyboardInterrupt from None
        score = _score(best)
    else:
        score = trainer.validate(module, data, verbose=False)[0][recipe.train.monitor]
        torch.save({"state_dict": module.state_dict(), "epoch": -1}, folder / "best.ckpt")
    if trainer.is_global_zero:
        state = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])
        logits_NC = predict_logits(module, data)
        write_predictions(
            Predictions(classes=recipe.model.classes, logits_NC=logits_NC, cases=_as_judged(parts)),
            folder / "predictions.csv",
        )
        facts = {
            "epochs": trainer.current_epoch,
            "best_epoch": int(state["epoch"]),
            "monitor": {"name": recipe.train.monitor, "value": score},
            "precision": trainer.precision,
            "seconds": round(time.monotonic() - began, 1),
        }
        _write_run_facts(folder, recipe, parts, module, options, origin, facts)
    return folder


class ModelCheckpoint(callbacks.ModelCheckpoint):
    """A checkpoint in the run's folder, wherever that is now.

    Lightning writes absolute paths into a checkpoint, and where they are others on resuming it forgets the best
    score: any later epoch would take the place of the best one.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the paths for those of this folder."""

        def here(path: str) -> str:
            return str(Path(self.dirpath or "", Path(path).name)) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {name: here(state_dict[name]) for name in paths}
        kept = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | moved | {"best_k_models": kept, "dirpath": self.dirpath})


def _score(best: ModelCheckpoint) -> float:
    return float("nan") if best.best_model_score is None else float(best.best_model_score)


class _Patience(EarlyStopping):
    """Early stopping that stays stopped when a run is resumed."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop at once if patience had run out."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


def _trainer(recipe: Recipe, options: RunOptions, checkpoints: Sequence[Callback]) -> L.Trainer:
    freezes = recipe.optim.freeze_epochs > 0 or recipe.optim.backbone_lr_factor == 0
    if freezes and options.strategy == "ddp":
        raise UsageError(
            "The recipe freezes the backbone, which the strategy 'ddp' cannot do.",
            remedy="Use --strategy ddp_find_unused_parameters_true.",
        )
    patience = recipe.train.patience
    try:
        return L.Trainer(
            default_root_dir=options.folder,
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.nodes,
            strategy=options.strategy,
            max_epochs=recipe.train.epochs,
            precision=precision_here(recipe, options.accelerator),
            accumulate_grad_batches=recipe.optim.accumulate,
            gradient_clip_val=recipe.optim.clip_norm or None,
            use_distributed_sampler=False,  # EpochSampler divides by itself
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            logger=_loggers(recipe, options),
            callbacks=[
                *checkpoints,
                _Patience(recipe.train.monitor, mode=_mode(recipe), patience=patience, check_finite=True),
                *([EMAWeightAveraging(decay=recipe.train.ema_decay)] if recipe.train.ema_decay else []),
                *options.callbacks,
            ],
            enable_model_summary=False,
            enable_progress_bar=sys.stdout.isatty(),
        )
    except (MisconfigurationException, ValueError, TypeError) as fault:
        raise UsageError(
            f"This machine cannot train so: {fault}",
            remedy="Check --accelerator, --devices, --nodes and --strategy.",
        ) from fault


def precision_here(recipe: Recipe, accelerator: str) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """The precision of a recipe on this machine; "auto" is float32 on a GPU without bfloat16, and on Apple's."""
    if recipe.train.precision != "auto":
        return recipe.train.precision
    if accelerator != "cpu" and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = not (accelerator != "cpu" and torch.backends.mps.is_available()) and computes_bfloat16()
    return "bf16-mixed" if fast else "32-true"


def imbalance(recipe: Recipe, data: CaseData) -> dict[str, NDArray[np.float64]]:
    """`prior_SC` and `counts_C` of the training cases, for `LabelSetLoss`."""
    allowed_NC, source_N = data.train_set.allowed_NC, data.train_set.source_N
    counts_C = class_counts(allowed_NC)
    prior_SC = np.tile(counts_C / counts_C.sum(), (len(data.sources), 1))
    if recipe.loss.by_source:
        for source in np.unique(source_N):
            # A coarse label of this source counts for its classes as they stand over all sources.
            own_NC = allowed_NC[source_N == source] * counts_C
            own_C = (own_NC / own_NC.sum(axis=1, keepdims=True)).sum(axis=0) + 1.0
            prior_SC[source] = own_C / own_C.sum()
    return {"prior_SC": prior_SC, "counts_C": counts_C}


def predict_logits(module: LesionModule, data: CaseData) -> NDArray[np.float64]:
    """Raw logits of all cases to be judged, in float32 on the CPU: what the exported graph answers."""
    network = module.network.cpu().float().eval()
    with torch.inference_mode():
        logits = [
            network(data.prepare(batch, training=False).pixels).logits for batch in data.predict_dataloader()
        ]
    return torch.cat(logits).double().numpy()


def _as_judged(parts: Parts) -> tuple[Case, ...]:
    """The judged cases; a fold that was validated on is called "val", so that its calibration is found."""
    validated = {case.image_id for case in parts.val}
    return tuple(
        replace(case, split="val") if case.image_id in validated else case for case in parts.evaluate
    )


def _mode(recipe: Recipe) -> Literal["min", "max"]:
    return "min" if recipe.train.monitor == "val_loss" else "max"


def _check_monitor(recipe: Recipe, parts: Parts) -> None:
    """Refuse a monitor that the validation cases do not define: it would end the run after one epoch."""
    allowed_NC = allowed_classes(parts.val, recipe.model.classes)
    guesses_NC = np.random.default_rng(0).normal(size=allowed_NC.shape)
    figures = validation_figures(guesses_NC, allowed_NC, list(recipe.model.classes)) | {"val_loss": 0.0}
    if np.isnan(figures[recipe.train.monitor]):
        defined = [
            name
            for name in figures
            if name.startswith(("val_auroc", "val_loss")) and figures[name] == figures[name]
        ]
        raise RecipeError(
            f"train.monitor is {recipe.train.monitor}, which the {len(parts.val)} validation cases do not define.",
            remedy=f"Use {' or '.join(defined)}, or validate on cases that tell the classes apart.",
        )


def _epochs_done(checkpoint: Path | None) -> int:
    if checkpoint is None:
        return 0
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"]) + 1


def _prepare_folder(folder: Path, recipe: Recipe, cases: Sequence[Case], options: RunOptions) -> Path | None:
    """Save what the run is of, or check that a run to be resumed is of the same; the checkpoint to go on from."""
    recipe_path, last, identity_path = folder / "recipe.toml", folder / "last.ckpt", folder / "identity.json"
    table = [(c.image_id, c.split, c.sha256, c.diagnosis, c.melanoma) for c in cases]
    digest = sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
    identity = {"fold": options.fold, "cases": digest, "audit_override": options.audit_override}
    if options.resume:
        if not recipe_path.exists() or not identity_path.exists():
            raise UsageError(f"{folder}: there is no run to resume.", remedy="Leave --resume out.")
        if load_recipe(recipe_path) != recipe:
            raise RecipeError(
                f"{folder}: the run to be resumed has another recipe.",
                remedy=f"Train {recipe_path} with --resume.",
            )
        if json.loads(identity_path.read_text(encoding="utf-8")) != identity:
            raise UsageError(
                f"{folder}: the run to be resumed has other cases, another split, fold or --allow-leak: going on would "
                "judge it on cases that it has learnt.",
                remedy=f"Resume with {folder / 'cases.csv'} and the same options, or name another folder.",
            )
        return last if last.exists() else None
    if recipe_path.exists():
        raise UsageError(
            f"{folder}: there is a run already.",
            remedy="Add --resume to go on with it, or name another folder.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    text = tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))
    write_cases(cases, folder / "cases.csv")
    identity_path.write_text(json.dumps(identity) + "\n", encoding="utf-8")
    recipe_path.write_text(f"# Resolved by melascope {__version__}.\n{text}", encoding="utf-8")
    return None


def _loggers(recipe: Recipe, options: RunOptions) -> list[Logger]:
    loggers: list[Logger] = [
        CSVLogger(
            options.folder, name="logs"
        ),  # a folder for each session: it would empty that of an earlier one
        TensorBoardLogger(options.folder, name="tensorboard", version=""),
    ]
    if options.mlflow:
        if find_spec("mlflow") is None:
            raise MissingExtraError(
                "`melascope train --mlflow` needs the package 'mlflow', which is not installed.",
                remedy="Install it from a checkout of melascope: pip install '.[mlflow]'",
            )
        loggers.append(MLFlowLogger(recipe.name, tracking_uri=options.mlflow))
    return loggers


def _write_run_facts(
    folder: Path,
    recipe: Recipe,
    parts: Parts,
    module: LesionModule,
    options: RunOptions,
    origin: Origin,
    facts: dict[str, Any],
) -> None:
    learnt = distinct(parts.train, (case for case in origin.known if case.split == "train"))
    run = {
        "recipe": recipe.name,
        "fold": options.fold,
        "start_from": list(recipe.model.start_from),
        "teachers": list(recipe.distillation.teachers),
        **facts,
        "parameters": sum(parameter.numel() for parameter in module.network.parameters()),
        "pretrained": origin.pretrained,
        "training": training_facts(
            learnt, recipe.model.classes, audit_override=options.audit_override, teachers=origin.teachers
        ),
        "library_versions": {
            "melascope": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "timm": timm.__version__,
            "lightning": L.__version__,
            "numpy": np.__version__,
        },
    }
    (folder / "run.json").write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
