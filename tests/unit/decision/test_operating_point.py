from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy.stats import binom, binomtest, norm

from melascope.decision.operating_point import TARGETS, OperatingPoint, fit_operating_points, lesion_votes
from melascope.errors import MelascopeError


def lesions(n):
    return [f"lesion-{i}" for i in range(n)]


def fit(melanoma_scores, other_scores, **options):
    score_N = np.concatenate([melanoma_scores, other_scores])
    melanoma_N = np.repeat([1.0, 0.0], [len(melanoma_scores), len(other_scores)])
    points = fit_operating_points(score_N, melanoma_N, lesions(len(score_N)), **options)
    return {point.name: point for point in points}


#: (share wanted, lesions, errors allowed at 90 %): the sample sizes at which one more error is allowed, as in tables
#: of one-sided distribution-free tolerance limits (ISO 16269-6: 22, 38, 52 for 90 %; 45, 77, 105 for 95 %).
TABLE = [
    (0.90, 22, 0), (0.90, 37, 0), (0.90, 38, 1), (0.90, 52, 2),
    (0.95, 45, 0), (0.95, 76, 0), (0.95, 77, 1), (0.95, 105, 2), (0.95, 158, 4),
    (0.98, 114, 0), (0.98, 193, 0), (0.98, 194, 1), (0.98, 265, 2),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "n", "errors"), TABLE)
def test_as_many_melanomas_are_missed_as_the_table_of_tolerance_limits_allows(wanted, n, errors):
    melanoma_scores = np.arange(1, n + 1) / (n + 1)
    point = fit(melanoma_scores, melanoma_scores - 0.25 / n)[f"sensitivity-{wanted * 100:.0f}"]
    assert point.guaranteed
    assert point.confidence == 0.90
    assert point.sensitivity == pytest.approx(1 - errors / n)
    assert binom.cdf(errors, n, 1 - wanted) <= 0.1 < binom.cdf(errors + 1, n, 1 - wanted)
    assert binom.cdf(errors, n, 1 - point.lower_bound) == pytest.approx(0.1)


@pytest.mark.parametrize(("wanted", "n"), [(0.98, 113), (0.95, 44), (0.90, 21)])
def test_too_few_melanomas_are_all_referred_and_nothing_is_promised(wanted, n):
    melanoma_scores = np.linspace(0.3, 0.9, n)
    point = fit(melanoma_scores, np.linspace(0.1, 0.8, 50))[f"sensitivity-{wanted * 100:.0f}"]
    assert not point.guaranteed
    assert point.sensitivity == 1
    assert point.threshold == pytest.approx((0.3 + 0.1 + 0.7 * 13 / 49) / 2)  # halfway to the lesion below
    assert point.lower_bound == pytest.approx(0.1 ** (1 / n))


def test_too_few_other_lesions_are_all_spared_even_where_the_highest_score_is_one_of_theirs():
    point = fit(np.linspace(0.1, 0.6, 30), np.linspace(0.0, 0.8, 21))["specificity-90"]
    assert (point.guaranteed, point.specificity, point.sensitivity) == (False, 1, 0)
    assert point.threshold == pytest.approx(0.9)
    assert fit(np.linspace(0.1, 0.6, 30), np.linspace(0.0, 0.8, 22))["specificity-90"].guaranteed


def test_a_specificity_that_only_a_threshold_above_1_would_promise_is_refused():
    with pytest.raises(MelascopeError, match="have the score 1"):
        fit(np.linspace(0.5, 1, 20), np.repeat([0.2, 1.0], [40, 20]))


def test_intervals_are_those_of_clopper_and_pearson():
    for point in fit(np.linspace(0.2, 0.9, 60), np.linspace(0.1, 0.7, 31)).values():
        for share, n, interval in (
            (point.sensitivity, point.n_melanoma, point.sensitivity_interval),
            (point.specificity, point.n_other, point.specificity_interval),
        ):
            expected = binomtest(round(share * n), n).proportion_ci(method="exact")
            assert interval == pytest.approx((expected.low, expected.high))


scores = st.lists(st.integers(0, 60).map(lambda k: k / 64), min_size=12, max_size=150)


@settings(max_examples=60, deadline=None)
@given(melanoma_scores=scores, other_scores=scores, confidence=st.sampled_from([0.5, 0.9, 0.99]))
def test_no_better_threshold_keeps_the_promise_and_ties_only_add_to_it(
    melanoma_scores, other_scores, confidence
):
    for point in fit(melanoma_scores, other_scores, confidence=confidence).values():
        referred, spared = (
            np.array(melanoma_scores) >= point.threshold,
            np.array(other_scores) < point.threshold,
        )
        assert (point.sensitivity, point.specificity) == pytest.approx((referred.mean(), spared.mean()))
        assert 0 <= point.threshold <= 1
        right, scores = (
            (referred, melanoma_scores) if point.target == "sensitivity" else (spared, other_scores)
        )
        n, errors = len(right), int((~right).sum())
        assert point.guaranteed == (binom.cdf(0, n, 1 - point.target_value) <= 1 - confidence)
        if not point.guaranteed:
            assert right.all()
            continue
        assert binom.cdf(errors, n, 1 - point.target_value) <= 1 - confidence
        if point.target == "sensitivity":  # the next threshold that decides otherwise on a melanoma
            further = np.array(scores) > min(s for s in scores if s >= point.threshold)
        else:
            further = np.array(scores) < max(s for s in scores if s < point.threshold)
        assert binom.cdf(int((~further).sum()), n, 1 - point.target_value) > 1 - confidence


DRAWS = 1000


@pytest.mark.parametrize("levels", [None, 12, 40], ids=["continuous", "12 levels", "40 levels"])
@pytest.mark.parametrize(("n_melanoma", "n_other"), [(45, 60), (76, 300), (120, 38)])
def test_the_promise_holds_in_nine_of_ten_simulated_calibrations(levels, n_melanoma, n_other):
    """Scores are normal, melanomas 1.5 higher, squeezed to (0, 1) and rounded up to `levels` values."""
    random = np.random.default_rng(n_melanoma)

    def squeezed(x):
        score = norm.cdf(x / 2)
        return score if levels is None else np.ceil(score * levels) / (levels + 1)

    population = {
        "sensitivity": np.sort(squeezed(random.normal(1.5, 1, 400_000))),
        "specificity": np.sort(squeezed(random.normal(0, 1, 400_000))),
    }
    kept = dict.fromkeys((f"{target}-{wanted * 100:.0f}" for target, wanted in TARGETS), 0)
    for _ in range(DRAWS):
        points = fit(
            squeezed(random.normal(1.5, 1, n_melanoma)), squeezed(random.normal(0, 1, n_other))
        ).values()
        for point in points:
            below = np.searchsorted(population[point.target], point.threshold) / 400_000
            truth = 1 - below if point.target == "sensitivity" else below
            kept[point.name] += truth >= (point.target_value if point.guaranteed else point.lower_bound)
    monte_carlo_error = np.sqrt(0.9 * 0.1 / DRAWS)
    assert min(kept.values()) / DRAWS >= 0.9 - 3 * monte_carlo_error - 0.002  # the population is a sample too


def test_a_lesion_votes_once_with_its_highest_score_and_unknown_outcomes_do_not_vote():
    votes = lesion_votes(
        np.array([0.2, 0.9, 0.4, 0.8, 0.1]),
        np.array([1.0, 1.0, 0.0, np.nan, 0.0]),
        ["a", "a", "b", "c", "b"],
    )
    assert votes.score_L.tolist() == [0.9, 0.4]
    assert votes.melanoma_L.tolist() == [True, False]
    assert votes.image_L.tolist() == [1, 2]


def test_too_few_lesions_are_refused_though_there_are_many_images():
    melanoma_N = np.repeat([1.0, 0.0], 50)
    with pytest.raises(MelascopeError, match="9 lesions with melanoma"):
        fit_operating_points(
            np.linspace(0, 1, 100),
            melanoma_N,
            [f"m{i % 9}" for i in range(50)] + [f"o{i}" for i in range(50)],
        )


@given(score_N=st.lists(st.floats(0, 1), min_size=1, max_size=20), threshold=st.floats(0, 1))
def test_one_rule_for_one_score_and_for_many_and_the_threshold_itself_is_referred(score_N, threshold):
    point = replace(fit(np.arange(20) / 40, np.arange(20) / 40)["sensitivity-95"], threshold=threshold)
    assert point.refers(np.array(score_N)).tolist() == [point.refers(score) for score in score_N]
    assert point.refers(threshold)


def test_what_a_point_promises_survives_json():
    adapter = TypeAdapter(tuple[OperatingPoint, ...])
    points = tuple(fit(np.linspace(0.2, 0.9, 45), np.linspace(0.1, 0.7, 38)).values())
    again = adapter.validate_json(adapter.dump_json(points))
    assert again == points
    assert [point.guaranteed for point in again] == [False, True, True, True]
