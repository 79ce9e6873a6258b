"""Copies, conflicts and reports on drawn images."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from melascope.datasets.audit import Audit, audit_cases, find_clusters, read_clusters
from melascope.datasets.audit_report import write_report
from melascope.datasets.split import split_cases
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import DatasetError


def photograph(seed: int) -> Image.Image:
    """A dark blot in the middle of skin, as all of them are, with structure of its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:150, :200]
    blot = np.exp(-((((x - 100) / 45) ** 2 + ((y - 75) / 35) ** 2) ** 2))
    grain = gaussian_filter(rng.normal(0, 60, (150, 200)), 2.5)
    grey: NDArray[np.float64] = 190 - 110 * blot + grain * (0.6 + blot) * 3
    rgb = np.stack([grey, grey * 0.8, grey * 0.75], axis=-1)
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((6, 5, 194, 146)).resize((160, 120))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recoloured": lambda image: ImageEnhance.Color(ImageEnhance.Brightness(image).enhance(1.15)).enhance(0.4),
    "shrunk": lambda image: image.resize((96, 72)),
    "mirrored": ImageOps.mirror,
    "upside-down": lambda image: image.rotate(180),
    "quarter-turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "cropped": cropped,
}


def quiet(_title: str) -> Callable[[int, int], None]:
    return lambda _done, _total: None


def audit(cases: list[Case]) -> Audit:
    return audit_cases(cases, progress=quiet)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Case]:
    def case(name: str, image: Image.Image, **fields: object) -> Case:
        data = io.BytesIO()
        image.save(data, "JPEG", quality=85)
        (tmp_path / f"{name}.jpg").write_bytes(data.getvalue())
        return Case(image_id=name, path=str(tmp_path / f"{name}.jpg"), **fields)  # type: ignore[arg-type]

    return case


def test_every_kind_of_copy_is_found_and_no_look_alike(save: Callable[..., Case]) -> None:
    cases = [save(f"other{seed}", photograph(seed)) for seed in range(1, 30)]
    cases += [
        save("original", photograph(0)),
        *(save(name, copy(photograph(0))) for name, copy in COPIES.items()),
    ]
    found = audit(cases)
    partners = {
        image_id
        for pair in found.near
        if "original" in (pair.first, pair.second)
        for image_id in (pair.first, pair.second)
    }
    assert partners == {"original", *COPIES}
    assert set(found.clusters) == {"original", *COPIES}
    assert set(found.clusters.values()) == {"cropped"}, "named by the smallest id"
    assert find_clusters(cases, progress=quiet) == (found.clusters, found.unreadable)


def test_a_copy_across_splits_leaks_and_a_split_by_clusters_does_not(save: Callable[..., Case]) -> None:
    cases = [save(f"i{seed}", photograph(seed), split="train") for seed in range(12)]
    cases.append(save("copy", ImageOps.mirror(photograph(3)), split="test"))
    found = audit(cases)
    assert [(leak.kind, set(leak.image_ids)) for leak in found.leaks] == [("duplicate", {"i3", "copy"})]
    dealt = split_cases(cases, fractions={"a": 0.5, "b": 0.5}, seed=0, clusters=found.clusters)
    assert audit(dealt).leaks == ()


def test_equal_files_are_exact_and_not_also_near(save: Callable[..., Case]) -> None:
    found = audit([save("a", photograph(1)), save("b", photograph(1)), save("c", photograph(2))])
    assert found.exact == (("a", "b"),)
    assert found.near == ()
    assert found.clusters == {"a": "a", "b": "a"}


def test_conflicts_need_two_known_labels(save: Callable[..., Case]) -> None:
    def lesion(name: str, number: int, **label: object) -> Case:
        return save(name, photograph(number), lesion_id=name[0], **label)

    found = audit(
        [
            lesion("a1", 1, diagnosis=Diagnosis.NV, melanoma=False),
            lesion("a2", 2, diagnosis=Diagnosis.MEL, melanoma=True),
            lesion("b1", 3, diagnosis=Diagnosis.NV, melanoma=False),
            lesion("b2", 4, diagnosis=Diagnosis.UNK, melanoma=False),
            lesion("c1", 5, diagnosis=Diagnosis.UNK, melanoma=None),
            lesion("c2", 6, diagnosis=Diagnosis.MEL, melanoma=True),
            lesion("d1", 7, diagnosis=Diagnosis.UNK, melanoma=False),
            lesion("d2", 8, diagnosis=Diagnosis.MEL, melanoma=True),
        ]
    )
    assert [(conflict.kind, conflict.key) for conflict in found.conflicts] == [
        ("lesion", "/lesion/a"),
        ("lesion", "/lesion/d"),
    ]
    assert found.conflicts[0].labels == {"a1": "NV", "a2": "MEL"}


def test_damaged_absent_and_altered_files_are_told_and_the_rest_goes_on(
    save: Callable[..., Case], tmp_path: Path
) -> None:
    good, altered = save("good", photograph(1)), save("altered", photograph(2), sha256="0" * 64)
    damaged = save("damaged", photograph(3))
    Path(damaged.path).write_bytes(Path(damaged.path).read_bytes()[:300])
    absent = Case(image_id="absent", path=str(tmp_path / "absent.jpg"))
    found = audit([good, altered, damaged, absent])
    assert set(found.unreadable) == {"damaged", "absent"}
    assert found.altered == ("altered",)


def test_report_round_trip_and_escaping(save: Callable[..., Case], tmp_path: Path) -> None:
    script = "<script>alert(1)</script>"
    cases = [
        save("a", photograph(1), source=script, split="train", age=59.0),
        save("b", ImageOps.flip(photograph(1)), source=script, split="test", sex="female"),
        save("c", photograph(2), source=script, lesion_id="l"),
        save("d", photograph(2).resize((120, 90)), source=script, lesion_id="l"),
    ]
    found = audit(cases)
    assert [{pair.first, pair.second} for pair in found.unexplained] == [{"a", "b"}]
    write_report(found, tmp_path / "report")
    page = (tmp_path / "report/audit.html").read_text()
    assert script not in page
    assert page.count("data:image/jpeg;base64,") == 2, (
        "only the pair that the table does not know as one lesion"
    )
    assert "http" not in page.replace("http-equiv", ""), "self-contained"
    report = json.loads((tmp_path / "report/audit.json").read_text())
    assert [pair["known_as_one"] for pair in report["near_duplicates"]].count(True) == 1
    assert report["balance"]["age"]["UNK"] == {"40 to 59": 1, "unknown": 3}
    assert read_clusters(tmp_path / "report/audit.json", cases[::-1]) == found.clusters


def test_the_audit_of_another_table_is_refused(save: Callable[..., Case], tmp_path: Path) -> None:
    cases = [save("a", photograph(1), sha256="a" * 64), save("b", photograph(2), sha256="b" * 64)]
    write_report(audit(cases), tmp_path)
    relabelled = [replace(case, split="train", diagnosis=Diagnosis.NV) for case in cases]
    assert read_clusters(tmp_path / "audit.json", relabelled) == {}
    others = (
        cases[:1],
        [*cases, replace(cases[0], image_id="c")],
        [cases[0], replace(cases[1], sha256=None)],
    )
    for other in others:
        with pytest.raises(DatasetError, match=r"other images than the .* Audit this table anew"):
            read_clusters(tmp_path / "audit.json", other)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"clusters": [1]}'])
def test_what_is_no_audit_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(DatasetError, match="no report of an audit"):
        read_clusters(tmp_path / "audit.json", [])
