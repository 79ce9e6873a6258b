"""By what two cases are told to be the same."""

from __future__ import annotations

import pytest

from melascope.domain.case import Case


@pytest.mark.parametrize(
    ("image_id", "wanted"),
    [
        ("ISIC_0024306", "ISIC_0024306"),
        ("ISIC_0015719_downsampled", "ISIC_0015719"),
        ("ISIC_24306", None),
        ("my_ISIC_0024306", None),
    ],
)
def test_an_id_of_the_archive_is_known_in_any_dataset(image_id: str, wanted: str | None) -> None:
    assert Case(image_id=image_id, path="a.jpg", source="any").archive_id == wanted
