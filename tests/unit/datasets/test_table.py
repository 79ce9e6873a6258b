from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melascope.datasets.table import read_cases, write_cases
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import TableError

WORDS = st.text(string.ascii_letters + string.digits + " ,;\"'äé_#", min_size=1).map(str.strip).filter(bool)
OPTIONAL = st.none() | WORDS
TEXTS = ("lesion_id", "patient_id", "site", "confirmed_by", "source", "split", "sha256")


@st.composite
def any_case(draw: st.DrawFn) -> Case:
    diagnosis = draw(st.sampled_from(Diagnosis))
    melanoma = (
        draw(st.sampled_from([None, False, True])) if diagnosis is Diagnosis.UNK else diagnosis == "MEL"
    )
    return Case(
        image_id=draw(WORDS),
        path="/images/" + draw(WORDS),
        diagnosis=diagnosis,
        melanoma=melanoma,
        age=draw(st.none() | st.integers(0, 130).map(float)),
        sex=draw(st.sampled_from([None, "female", "male"])),
        **{column: draw(OPTIONAL) for column in TEXTS},
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(cases=st.lists(any_case(), min_size=1, max_size=5, unique_by=lambda case: case.image_id))
def test_what_is_written_is_read(tmp_path: Path, cases: list[Case]) -> None:
    write_cases(cases, tmp_path / "cases.csv")
    assert read_cases(tmp_path / "cases.csv") == cases


def test_paths_below_the_table_move_with_it(tmp_path: Path) -> None:
    write_cases([Case(image_id="a", path=str(tmp_path / "one/x.hdf5#a"))], tmp_path / "cases.csv")
    assert "a,one/x.hdf5#a" in (tmp_path / "cases.csv").read_text()
    (tmp_path / "cases.csv").rename(tmp_path / "moved.csv")
    assert read_cases(tmp_path / "moved.csv")[0].path == str(tmp_path / "one/x.hdf5#a")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "'image_id' is missing; found none"),
        ("image_id,path\n", "has no rows"),
        ("image_id\na\n", "'path' is missing"),
        ("image_id,path,colour\na,b,c\n", "'colour' is not of the case table"),
        ("image_id,path\na,b\na,c\n", "'a' stands in more than one row"),
        ("image_id,path,site,site\na,b,c,d\n", "'site' stands there more than once"),
        ("image_id,path\na\x1b[2J,b\n", r"line 2: image_id is 'a\\x1b\[2J'.*control"),
        ("image_id,path,lesion_id\na,b,L\x001\n", r"line 2: lesion_id is 'L\\x001'"),
        ('image_id,path,split\na,b,"te\nst"\n', r"line 3: split is 'te\\nst'"),
        ("image_id,path\na\n", "line 2: the row has more or fewer cells"),
        ("image_id,path\na,\n", "line 2: path is ''"),
        ("image_id,path,diagnosis\na,b,nv\n", "line 2: diagnosis is 'nv'"),
        ("image_id,path,diagnosis,melanoma\na,b,NV,1\n", "line 2: melanoma is '1'"),
        ("image_id,path,melanoma\na,b,yes\n", "line 2: melanoma is 'yes'"),
        ("image_id,path,age\na,b,nan\n", "line 2: age is 'nan'"),
        ("image_id,path,age\na,b,200\n", "line 2: age is '200'"),
        ("image_id,path,sex\na,b,F\n", "line 2: sex is 'F'"),
    ],
)
def test_faults_are_named_with_line_and_value(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(TableError, match=match):
        read_cases(tmp_path / "cases.csv")


@pytest.mark.parametrize("name", ["esc\x1b[2J", "new\nline", os.fsdecode(b"not-utf8-\xff")])
def test_a_name_that_could_not_be_read_back_is_not_written(tmp_path: Path, name: str) -> None:
    table = tmp_path / "cases.csv"
    with pytest.raises(TableError, match=r"image_id is .*rename the file"):
        write_cases([Case(image_id="a", path="/a"), Case(image_id=name, path="/b")], table)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("image_id,path\nä,b\n".encode("latin-1"))
    for path in (tmp_path / "latin.csv", tmp_path / "absent.csv", tmp_path):
        with pytest.raises(TableError, match="cannot be read"):
            read_cases(path)
