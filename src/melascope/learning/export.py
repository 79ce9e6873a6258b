"""From a training run to a bundle: the graph, its proof, its decision, its figures and its card."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from melascope.bundle.manifest import Architecture, Figure, Measurement, Precision, TrainingData
from melascope.bundle.store import CAM_WEIGHT, CARD, MODEL, REFERENCE, Bundle, reference_bytes, write_bundle
from melascope.datasets.cache import Progress
from melascope.datasets.sources import SOURCES
from melascope.domain.case import Case
from melascope.errors import UsageError
from melascope.evaluation.holdout import (
    ALL,
    FittedDecision,
    check_no_leak,
    fit_decision_on,
    rows_of_split,
    splits_named,
)
from melascope.evaluation.judged import judge
from melascope.evaluation.measure import headline, measure
from melascope.evaluation.metrics import UndefinedMetricWarning
from melascope.evaluation.predictions import Predictions, write_predictions
from melascope.imaging.preprocess import PreprocessSpec
from melascope.learning.backbones import Classifier
from melascope.learning.card import INTENDED_USE, model_card
from melascope.learning.ensemble import join_runs
from melascope.learning.familiarity import Exposure, fit_familiarity
from melascope.learning.parity import Parity, check_parity, check_rounding
from melascope.learning.quantise import halve, quantise, sample_pixels
from melascope.learning.run import Run, load_run
from melascope.runtime.novelty import PREFIX

#: ONNX operator set of the exported graph; ONNX Runtime 1.17 and OpenVINO 2024 read it.
OPSET = 18
_VALIDATED = "val"  # the split by which the best epoch was chosen


def to_onnx(network: Classifier, spec: PreprocessSpec) -> bytes:
    """The network as an ONNX graph.

    Input `pixels` (n, channels, size_px, size_px) float32, n free; outputs `logits` (n, classes), `embedding`
    (n, features), `features` (n, features, height, width).
    """
    example = (torch.zeros(2, *spec.input_shape),)
    program = torch.onnx.export(
        network,
        example,
        dynamo=True,
        input_names=["pixels"],
        output_names=["logits", "embedding", "features"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        opset_version=OPSET,
        verbose=False,
    )
    if program is None:
        raise AssertionError("torch.onnx.export gives a program when it is not given a file")
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces of the machine that exported
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.value_info[:], model.graph.metadata_props[:], model.metadata_props[:]
    onnx.checker.check_model(model)
    graph: bytes = model.SerializeToString()
    return graph


def export_run(
    folders: Sequence[Path],
    destination: Path,
    *,
    name: str | None = None,
    calibrate_on: str = "val",
    n_bootstrap: int = 1000,
    parity_images: int = 64,
    precision: Precision = "float32",
    exposure: Exposure | None = None,
    foreign: Path | None = None,
    created: datetime | None = None,
    progress: Progress | None = None,
) -> tuple[Bundle, Parity]:
    """Make a bundle of a run, or of several as an ensemble.

    Nothing is written unless the exported graph answers as the trained network.

    Calibration, operating points and prediction sets are fitted on the splits `calibrate_on` ("val", or "val+test"
    for more lesions). Every split but "val", by which the network was chosen, is measured and goes into the
    manifest and the card; one that the decision was fitted on is judged by a decision fitted on the others alone.

    What an ensemble or a graph of fewer bits answers is written beside the bundle, as NAME-predictions.csv.

    Parameters
    ----------
    name
        Of the bundle; None: `bundle_name`.
    precision
        Bring the proven graph to it; the decision and all figures are then of what that answers.
    exposure
        How many pictures the novelty model is fitted on; None: the bundle gets none and takes every image for
        familiar.
    foreign, progress
        See `fit_familiarity`.

    Raises
    ------
    ParityError
        See `check_parity` and `check_rounding`.
    LeakError
        A lesion stands in more than one split.
    """
    runs = [load_run(folder) for folder in folders]
    run = runs[0] if len(runs) == 1 else join_runs(runs)
    kept = (
        destination.with_name(f"{destination.name.removesuffix('.zip')}-predictions.csv")
        if precision != "float32" or len(runs) > 1
        else None
    )
    judged = _judged_splits(run, calibrate_on)
    if run.facts["training"]["audit_override"] is None:
        check_no_leak(run.predictions)
    created = created or datetime.now(UTC).replace(microsecond=0)
    options: dict[str, Any] = {
        "name": name or bundle_name(run.recipe.name, precision=precision),
        "calibrate_on": calibrate_on,
        "path": kept.name if kept else "RUN",
    }
    fields = _fields(run, judged, n_bootstrap=n_bootstrap if precision == "float32" else 0, **options)
    fields["created"] = created
    graph = to_onnx(run.network, run.recipe.preprocess)
    arrays: dict[str, NDArray[np.generic]] = {CAM_WEIGHT: run.network.head.weight.detach().numpy()}
    with tempfile.TemporaryDirectory() as staging:
        files = {MODEL: graph, REFERENCE: reference_bytes(arrays), CARD: b"draft"}
        draft = write_bundle(Path(staging) / "draft.zip", fields, files)
        parity = check_parity(draft, run.network, run.predictions, run.cases, n_images=parity_images)
        if precision != "float32":
            graph = (
                halve(graph)
                if precision == "float16"
                else quantise(graph, sample_pixels(run.learnt, run.recipe.preprocess))
            )
            draft = write_bundle(Path(staging) / "rounded.zip", fields, files | {MODEL: graph})
            rounded, rounding = check_rounding(draft, run, calibrate_on, precision=precision)
            parity = replace(parity, rounding=rounding)
            run = replace(run, predictions=rounded)
            fields = _fields(run, judged, n_bootstrap=n_bootstrap, precision=precision, **options)
            fields["created"] = created
        if exposure is not None:
            model, fields["novelty"] = fit_familiarity(
                draft,
                trained=run.learnt,
                held_out=_with_paths(rows_of_split(run.predictions, calibrate_on), run.cases),
                foreign=foreign,
                exposure=exposure,
                progress=progress,
            )
            arrays |= {f"{PREFIX}{name}": array for name, array in model.arrays().items()}
    card = model_card(fields, run.recipe, run.facts, run.cases, parity, calibrate_on=calibrate_on)
    files = {MODEL: graph, REFERENCE: reference_bytes(arrays), CARD: card.encode()}
    bundle = write_bundle(destination, fields, files)
    if kept:
        write_predictions(run.predictions, kept)
    return bundle, parity


def bundle_name(recipe: str, *, ensemble: bool = False, precision: Precision = "float32") -> str:
    """What a bundle is called where nothing else is said: as its recipe, and what was made of it."""
    return f"{recipe}{'-ensemble' if ensemble else ''}{'' if precision == 'float32' else f'-{precision}'}"


def _judged_splits(run: Run, calibrate_on: str) -> list[str]:
    fitted_on = splits_named(calibrate_on)
    splits = {case.split or "" for case in run.predictions.cases} - {_VALIDATED}
    judged = sorted(splits - fitted_on if len(fitted_on) == 1 else splits, key=lambda s: (s != "test", s))
    if ALL in fitted_on or not judged:
        raise UsageError(
            f"{run.recipe.name}: with --calibrate-on {calibrate_on} no split is left to measure on.",
            remedy="Split with a part `test` as well, and calibrate on `val`: a bundle states what it was measured on.",
        )
    return judged


def _fields(
    run: Run,
    judged: Sequence[str],
    *,
    name: str,
    calibrate_on: str,
    path: str,
    n_bootstrap: int,
    precision: Precision = "float32",
) -> dict[str, Any]:
    """The manifest's fields, but for novelty and the time."""
    decision = fit_decision_on(run.predictions, calibrate_on)
    measurements = [
        _measurement(
            run.predictions, split, decision, calibrate_on=calibrate_on, path=path, n_bootstrap=n_bootstrap
        )
        for split in judged
    ]
    names = list(run.facts["training"]["sources"])
    sources = [SOURCES[name] for name in names if name in SOURCES]
    return {
        "name": name,
        "classes": run.recipe.model.classes,
        "architecture": Architecture(
            backbone=run.recipe.model.backbone,
            parameters=run.facts["parameters"],
            pretrained=run.facts["pretrained"],
            mirrors=run.recipe.model.mirrors,
            zooms=run.recipe.model.zooms,
            precision=precision,
        ),
        "preprocess": run.recipe.preprocess,
        "calibration": decision.calibration,
        "operating_points": decision.operating_points,
        "default_operating_point": "sensitivity-95",
        "fitted_on": tuple(sorted(splits_named(calibrate_on))),
        "conformal": decision.conformal,
        "novelty": None,
        "training": TrainingData(
            **{
                key: run.facts["training"][key]
                for key in (
                    "sources",
                    "n_images",
                    "n_groups",
                    "class_counts",
                    "fingerprint",
                    "audit_override",
                    "teachers",
                )
            }
        ),
        "measurements": tuple(measurements),
        "licence": _licence(names),
        "attributions": tuple(
            f"{source.title}: {source.attribution} ({source.licence})" for source in sources
        ),
        "intended_use": INTENDED_USE,
        "library_versions": run.facts["library_versions"],
    }


def _with_paths(predictions: Predictions, cases: Sequence[Case]) -> list[Case]:
    """The cases of the predictions as the case table has them, with the paths of their images."""
    case_of = {case.image_id: case for case in cases}
    return [case_of[case.image_id] for case in predictions.cases]


def _measurement(
    predictions: Predictions,
    split: str,
    decision: FittedDecision,
    *,
    calibrate_on: str,
    path: str,
    n_bootstrap: int,
) -> Measurement:
    others = "+".join(sorted(splits_named(calibrate_on) - {split}))
    if split in splits_named(calibrate_on):
        decision = fit_decision_on(predictions, others)
    judged = judge(rows_of_split(predictions, split), decision, prior="uniform")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UndefinedMetricWarning
        )  # the manifest says None, the card "undefined"
        measured = measure(judged, n_bootstrap=n_bootstrap)

    calibrated = "" if others == "val" else f" --calibrate-on {others}"
    return Measurement(
        name=split,
        n_images=measured.n_images,
        n_groups=measured.n_groups,
        n_melanoma=measured.n_melanoma,
        figures={figure: Figure.of(f.value, f.low, f.high) for figure, f in headline(measured).items()},
        command=f"melascope evaluate {path} --split {split} --prior uniform{calibrated}",
    )


def _licence(sources: Sequence[str]) -> str:
    """What the data asks of weights trained on it; the program itself is MIT."""
    licences = {name: SOURCES[name].licence if name in SOURCES else "yours" for name in sources}
    if unstated := [name for name, licence in licences.items() if licence == "yours"]:
        return f"Not stated: ask the owner of the images of {', '.join(unstated)}"
    if any("NC" in licence for licence in licences.values()):
        return "CC BY-NC 4.0: weights trained on non-commercial images; no commercial use"
    if any("BY" in licence for licence in licences.values()):
        return "CC BY 4.0"
    return "CC0"
