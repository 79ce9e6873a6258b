"""Our official scores against the challenge's own scorer on the same files."""

import io
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isic_challenge_scoring import metrics as theirs
from isic_challenge_scoring.classification import ClassificationMetric, ClassificationScore
from isic_challenge_scoring.confusion import create_binary_confusion_matrix
from isic_challenge_scoring.load_csv import parse_csv, parse_truth_csv, sort_rows

from melascope.domain.diagnosis import ISIC2018_CLASSES
from melascope.errors import TableError
from melascope.evaluation.isic_scores import PER_CATEGORY, isic_scores
from melascope.evaluation.metrics import UndefinedMetricWarning

CATEGORIES_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")


def write_files(folder, labels, shares_NK, *, categories, names=None, weights=None):
    """Truth and submission; its probabilities are whole percents, so that ties are ties for any parser."""
    names = names or [f"ISIC_{n:07d}" for n in range(len(labels))]
    extra = ",score_weight,validation_weight" if weights else ""
    truth = [f"image,{','.join(categories)}{extra}"]
    submission = [f"image,{','.join(categories)}"]
    for n, (name, label) in enumerate(zip(names, labels, strict=True)):
        cells = ",".join("1.0" if k == label else "0.0" for k in range(len(categories)))
        truth.append(f"{name},{cells}" + (f",{weights[n][0]},{weights[n][1]}" if weights else ""))
        submission.append(f"{name}," + ",".join(f"{share / 100:.2f}" for share in shares_NK[n]))
    truth_path, submission_path = folder / "truth.csv", folder / "submission.csv"
    truth_path.write_text("\n".join(truth) + "\n")
    submission_path.write_text("\n".join([submission[0], *reversed(submission[1:])]) + "\n")
    return truth_path, submission_path


def score_both(truth_path, submission_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the package calls what pandas 3 removed
        package = ClassificationScore.from_file(
            truth_path, submission_path, ClassificationMetric.BALANCED_ACCURACY
        )
    return isic_scores(truth_path, submission_path), package


def assert_same_to_the_last_digit(ours, package):
    assert ours.balanced_accuracy == package.overall
    assert ours.balanced_accuracy_validation == package.validation
    for category, scores in ours.per_category.items():
        for name in PER_CATEGORY:
            assert scores[name] == package.per_category.at[category, name], (category, name)
    for name in PER_CATEGORY:
        assert ours.macro_average[name] == package.macro_average[name], name


@st.composite
def challenges(draw, categories):
    n_classes = len(categories)
    more = draw(st.lists(st.integers(0, n_classes - 1), max_size=30))
    labels = [*range(n_classes), *more]  # each class has a case; test_absent_class has those that do not
    coarse = draw(st.sampled_from([1, 10, 25, 50]))  # the coarser, the more ties
    shares_NK = draw(
        st.lists(
            st.lists(
                st.integers(0, 100 // coarse).map(lambda part: part * coarse),
                min_size=n_classes,
                max_size=n_classes,
            ),
            min_size=len(labels),
            max_size=len(labels),
        )
    )
    return labels, shares_NK


@pytest.mark.parametrize("categories", [tuple(map(str, ISIC2018_CLASSES)), CATEGORIES_2019])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_equals_the_package_on_any_files_ties_included(tmp_path, categories, data):
    labels, shares_NK = data.draw(challenges(categories))
    assert_same_to_the_last_digit(
        *score_both(*write_files(tmp_path, labels, shares_NK, categories=categories))
    )


def test_equals_the_package_with_weights_and_the_withdrawn_image(tmp_path):
    random = np.random.default_rng(3)
    labels = [*range(7), *random.integers(0, 7, 200).tolist()]
    shares_NK = random.integers(0, 101, (len(labels), 7)).tolist()
    names = [f"ISIC_{n:07d}" for n in range(1, len(labels))] + ["ISIC_0035068"]
    weights = [(random.choice([0.0, 1.0, 0.5]), random.choice([0.0, 1.0])) for _ in labels]
    weights[:7] = [(1.0, 1.0)] * 7
    ours, package = score_both(
        *write_files(
            tmp_path,
            labels,
            shares_NK,
            categories=tuple(map(str, ISIC2018_CLASSES)),
            names=names,
            weights=weights,
        )
    )
    assert_same_to_the_last_digit(ours, package)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    labels=st.lists(st.sampled_from([0, 1, 3]), max_size=20).map(lambda more: [0, 1, *more]),
    seed=st.integers(0, 1000),
)
def test_absent_class(tmp_path, labels, seed):
    """The package scores 0/0 as 1.0 and fails at the AUC of an absent class; only there is ours NaN."""
    categories = tuple(map(str, ISIC2018_CLASSES))
    shares_NK = np.random.default_rng(seed).choice([0, 20, 60, 80], (len(labels), 7)).tolist()
    truth_path, submission_path = write_files(tmp_path, labels, shares_NK, categories=categories)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        ours = isic_scores(truth_path, submission_path)
    assert {str(warning.message) for warning in raised} == {
        f"AUC of {category} is undefined" for k, category in enumerate(categories) if k not in labels
    }
    assert all(warning.category is UndefinedMetricWarning for warning in raised)
    truth, weights = parse_truth_csv(io.StringIO(truth_path.read_text()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prediction = parse_csv(io.StringIO(submission_path.read_text()), truth.columns)
        sort_rows(truth), sort_rows(prediction)
        weight = weights.score_weight
        assert ours.balanced_accuracy == theirs.balanced_multiclass_accuracy(truth, prediction, weight)
        for category in categories:
            counts = theirs_counts(truth[category], prediction[category], weight)
            scores = ours.per_category[category]
            assert scores["sensitivity"] == theirs.binary_sensitivity(counts)
            assert scores["ppv"] == theirs.binary_ppv(counts)
            assert scores["npv"] == theirs.binary_npv(counts)
            assert scores["dice"] == theirs.binary_dice(counts)
            assert scores["ap"] == theirs.average_precision(truth[category], prediction[category], weight)
            absent = categories.index(category) not in labels
            assert math.isnan(scores["auc"]) == absent == math.isnan(scores["auc_sens_80"])
    assert ours.per_category["BCC"]["sensitivity"] == 1.0


def theirs_counts(truth, prediction, weight):
    return create_binary_confusion_matrix(
        truth.gt(0.5).to_numpy(), prediction.gt(0.5).to_numpy(), weight.to_numpy()
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text.replace("VASC", "VASCULAR"), "VASC"),
        (lambda text: text.replace("ISIC_0000003", "ISIC_9"), "ISIC_0000003"),
        (lambda text: text.replace("0.10", "1.10"), r"outside \[0, 1\]"),
        (lambda text: text.replace("0.10", "half"), "half"),
        (lambda text: text + text.splitlines()[-1] + "\n", "more than one row"),
        (lambda _: "", "0 rows"),
    ],
)
def test_a_fault_in_a_file_is_named(tmp_path, change, expected):
    truth_path, submission_path = write_files(
        tmp_path, range(7), [[10] * 7] * 7, categories=tuple(map(str, ISIC2018_CLASSES))
    )
    submission_path.write_text(change(submission_path.read_text()))
    with pytest.raises(TableError, match=expected):
        isic_scores(truth_path, submission_path)


def test_an_absent_file_is_named(tmp_path: Path):
    with pytest.raises(TableError, match=r"gone\.csv"):
        isic_scores(tmp_path / "gone.csv", tmp_path / "gone.csv")
