import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melascope.decision.prevalence import at_prevalence, melanoma_prevalence, wanted_prevalence
from melascope.domain.diagnosis import ISIC2018_CLASSES, Diagnosis
from melascope.errors import UsageError

positive = st.floats(0.01, 1)
frequencies = st.lists(positive, min_size=4, max_size=4).map(lambda parts: np.array(parts) / sum(parts))


@given(posterior=frequencies, fitted=frequencies, wanted=frequencies)
def test_equals_the_formula_of_saerens(posterior, fitted, wanted):
    """Equation 2.4 of the paper: p'(w|x) = (p'(w)/p(w)) p(w|x) / sum over classes of the same."""
    expected = wanted / fitted * posterior
    found = at_prevalence(np.log(posterior)[None], fitted_C=fitted, wanted_C=wanted)[0]
    assert found == pytest.approx(expected / expected.sum())
    back = at_prevalence(np.log(found)[None], fitted_C=wanted, wanted_C=fitted)[0]
    assert back == pytest.approx(posterior)


@given(fitted=frequencies)
def test_the_uniform_prior_is_even_and_the_training_prior_changes_nothing(fitted):
    assert wanted_prevalence("uniform", tuple(fitted)).tolist() == [0.25] * 4
    assert wanted_prevalence("training", tuple(fitted)).tolist() == fitted.tolist()


@given(wanted=st.floats(0.001, 0.999), parts=st.lists(positive, min_size=7, max_size=7))
def test_melanoma_takes_its_share_and_the_others_keep_their_proportions(wanted, parts):
    fitted = np.array(parts) / sum(parts)
    found = melanoma_prevalence(tuple(fitted), ISIC2018_CLASSES, wanted)
    mel = ISIC2018_CLASSES.index(Diagnosis.MEL)
    assert found[mel] == wanted
    assert found.sum() == pytest.approx(1)
    others = np.delete(found, mel) / np.delete(fitted, mel)
    assert others == pytest.approx(others[0])


@pytest.mark.parametrize("wanted", [0.0, 1.0, -0.1, 2.0, 1e-300, 1 - 1e-9, float("nan")])
def test_an_impossible_prevalence_is_refused(wanted):
    with pytest.raises(UsageError, match="prevalence of melanoma"):
        melanoma_prevalence((0.1,) * 7, ISIC2018_CLASSES, wanted)
