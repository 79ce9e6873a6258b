import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from melascope.decision.novelty import NoveltyLimits, NoveltyModel, fit_limits, fit_novelty
from melascope.errors import MelascopeError


def two_kinds(random, n, m, *, apart=2.0, n_embedding=6, n_appearance=3):
    """Traits of n familiar and m foreign images: unit Gaussians whose means are `apart`; skewed embeddings."""
    centre = np.zeros(n_embedding + n_appearance)
    centre[[0, -1]] = apart / math.sqrt(2)
    familiar = random.normal(0, 1, (n, len(centre)))
    foreign = random.normal(0, 1, (m, len(centre))) + centre
    return [
        (np.sign(x[:, :n_embedding]) * x[:, :n_embedding] ** 2, x[:, n_embedding:])
        for x in (familiar, foreign)
    ]


def fitted(familiar, foreign):
    return fit_novelty(
        familiar_embedding_NE=familiar[0],
        familiar_appearance_NA=familiar[1],
        foreign_embedding_ME=foreign[0],
        foreign_appearance_MA=foreign[1],
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(20, 200), m=st.integers(20, 200))
def test_the_score_is_that_of_scikit_learns_logistic_regression_on_standardised_roots(seed, n, m):
    familiar, foreign = two_kinds(np.random.default_rng(seed), n, m)
    model = fitted(familiar, foreign)
    traits = np.concatenate([np.hstack([np.sign(e) * np.sqrt(np.abs(e)), a]) for e, a in (familiar, foreign)])
    standard = StandardScaler().fit_transform(traits)
    foreign_K = np.repeat([0, 1], [n, m])
    oracle = LogisticRegression(C=1 / 0.003, tol=1e-8, max_iter=1000)
    oracle.fit(standard, foreign_K, sample_weight=np.where(foreign_K, 0.5 / m, 0.5 / n))
    score = np.concatenate([model.score(*familiar), model.score(*foreign)])
    np.testing.assert_allclose(score, oracle.decision_function(standard), rtol=0.01, atol=0.02)


def test_it_finds_what_can_be_found_between_gaussians():
    random = np.random.default_rng(1)
    model = fitted(*two_kinds(random, 4000, 1000, apart=2.0))
    familiar, foreign = two_kinds(random, 4000, 4000, apart=2.0)
    score = np.concatenate([model.score(*familiar), model.score(*foreign)])
    best = norm.cdf(2.0 / math.sqrt(2))  # AUROC of the likelihood ratio
    assert best - 0.015 < roc_auc_score(np.repeat([0, 1], 4000), score) < best + 0.01


def test_a_trait_that_never_varies_changes_nothing():
    random = np.random.default_rng(2)
    (e, a), (f, b) = two_kinds(random, 50, 60)
    model = fitted((np.hstack([e, np.full((50, 1), 3.0)]), a), (np.hstack([f, np.full((60, 1), 3.0)]), b))
    assert model.embedding_weight_E[-1] == 0
    np.testing.assert_allclose(
        model.score(np.hstack([e, np.full((50, 1), 9.0)]), a), fitted((e, a), (f, b)).score(e, a), atol=1e-3
    )


def test_the_arrays_are_the_model():
    familiar, foreign = two_kinds(np.random.default_rng(3), 80, 90)
    model = fitted(familiar, foreign)
    file = io.BytesIO()
    np.savez(file, **model.arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        read = NoveltyModel.from_arrays(dict(arrays))
    np.testing.assert_array_equal(read.score(*foreign), model.score(*foreign))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, r"has the arrays appearance_weight, embedding_weight\."),
        ({"extra": np.zeros(3)}, "has the arrays .*extra"),
        ({"embedding_weight": np.zeros((2, 3))}, r"embedding_weight is float64 of shape \(2, 3\)"),
        ({"appearance_weight": np.zeros(3, dtype=int)}, "appearance_weight is int64"),
        ({"bias": np.zeros(2)}, r"bias is float64 of shape \(2,\)"),
        ({"embedding_weight": np.array([1.0, np.nan])}, "embedding_weight holds numbers that are not finite"),
    ],
)
def test_arrays_that_are_no_novelty_model_are_refused(change, message):
    arrays = {
        "embedding_weight": np.zeros(5),
        "appearance_weight": np.zeros(3),
        "bias": np.zeros(1),
        **change,
    }
    with pytest.raises(MelascopeError, match=message):
        NoveltyModel.from_arrays({name: array for name, array in arrays.items() if array is not None})


def test_a_model_of_another_network_is_refused():
    familiar, foreign = two_kinds(np.random.default_rng(4), 20, 20)
    with pytest.raises(
        MelascopeError, match=r"7 numbers of embedding and 3 of appearance.*fitted on 6 and 3"
    ):
        fitted(familiar, foreign).score(np.zeros((2, 7)), np.zeros((2, 3)))


def test_a_fit_needs_finite_images_of_both_kinds():
    familiar, foreign = two_kinds(np.random.default_rng(5), 20, 20)
    with pytest.raises(MelascopeError, match="20 familiar and 0 foreign"):
        fitted(familiar, (foreign[0][:0], foreign[1][:0]))
    with pytest.raises(MelascopeError, match="not finite"):
        fitted(familiar, (np.full_like(foreign[0], np.nan), foreign[1]))


def test_limits_by_hand():
    # 9 lesions of one image, and one of two (of half a vote each): 10 lesions and the new one make 11 votes.
    score_N = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], dtype=float)
    lesions = [*"abcdefghi", "j", "j"]
    limits = fit_limits(score_N, lesions, unusual=3 / 11, foreign=2 / 11)
    assert limits.foreign == 9  # beyond it the two halves of j: with the new lesion, 2 votes of 11
    assert limits.unusual == 8
    assert limits.n_images == 11
    assert fit_limits(score_N, lesions, unusual=1.5 / 11, foreign=1 / 11).foreign == 11
    assert fit_limits(score_N, lesions, unusual=1.5 / 11, foreign=1 / 11).unusual == 10


@settings(max_examples=60, deadline=None)
@given(
    score=st.lists(st.integers(-5, 5), min_size=50, max_size=200),
    per_lesion=st.integers(1, 3),
    share=st.floats(0.02, 0.5),
)
def test_no_more_lesions_lie_beyond_a_limit_than_promised_and_the_next_lower_score_would_break_it(
    score, per_lesion, share
):
    lesion_N = np.arange(len(score)) // per_lesion
    n_lesions = lesion_N[-1] + 1
    if share * (n_lesions + 1) < 1:
        share = 1 / (n_lesions + 1)
    limit = fit_limits(np.array(score), [f"{n}" for n in lesion_N], unusual=share, foreign=share).foreign
    vote_N = 1 / np.bincount(lesion_N)[lesion_N]

    def beyond(score_limit):
        return (vote_N @ (np.array(score) > score_limit) + 1) / (n_lesions + 1)

    assert beyond(limit) <= share + 1e-9
    lower = [s for s in score if s < limit]
    assert not lower or beyond(max(lower)) > share - 1e-9


def test_new_lesions_give_the_promised_false_alarms():
    """Over many draws of calibration lesions of one to three alike images, and a new lesion for each."""
    random = np.random.default_rng(6)
    alarms = np.zeros(2)
    draws = 3000
    for _ in range(draws):
        n_images = random.integers(1, 4, 60)
        centre_L = random.normal(0, 1, 61)
        score_N = np.repeat(centre_L[:60], n_images) + random.normal(0, 0.5, n_images.sum())
        lesions = [f"{n}" for n in np.repeat(np.arange(60), n_images)]
        limits = fit_limits(score_N, lesions, unusual=0.2, foreign=0.05)
        alarms += centre_L[60] + random.normal(0, 0.5) > np.array([limits.unusual, limits.foreign])
    error = 3 * np.sqrt(np.array([0.2 * 0.8, 0.05 * 0.95]) / draws)
    assert (alarms / draws <= np.array([0.2, 0.05]) + error).all()
    assert (alarms / draws >= np.array([0.2, 0.05]) - 1 / 61 - error).all()  # nor is it overcautious


def test_too_few_lesions_promise_nothing():
    with pytest.raises(MelascopeError, match=r"There are 48 calibration lesions.*at least 49 lesions"):
        fit_limits(np.arange(48.0), [f"{n}" for n in range(48)], foreign=0.02)
    assert fit_limits(np.arange(49.0), [f"{n}" for n in range(49)], foreign=0.02).foreign == 48


def limits(**changes):
    fields = {
        "method": "m",
        "unusual": 1.0,
        "foreign": 2.0,
        "false_alarm_unusual": 0.05,
        "false_alarm_foreign": 0.02,
        "n_images": 99,
    }
    return {**fields, **changes}


def test_a_limit_itself_is_not_beyond_and_no_number_is_foreign():
    found = [NoveltyLimits(**limits()).familiarity(score) for score in (1.0, 1.01, 2.0, 2.01, math.nan)]
    assert found == ["familiar", "unusual", "unusual", "foreign", "foreign"]


def test_limits_survive_json():
    adapter = TypeAdapter(NoveltyLimits)
    found = NoveltyLimits(**limits())
    assert adapter.validate_json(adapter.dump_json(found)) == found


@pytest.mark.parametrize(
    "change",
    [
        {"unusual": 3.0},
        {"foreign": math.inf},
        {"unusual": math.nan},
        {"false_alarm_foreign": 0.1},
        {"false_alarm_foreign": 0.0},
        {"n_images": 0},
        {"surplus": 1},
    ],
)
def test_impossible_limits_are_refused(change):
    with pytest.raises(ValidationError):
        TypeAdapter(NoveltyLimits).validate_python(limits(**change))
