"""Import, split and look for copies on HAM10000 and ISIC 2017 and 2018 themselves."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from melascope.datasets.audit import audit_cases
from melascope.datasets.leaks import check_split
from melascope.datasets.sources import read_source
from melascope.datasets.split import split_cases
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis

DATA = Path(os.environ.get("MELASCOPE_DATA", Path(__file__).parents[3] / "shared/data"))

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (DATA / "ham10000").is_dir(), reason=f"the real data are not in {DATA}"),
]


@pytest.fixture(scope="module")
def ham10000() -> list[Case]:
    return read_source("ham10000", DATA / "ham10000")


def test_published_numbers(ham10000: list[Case]) -> None:
    counts = Counter(str(case.diagnosis) for case in ham10000)
    assert counts == {"NV": 6705, "MEL": 1113, "BKL": 1099, "BCC": 514, "AKIEC": 327, "VASC": 142, "DF": 115}
    assert len({case.lesion_id for case in ham10000}) == 7470
    for name, folder, melanomas, keratoses, n in (
        ("isic2017", "isic2017_training", 374, 254, 2000),
        ("isic2017", "isic2017_validation", 30, 42, 150),
        ("isic2018", "isic2018_validation", 21, 22, 193),
    ):
        cases = read_source(name, DATA / folder)
        assert len(cases) == n
        assert sum(case.melanoma is True for case in cases) == melanomas
        assert sum(case.diagnosis is Diagnosis.BKL for case in cases) == keratoses


@pytest.mark.parametrize("seed", [0, 1])
def test_a_split_of_ham10000_is_pure_and_stratified(ham10000: list[Case], seed: int) -> None:
    """Each class's count in each part is within one lesion's images (at most 6) of its share."""
    parts = {"train": 0.7, "val": 0.1, "test": 0.2}
    dealt = split_cases(ham10000, fractions=parts, seed=seed)
    assert check_split(dealt) == []
    sides: dict[str | None, set[str | None]] = {}
    for case in dealt:
        sides.setdefault(case.lesion_id, set()).add(case.split)
    assert {len(side) for side in sides.values()} == {1}
    sizes = Counter(case.diagnosis for case in dealt)
    counts = Counter((case.diagnosis, case.split) for case in dealt)
    for diagnosis, size in sizes.items():
        for part, share in parts.items():
            assert abs(counts[diagnosis, part] - share * size) <= 6, (diagnosis, part)


def test_folds_of_ham10000(ham10000: list[Case]) -> None:
    dealt = split_cases(ham10000, folds=5, seed=0)
    assert check_split(dealt) == []
    counts = Counter((case.diagnosis, case.split) for case in dealt)
    for diagnosis, size in Counter(case.diagnosis for case in dealt).items():
        for fold in range(5):
            assert abs(counts[diagnosis, str(fold)] - size / 5) <= 6


def quiet(_title: str) -> Callable[[int, int], None]:
    return lambda _done, _total: None


@pytest.mark.slow
def test_copies_in_isic2017_that_were_seen_by_eye() -> None:
    cases = read_source("isic2017", DATA / "isic2017_training") + read_source(
        "isic2017", DATA / "isic2017_validation"
    )
    found = audit_cases(cases, progress=quiet)
    assert found.exact == (("ISIC_0012970", "ISIC_0012127"),)
    pairs = {frozenset((pair.first, pair.second)) for pair in found.near}
    for one, other in (
        ("0012290", "0013594"),
        ("0000223", "0014818"),
        ("0000225", "0014778"),
        ("0000171", "0015124"),
    ):
        assert frozenset((f"ISIC_{one}", f"ISIC_{other}")) in pairs
    assert len(pairs) == 17, "all of them true; another number calls for a look"
    across = {frozenset(leak.image_ids) for leak in found.leaks}
    assert across == {
        frozenset(("ISIC_0012970", "ISIC_0012127")),
        frozenset(("ISIC_0000157", "ISIC_0014946")),
        frozenset(("ISIC_0000171", "ISIC_0015124")),
        frozenset(("ISIC_0000215", "ISIC_0015313")),
    }, "the official validation part shares four photographs with the training part"
    assert not found.unreadable
