import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.learning.losses import LabelSetLoss, allowed_classes, class_counts, sampling_weights
from melascope.learning.recipe import LossPart

CLASSES = (Diagnosis.MEL, Diagnosis.NV, Diagnosis.BKL)


def loss_of(part: LossPart, counts: tuple[float, ...] = (10.0, 80.0, 10.0)) -> LabelSetLoss:
    counts_C = np.array(counts)
    return LabelSetLoss(part, prior_SC=(counts_C / counts_C.sum())[None], counts_C=counts_C)


def one_hot(*classes: int) -> torch.Tensor:
    return F.one_hot(torch.tensor(classes), 3).bool()


def test_a_label_allows_what_it_says() -> None:
    cases = [
        Case(image_id="a", path="", diagnosis=Diagnosis.NV, melanoma=False),
        Case(image_id="b", path="", melanoma=False),
        Case(image_id="c", path="", melanoma=True),
        Case(image_id="d", path=""),
        Case(image_id="e", path="", diagnosis=Diagnosis.SCC, melanoma=False),  # not a class of this network
    ]
    assert allowed_classes(cases, CLASSES).tolist() == [
        [False, True, False],
        [False, True, True],
        [True, False, False],
        [True, True, True],
        [False, True, True],
    ]


def test_without_remedies_it_is_cross_entropy() -> None:
    logits = torch.randn(5, 3)
    target = torch.tensor([0, 1, 2, 1, 0])
    loss = loss_of(LossPart(imbalance="none"))(
        logits, F.one_hot(target, 3).bool(), torch.zeros(5, dtype=torch.long)
    )
    torch.testing.assert_close(loss, F.cross_entropy(logits, target, reduction="none"))


def test_label_smoothing_equals_that_of_torch() -> None:
    logits = torch.randn(5, 3)
    target = torch.tensor([0, 1, 2, 1, 0])
    part = LossPart(imbalance="none", label_smoothing=0.1)
    loss = loss_of(part)(logits, F.one_hot(target, 3).bool(), torch.zeros(5, dtype=torch.long))
    torch.testing.assert_close(loss, F.cross_entropy(logits, target, reduction="none", label_smoothing=0.1))


def test_class_weights_equal_those_of_torch_and_keep_the_mean_loss() -> None:
    logits = torch.randn(5, 3)
    target = torch.tensor([0, 1, 2, 1, 0])
    module = loss_of(LossPart(imbalance="class-weights"))
    loss = module(logits, F.one_hot(target, 3).bool(), torch.zeros(5, dtype=torch.long))
    expected = F.cross_entropy(logits, target, weight=module.weight_C, reduction="none")
    torch.testing.assert_close(loss, expected)
    assert float(module.weight_C @ torch.tensor([0.1, 0.8, 0.1])) == pytest.approx(1.0)
    assert float(module.weight_C[0] / module.weight_C[1]) == pytest.approx(8.0)


def test_focal_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]]))
    loss = loss_of(LossPart(imbalance="none", focal_gamma=2.0))(
        logits, one_hot(0), torch.zeros(1, dtype=torch.long)
    )
    assert float(loss) == pytest.approx(0.3**2 * -np.log(0.7), rel=1e-5)


def test_a_coarse_label_costs_the_log_of_what_it_allows() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]))
    allowed = torch.tensor([[False, True, True], [True, True, True]])
    part = LossPart(imbalance="none", label_smoothing=0.1)
    loss = loss_of(part)(logits, allowed, torch.zeros(2, dtype=torch.long))
    assert loss.tolist() == pytest.approx([-np.log(0.3), 0.0], abs=1e-6)


def test_logit_adjustment_takes_the_frequencies_of_the_case_s_own_source() -> None:
    prior_SC = np.array([[0.1, 0.8, 0.1], [0.5, 0.25, 0.25]])
    module = LabelSetLoss(LossPart(), prior_SC=prior_SC, counts_C=np.ones(3))
    logits = torch.zeros(2, 3)
    loss = module(logits, one_hot(0, 0), torch.tensor([0, 1]))
    assert loss.tolist() == pytest.approx([-np.log(0.1), -np.log(0.5)], rel=1e-5)


@given(st.lists(st.sampled_from(range(3)), min_size=1, max_size=40), st.integers(0, 20))
def test_counts_spread_coarse_labels_and_lose_none(labels: list[int], n_coarse: int) -> None:
    allowed_NC = np.zeros((len(labels) + n_coarse, 3), dtype=bool)
    allowed_NC[np.arange(len(labels)), labels] = True
    allowed_NC[len(labels) :, 1:] = True  # not class 0
    counts_C = class_counts(allowed_NC)
    assert (counts_C >= 1).all()
    assert counts_C[0] == max(1, labels.count(0))
    exact = np.bincount(labels, minlength=3)
    if exact[1] and exact[2]:
        assert counts_C[1:].sum() == pytest.approx(exact[1:].sum() + n_coarse)


def test_sampling_makes_classes_equally_frequent() -> None:
    allowed_NC = one_hot(*[0] * 10, *[1] * 80, *[2] * 10).numpy()
    weight_N = sampling_weights(allowed_NC, 1.0)
    drawn = weight_N / weight_N.sum()
    assert [drawn[:10].sum(), drawn[10:90].sum(), drawn[90:].sum()] == pytest.approx([1 / 3] * 3)
