"""The model card (Mitchell et al., FAT* 2019): what a bundle is, how good, on what, and what it must not do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from melascope.bundle.card_lines import decision_lines, figure_table, novelty_lines, sets_lines
from melascope.bundle.manifest import TrainingData
from melascope.datasets.sources import are_public
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.learning.parity import MOST_LOST, TOLERANCE, Parity, Rounding
from melascope.learning.quantise import N_FIRST_LEFT
from melascope.learning.recipe import ModelPart, Recipe

INTENDED_USE = (
    "Decision support for readers trained in dermoscopy, and research. It is not a medical device, does not replace "
    "the examination or histology, and must not be used to put off an excision that the clinical picture calls for."
)

_LIMITS_OF_PUBLIC_DATA = """\
- Trained on few hospitals of Europe, North America and Australia, and so mostly on light skin: on dark skin, nails,
  mucosa and in children its figures are unknown.
- Melanomas of the training data were chosen and excised by doctors; lesions that nobody suspected are missing, and
  so are most amelanotic and nodular melanomas."""

_LIMITS_OF_OTHER_DATA = """\
- On skin types, body sites, ages and dermatoscopes that its training images lack, its figures are unknown."""

_LIMITS = """\
- Dermoscopic photographs only: no clinical overview photographs, no histology, no other organ.
  {recognised}
- "No sign of melanoma" is not "no melanoma".
- The figures above come from the datasets named. Another dermatoscope, framing or population moves them: see the
  difference between the columns, and measure on your own cases with `melascope evaluate`.
- Calibrated probabilities hold at the melanoma prevalence stated above; give your clinic's own with `--prevalence`.
"""

_RECOGNISED = "Most other pictures are recognised and get no answer, but not all."
_NOT_RECOGNISED = "Other pictures are not recognised."


def model_card(
    fields: Mapping[str, Any],
    recipe: Recipe,
    facts: Mapping[str, Any],
    cases: Sequence[Case],
    parity: Parity,
    *,
    calibrate_on: str,
) -> str:
    """The card as Markdown; every number in it is a field of the manifest, of run.json or of the parity check."""
    classes: tuple[Diagnosis, ...] = fields["classes"]
    calibration = fields["calibration"]
    training = fields["training"]
    sources = ", ".join(f"{name} ({n:,} images)" for name, n in training.sources.items())
    counts = ", ".join(f"{name} {n:,}" for name, n in training.class_counts.items())
    return "\n".join(
        [
            f"# {fields['name']}",
            "",
            recipe.purpose,
            "",
            "## Intended use",
            "",
            fields["intended_use"],
            "",
            "## What it is",
            "",
            f"- Network: {recipe.model.backbone}, {facts['parameters']:,} parameters, first weights "
            f"{fields['architecture'].pretrained}; input {recipe.preprocess.size_px} x {recipe.preprocess.size_px} "
            f"{recipe.preprocess.colour}, `{recipe.preprocess.resize}` framing" + _views(recipe.model),
            f"- Classes: {', '.join(f'{c} ({c.label})' for c in classes)}.",
            _making(recipe, facts),
            f"- The exported graph was compared with the trained network on {parity.n_images} held-out photographs: "
            f"largest difference of a logit {parity.graph_against_torch:.1e} on equal pixels and "
            f"{parity.graph_against_predictions:.1e} from file to logit ({TOLERANCE:g} is accepted)."
            + _rounding(parity.rounding, calibrate_on),
            "",
            "## Training data",
            "",
            f"{training.n_images:,} images: {sources}. By diagnosis: {counts}; {facts['training']['coarse_labels']:,} "
            "more have a label that allows several of these.",
            "",
            _separation(training, cases),
            "",
            "## Figures",
            "",
            *figure_table(fields["measurements"], fields["default_operating_point"]),
            "",
            "Intervals are 95 %, from resampling lesions. Class figures count images of known diagnosis and assume "
            "equal class frequencies; `test` are lesions held out of the training sources. The columns come from these "
            "commands, where RUN is the training run's folder and a predictions.csv lies beside the bundle:",
            "",
            *(f"- {measurement.name}: `{measurement.command}`" for measurement in fields["measurements"]),
            "",
            "## Decision",
            "",
            *decision_lines(
                calibration, fields["operating_points"], classes, fitted_on=f"the split `{calibrate_on}`"
            ),
            "These shares are those of the lesions on which the thresholds were chosen, one vote a lesion; the table "
            "above has those of lesions that were not: a split that the decision was fitted on is judged there by one "
            "fitted on the others.",
            "",
            *sets_lines(classes, fields["conformal"]),
            *novelty_lines(fields["novelty"]),
            "## Limits",
            "",
            _LIMITS.format(recognised=_NOT_RECOGNISED if fields["novelty"] is None else _RECOGNISED),
            _LIMITS_OF_PUBLIC_DATA if are_public(training.sources) else _LIMITS_OF_OTHER_DATA,
            "",
            "## Licence",
            "",
            fields["licence"] + ". The program is MIT. Data:",
            "",
            *(f"- {line}" for line in fields["attributions"]),
            "",
        ]
    )


def _making(recipe: Recipe, facts: Mapping[str, Any]) -> str:
    if members := facts.get("members"):
        return f"- An ensemble, the mean of the logits of {len(members)} networks: {'; '.join(members)}."
    if not facts["epochs"]:
        return (
            f"- Made by the recipe `{recipe.name}`, which learns nothing more: it judges the network of the run named "
            "above in its own way."
        )
    teachers = facts["training"]["teachers"]
    taught = f", taught by the runs {', '.join(teachers)} besides the labels" if teachers else ""
    return (
        f"- Trained by the recipe `{recipe.name}`, seed {recipe.train.seed}{taught}: best of {facts['epochs']} "
        f"epochs by {facts['monitor']['name']} (epoch {facts['best_epoch'] + 1})."
    )


def _rounding(rounding: Rounding | None, calibrate_on: str) -> str:
    if rounding is None:
        return ""
    how, moved = (
        (
            f"its convolutions, but for the first {N_FIRST_LEFT}, were brought to eight-bit integers",
            f"{rounding.mean_difference:.2f}",
        )
        if rounding.precision == "int8"
        else ("the weights of its convolutions were rounded to float16", f"{rounding.mean_difference:.1e}")
    )
    return (
        f" Then {how}: a logit moved by {moved} on average, the AUROC for melanoma on `{calibrate_on}` from "
        f"{rounding.auroc_before:.4f} to {rounding.auroc:.4f} ({MOST_LOST:g} less is accepted). The decision and all "
        "figures here are those of the network as it is then."
    )


def _separation(training: TrainingData, cases: Sequence[Case]) -> str:
    """What is known of how training and judged images were kept apart."""
    if training.audit_override:
        return (
            f"**The split leaks**, and was used because: {training.audit_override}. Believe no figure below."
        )
    unknown = sum(not case.lesion_id and not case.patient_id for case in cases)
    text = "No lesion, patient or file is on two sides of the split."
    if unknown:
        text += (
            f" Of {unknown:,} of {len(cases):,} images the dataset names neither lesion nor patient: for them that "
            "holds as far as `melascope data audit` recognises copies of a picture."
        )
    return text


def _views(part: ModelPart) -> str:
    looks = [f"the middle {zoom:.0%}" if zoom < 1 else "the whole" for zoom in part.zooms]
    if part.mirrors == 1 and part.zooms == (1.0,):
        return "."
    mirrored = f", each as {part.mirrors} mirror images" if part.mirrors > 1 else ""
    return f"; the mean over {' and '.join(looks)} of it{mirrored}."
