import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.special import log_softmax

from melascope.decision.conformal import ConformalSets, fit_conformal

N_CLASSES = 3


def lesions(n):
    return [f"lesion-{i}" for i in range(n)]


def drawn(random, n_images, *, levels=None):
    """Images of lesions: log-probabilities (n, classes), classes, lesions; a lesion's images are alike.

    `n_images` has one number a lesion. With `levels`, logits are whole numbers of so many to a unit: ties.
    """
    class_L = random.integers(0, N_CLASSES, len(n_images))
    logits_LC = random.normal(0, 1, (len(n_images), N_CLASSES)) + 1.5 * np.eye(N_CLASSES)[class_L]
    lesion_N = np.repeat(np.arange(len(n_images)), n_images)
    logits_NC = logits_LC[lesion_N] + random.normal(0, 0.7, (len(lesion_N), N_CLASSES))
    if levels:
        logits_NC = np.round(logits_NC * levels) / levels
    return log_softmax(logits_NC, axis=1), class_L[lesion_N], [f"lesion-{i}" for i in lesion_N]


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels:UserWarning")
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(60, 200), coverage=st.sampled_from([0.5, 0.8, 0.9]))
def test_the_sets_are_those_of_mapie_conformalized_on_each_class(seed, n, coverage):
    classification = pytest.importorskip("mapie.classification", reason="MAPIE is the oracle here")
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Known(ClassifierMixin, BaseEstimator):
        """Answers with the probabilities that it is given."""

        classes_ = np.arange(N_CLASSES)

        def fit(self, X, y):
            return self

        def predict(self, X):
            return X.argmax(axis=1)

        def predict_proba(self, X):
            return X

        def __sklearn_is_fitted__(self):
            return True

    random = np.random.default_rng(seed)
    log_probabilities_NC, class_index_N, lesions_N = drawn(random, np.ones(n, dtype=int))
    new_NC = np.exp(drawn(random, np.ones(50, dtype=int))[0])
    found = fit_conformal(log_probabilities_NC, class_index_N, lesions_N, coverage=coverage)
    for c in range(N_CLASSES):
        of_class_N = class_index_N == c
        oracle = classification.SplitConformalClassifier(Known(), confidence_level=coverage)
        oracle.conformalize(np.exp(log_probabilities_NC[of_class_N]), class_index_N[of_class_N])
        _, sets_NC1 = oracle.predict_set(new_NC)
        assert found.members(new_NC)[:, c].tolist() == sets_NC1[:, c, 0].tolist()


def test_floors_of_a_hand_made_set():
    """Ten lesions: 9 in 10, and the new one in 11, ask for 0.9 * 11 = 9.9: all ten must be held. Twenty: 18.9."""
    ten, twenty = np.arange(1, 11) / 20, np.arange(1, 21) / 40
    for probabilities, floor in ((ten, 1 / 20), (twenty, 2 / 40)):
        n = len(probabilities)
        log_probabilities_NC = np.log(np.column_stack([probabilities, 1 - probabilities]))
        sets = fit_conformal(log_probabilities_NC, np.zeros(n, dtype=int), lesions(n))
        assert sets.floor_C == pytest.approx((floor, 0))
        assert sets.n_lesions_C == (n, 0)
        assert sets.promised_C == (True, False)
        just = np.array([[sets.floor_C[0], 0.0], [np.nextafter(sets.floor_C[0], 0), 1.0]])
        assert sets.members(just).tolist() == [[True, True], [False, True]]


def test_nine_lesions_are_the_fewest_that_promise_nine_in_ten():
    for n, promised in ((8, False), (9, True)):
        log_probabilities_NC = np.log(np.full((n, 2), 0.5))
        sets = fit_conformal(log_probabilities_NC, np.zeros(n, dtype=int), lesions(n))
        assert sets.promised_C[0] is promised
        assert sets.floor_C[0] == pytest.approx(0.5 if promised else 0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([None, 1, 2]))
def test_a_lesion_votes_once_shared_by_its_images_and_unknown_cases_do_not_vote(seed, levels):
    random = np.random.default_rng(seed)
    log_probabilities_NC, class_index_N, lesions_N = drawn(random, random.integers(1, 4, 90), levels=levels)
    class_index_N = np.where(random.random(len(lesions_N)) < 0.1, -1, class_index_N)
    sets = fit_conformal(log_probabilities_NC, class_index_N, lesions_N, coverage=0.8)
    held_NC = sets.members(np.exp(log_probabilities_NC))
    higher = ConformalSets(
        coverage=0.8, floor_C=tuple(np.nextafter(sets.floor_C, 1)), n_lesions_C=sets.n_lesions_C
    ).members(np.exp(log_probabilities_NC))
    for c in range(N_CLASSES):
        of_class = np.flatnonzero(class_index_N == c)
        names = {lesions_N[i] for i in of_class}
        share = {name: [i for i in of_class if lesions_N[i] == name] for name in names}
        wanted = 0.8 * (len(names) + 1)
        assert sets.n_lesions_C[c] == len(names)
        assert sum(held_NC[rows, c].mean() for rows in share.values()) >= wanted - 1e-9
        assert sum(higher[rows, c].mean() for rows in share.values()) < wanted - 1e-9
    repeated = [*range(len(lesions_N)), *range(len(lesions_N))]
    again = fit_conformal(
        log_probabilities_NC[repeated],
        class_index_N[repeated],
        [lesions_N[i] for i in repeated],
        coverage=0.8,
    )
    assert again == sets


@pytest.mark.parametrize("levels", [None, 1], ids=["continuous", "tied"])
@pytest.mark.parametrize("n_lesions", [90, 400])
def test_each_class_is_covered_as_promised_over_simulated_calibrations(n_lesions, levels):
    """The new image is any one of a new lesion's; lesions have one image to four."""
    random = np.random.default_rng(n_lesions)
    log_NC, class_N, _ = drawn(random, np.ones(300_000, dtype=int), levels=levels)
    population = [np.sort(np.exp(log_NC[class_N == c, c])) for c in range(N_CLASSES)]
    draws = 1500
    covered_DC = np.empty((draws, N_CLASSES))
    votes_DC = np.empty((draws, N_CLASSES))
    for d in range(draws):
        sets = fit_conformal(*drawn(random, random.integers(1, 5, n_lesions), levels=levels))
        covered_DC[d] = [
            1 - np.searchsorted(population[c], sets.floor_C[c]) / len(population[c]) for c in range(N_CLASSES)
        ]
        votes_DC[d] = sets.n_lesions_C
    error_C = covered_DC.std(axis=0) / np.sqrt(draws) + 0.3 / np.sqrt(100_000)  # of draws, of the population
    assert (covered_DC.mean(axis=0) >= 0.9 - 3 * error_C).all()
    if levels is None:
        assert (covered_DC.mean(axis=0) <= 0.9 + 1 / (votes_DC.mean(axis=0) + 1) + 3 * error_C).all()


def test_sets_survive_json_and_what_cannot_be_is_refused():
    adapter = TypeAdapter(ConformalSets)
    sets = ConformalSets(coverage=0.9, floor_C=(0.1, 0.0), n_lesions_C=(40, 3))
    assert adapter.validate_json(adapter.dump_json(sets)) == sets
    for change in (
        {"coverage": 1.0},
        {"floor_C": (0.1,)},
        {"floor_C": (0.1, 1.5)},
        {"floor_C": (0.1, float("nan"))},
        {"n_lesions_C": (40, -1)},
        {"kind": "lac"},
    ):
        with pytest.raises(ValidationError):
            adapter.validate_python({"coverage": 0.9, "floor_C": (0.1, 0.0), "n_lesions_C": (40, 3)} | change)
