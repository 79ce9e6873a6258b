"""Official scores of an ISIC classification challenge (2018 Task 3 and alike), from the two CSV files.

Equal to the public package `isic-challenge-scoring` 5.6.0 to the last digit, its conventions included, and
therefore different from `melascope.evaluation.metrics` in these ways:

- 0/0 is scored 1.0: a class without cases has a sensitivity of 1, a class never called a PPV of 1;
- a class is called by a probability above 0.5 in the per-class figures, by the highest one in balanced
  accuracy;
- a row whose highest probability is shared by several classes is wrong;
- the image ISIC_0035068, which the challenge withdrew, counts nothing.

Only where the package has no answer (AUC of a class without cases, or of nothing else) ours is NaN, with a
warning.
"""

from __future__ import annotations

import csv
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning as SklearnUndefined
from sklearn.metrics import auc, average_precision_score, roc_auc_score, roc_curve

from melascope.errors import TableError
from melascope.evaluation.metrics import Floats, UndefinedMetricWarning

PER_CATEGORY = ("accuracy", "sensitivity", "specificity", "dice", "ppv", "npv", "auc", "auc_sens_80", "ap")

_WEIGHT_COLUMNS = ("score_weight", "validation_weight")
_WITHDRAWN_IMAGE = "ISIC_0035068"


@dataclass(frozen=True, kw_only=True, slots=True)
class IsicScores:
    """What the challenge's own scorer prints."""

    balanced_accuracy: float  #: the challenge's main score ("overall")
    balanced_accuracy_validation: float  #: of the rows that the truth file weighs for validation
    per_category: dict[str, dict[str, float]]  #: category -> `PER_CATEGORY`
    macro_average: dict[str, float]


def isic_scores(truth_path: Path, submission_path: Path) -> IsicScores:
    """Score a submission against its ground truth.

    Parameters
    ----------
    truth_path
        CSV with `image` and one column a category (1.0 or 0.0), perhaps `score_weight`, `validation_weight`.
    submission_path
        CSV with `image` and the same categories, probabilities in [0, 1]; `.jpg` after a name is let pass.

    Raises
    ------
    TableError
        A file that does not keep this layout, or an image that stands in one of them only.

    References
    ---------- https://github.com/ImageMarkup/isic-challenge-scoring (Apache 2.0): the definitions; the code
    here is our own.
    """
    truth_rows, truth_columns = _read(truth_path)
    categories = [column for column in truth_columns if column not in ("image", *_WEIGHT_COLUMNS)]
    rows, columns = _read(submission_path)
    for name, wrong in (
        ("lacks", set(categories) - set(columns)),
        ("adds", set(columns) - {"image", *categories}),
    ):
        if wrong:
            raise TableError(
                f"{submission_path} {name} the columns {', '.join(sorted(wrong))}.",
                remedy=f"Its columns must be image, {', '.join(categories)}.",
            )
    for path, missing in (
        (submission_path, truth_rows.keys() - rows.keys()),
        (truth_path, rows.keys() - truth_rows.keys()),
    ):
        if missing:
            raise TableError(
                f"{path} lacks {len(missing)} images of the other file, such as {min(missing)!r}.",
                remedy="Truth and submission must list the same images.",
            )
    images = sorted(truth_rows)
    truth_NK = _numbers(truth_path, truth_rows, images, categories)
    if not np.isin(truth_NK, (0.0, 1.0)).all():
        raise TableError(
            f"{truth_path}: the truth holds numbers other than 0 and 1.",
            remedy="Name the challenge's ground truth, not a submission.",
        )
    probability_NK = _numbers(submission_path, rows, images, categories)
    outside_N = ((probability_NK < 0) | (probability_NK > 1)).any(axis=1)
    if outside_N.any():
        raise TableError(
            f"{submission_path}: image {images[int(outside_N.argmax())]!r} has a value outside [0, 1].",
            remedy="A submission holds probabilities.",
        )
    weight_N, validation_weight_N = (
        _weights(truth_path, truth_rows, images, truth_columns, column) for column in _WEIGHT_COLUMNS
    )
    per_category = {
        category: _category_scores(category, truth_NK[:, k], probability_NK[:, k], weight_N)
        for k, category in enumerate(categories)
    }
    return IsicScores(
        balanced_accuracy=_balanced_accuracy(truth_NK, probability_NK, weight_N),
        balanced_accuracy_validation=_balanced_accuracy(truth_NK, probability_NK, validation_weight_N),
        per_category=per_category,
        macro_average={
            name: _mean_of_defined([scores[name] for scores in per_category.values()])
            for name in PER_CATEGORY
        },
    )


def _read(table_path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    try:
        with table_path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise TableError(
            f"{table_path} cannot be read ({fault}).", remedy="Name a CSV file in UTF-8."
        ) from fault
    if "image" not in columns or not rows:
        raise TableError(
            f"{table_path} has {len(rows)} rows and the columns {', '.join(columns) or 'none'}.",
            remedy="It must have the column image, one a category, and at least one row.",
        )
    by_image: dict[str, dict[str, str]] = {}
    for row in rows:
        image = row["image"]
        image = image[:-4] if image.lower().endswith(".jpg") else image
        if image in by_image:
            raise TableError(
                f"{table_path}: image {image!r} stands in more than one row.", remedy="Keep one."
            )
        by_image[image] = row
    return by_image, columns


def _numbers(
    table_path: Path, rows: dict[str, dict[str, str]], images: list[str], columns: list[str]
) -> NDArray[np.float64]:
    """Shape (images, columns)."""
    number_NK = np.empty((len(images), len(columns)))
    for n, image in enumerate(images):
        for k, column in enumerate(columns):
            try:
                number_NK[n, k] = float(rows[image][column])
            except (TypeError, ValueError):
                number_NK[n, k] = np.nan
            if not np.isfinite(number_NK[n, k]):
                raise TableError(
                    f"{table_path}: image {image!r} has {rows[image][column]!r} as {column}.",
                    remedy="It must be a number.",
                )
    return number_NK


def _weights(
    truth_path: Path, rows: dict[str, dict[str, str]], images: list[str], columns: list[str], column: str
) -> NDArray[np.float64]:
    weight_N = (
        _numbers(truth_path, rows, images, [column])[:, 0] if column in columns else np.ones(len(images))
    )
    weight_N[[image == _WITHDRAWN_IMAGE for image in images]] = 0.0
    return weight_N


def _category_scores(
    category: str, truth_N: Floats, probability_N: Floats, weight_N: Floats
) -> dict[str, float]:
    positive_N, called_N = truth_N > 0.5, probability_N > 0.5

    def total(chosen_N: NDArray[np.bool_]) -> float:
        return float(np.sum(chosen_N * weight_N))

    true_positive, false_positive = total(positive_N & called_N), total(~positive_N & called_N)
    false_negative, true_negative = total(positive_N & ~called_N), total(~positive_N & ~called_N)
    right = true_positive + true_negative
    weighed_N = weight_N != 0
    defined = 0 < positive_N[weighed_N].sum() < weighed_N.sum()
    if not defined:
        warnings.warn(f"AUC of {category} is undefined", UndefinedMetricWarning, stacklevel=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SklearnUndefined)
        warnings.filterwarnings("ignore", message="No positive class found in y_true", category=UserWarning)
        ap = float(average_precision_score(truth_N, probability_N, sample_weight=weight_N))
    return {
        "accuracy": right / (right + false_positive + false_negative),
        "sensitivity": _or_one(true_positive, true_positive + false_negative),
        "specificity": _or_one(true_negative, true_negative + false_positive),
        "dice": _or_one(2 * true_positive, 2 * true_positive + false_positive + false_negative),
        "ppv": _or_one(true_positive, true_positive + false_positive),
        "npv": _or_one(true_negative, true_negative + false_negative),
        "auc": float(roc_auc_score(truth_N, probability_N, sample_weight=weight_N)) if defined else np.nan,
        "auc_sens_80": _auc_above(0.8, truth_N, probability_N, weight_N) if defined else np.nan,
        "ap": ap,
    }


def _or_one(part: float, whole: float) -> float:
    """The challenge's convention: 0/0 is perfect."""
    return part / whole if whole else 1.0


def _auc_above(sensitivity: float, truth_N: Floats, probability_N: Floats, weight_N: Floats) -> float:
    """Area under the part of the ROC curve from `sensitivity` up, down to the axis (not to `sensitivity`)."""
    weighed_N = weight_N != 0
    weights = None if (weight_N[weighed_N] == 1).all() else weight_N[weighed_N]
    false_rate_T, true_rate_T, _ = roc_curve(
        truth_N[weighed_N], probability_N[weighed_N], sample_weight=weights, drop_intermediate=False
    )
    first = int(np.searchsorted(true_rate_T, sensitivity, side="left"))
    around = slice(first - 1, first + 1)
    crossing = np.interp(sensitivity, true_rate_T[around], false_rate_T[around])
    return float(auc(np.append(crossing, false_rate_T[first:]), np.append(sensitivity, true_rate_T[first:])))


def _balanced_accuracy(truth_NK: Floats, probability_NK: Floats, weight_N: Floats) -> float:
    """Mean over the categories that have cases of the part that was called; a tie is called nothing."""
    true_N, called_N = _label(truth_NK), _label(probability_NK)
    recalls = []
    for k in range(truth_NK.shape[1]):
        all_of_k = float(np.sum(weight_N[true_N == k]))
        called = float(np.sum(weight_N[(true_N == k) & (called_N == k)]))
        recalls.append(called / all_of_k if all_of_k else np.nan)
    return _mean_of_defined(recalls)


def _label(probability_NK: Floats) -> NDArray[np.int64]:
    """The category of the highest value, -1 where several share it."""
    is_highest_NK = probability_NK == probability_NK.max(axis=1, keepdims=True)
    return np.where(is_highest_NK.sum(axis=1) == 1, is_highest_NK.argmax(axis=1), -1)


def _mean_of_defined(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    if not defined:
        warnings.warn("no category has a value to average", UndefinedMetricWarning, stacklevel=2)
        return float("nan")
    return float(np.sum(defined) / len(defined))
