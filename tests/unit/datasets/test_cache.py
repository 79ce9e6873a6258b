from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import encode, lesion

from melascope.datasets.cache import open_cache
from melascope.domain.case import Case
from melascope.errors import DatasetError
from melascope.imaging.preprocess import PreprocessSpec, to_uint8

SPEC = PreprocessSpec(size_px=32, resize="squash")


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    made = []
    for i in range(6):
        path = tmp_path / f"image_{i}.png"
        path.write_bytes(encode(lesion(120 + 10 * i, 90, seed=i), "PNG"))
        made.append(
            Case(image_id=path.stem, path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        )
    return made


def test_rows_hold_what_preprocessing_gives(cases: list[Case], tmp_path: Path) -> None:
    cache = open_cache(cases, SPEC, tmp_path / "cache")
    for i, row in enumerate(cache.rows(cases)):
        np.testing.assert_array_equal(
            cache.pixels_NHWC[row], to_uint8(lesion(120 + 10 * i, 90, seed=i), SPEC)
        )
        assert cache.aspect_N[row] == pytest.approx((120 + 10 * i) / 90)


def test_it_is_built_once_whatever_the_order_and_anew_for_another_preprocessing(
    cases: list[Case], tmp_path: Path
) -> None:
    built: list[int] = []

    def count(done: int, _total: int) -> None:
        built.append(done)

    open_cache(cases, SPEC, tmp_path / "cache", progress=count)
    assert built == [1, 2, 3, 4, 5, 6]
    open_cache(cases[::-1], SPEC, tmp_path / "cache", progress=count)
    assert len(built) == 6
    open_cache(cases, replace(SPEC, size_px=33), tmp_path / "cache", progress=count)
    assert len(built) == 12


def test_all_bad_files_are_named_and_nothing_is_left_that_looks_like_a_cache(
    cases: list[Case], tmp_path: Path
) -> None:
    Path(cases[1].path).write_bytes(b"altered")
    Path(cases[4].path).unlink()
    with pytest.raises(DatasetError, match=r"2 of 6 .*image_1.*image_4"):
        open_cache(cases, SPEC, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.pixels.npy"))


def test_a_case_without_a_digest_is_refused(cases: list[Case], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="image_2"):
        open_cache([*cases[:2], replace(cases[2], sha256=None)], SPEC, tmp_path / "cache")


def test_a_build_that_was_killed_is_begun_anew(cases: list[Case], tmp_path: Path) -> None:
    """The process dies while it builds; what it leaves must neither pass for a cache nor hold the lock."""
    code = (
        "import os, sys; from pathlib import Path; from melascope.datasets.table import read_cases;"
        "from melascope.datasets.cache import open_cache; from melascope.imaging.preprocess import PreprocessSpec;"
        "open_cache(read_cases(Path(sys.argv[1])), PreprocessSpec(size_px=32, resize='squash'), Path(sys.argv[2]),"
        " progress=lambda done, total: os._exit(9) if done == 3 else None)"
    )
    from melascope.datasets.table import write_cases

    write_cases(cases, tmp_path / "cases.csv")
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cases.csv"), str(tmp_path / "cache")],
        check=False,
        timeout=60,
    )
    assert ended.returncode == 9
    cache = open_cache(cases, SPEC, tmp_path / "cache")
    assert cache.pixels_NHWC[cache.rows(cases)].any(axis=(1, 2, 3)).all()


def test_processes_that_want_the_same_cache_build_it_once(cases: list[Case], tmp_path: Path) -> None:
    from melascope.datasets.table import write_cases

    write_cases(cases, tmp_path / "cases.csv")
    code = (
        "import sys, time; from pathlib import Path; from melascope.datasets.table import read_cases;"
        "from melascope.datasets.cache import open_cache; from melascope.imaging.preprocess import PreprocessSpec;"
        "built = []; cache = open_cache(read_cases(Path(sys.argv[1])), PreprocessSpec(size_px=32, resize='squash'),"
        " Path(sys.argv[2]), progress=lambda done, total: (built.append(done), time.sleep(0.05)));"
        "print(len(built), int(cache.pixels_NHWC.sum()))"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "cases.csv"), str(tmp_path / "cache")]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(int(built) for built, _ in answers) == [0, 0, 6]
    assert len({total for _, total in answers}) == 1
