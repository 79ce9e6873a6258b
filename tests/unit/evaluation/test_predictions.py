from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from melascope.errors import TableError
from melascope.evaluation.predictions import (
    Finding,
    Predictions,
    read_predictions,
    table_header,
    table_row,
    write_predictions,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(logits_NC=arrays(float, (12, 7), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_a_table_reads_back_as_it_was_written(tmp_path, simulated, logits_NC):
    predictions = replace(simulated(30).take(range(12)), logits_NC=logits_NC)
    write_predictions(predictions, tmp_path / "run" / "predictions.csv")
    again = read_predictions(tmp_path / "run" / "predictions.csv")
    assert again.logits_NC.tobytes() == logits_NC.tobytes()
    assert again.cases == predictions.cases
    assert again.classes == predictions.classes


FINDINGS = (Finding("blur", "poor"), Finding("too-dark", "note"))


@pytest.mark.parametrize("novelty_N", [None, np.array([0.25, np.nan, -1e-30])])
@pytest.mark.parametrize("quality_N", [None, ((), FINDINGS, FINDINGS[:1])])
def test_what_was_examined_reads_back_and_an_absent_column_is_none(tmp_path, simulated, novelty_N, quality_N):
    predictions = replace(simulated(30).take(range(3)), novelty_N=novelty_N, quality_N=quality_N)
    write_predictions(predictions, tmp_path / "predictions.csv")
    again = read_predictions(tmp_path / "predictions.csv").take([2, 0, 1]).take([1, 2, 0])
    assert again.quality_N == quality_N
    np.testing.assert_array_equal(again.novelty_N, novelty_N)


@pytest.mark.parametrize(
    ("novelty", "quality", "expected"),
    [
        ("inf", "", "line 2: novelty is 'inf'"),
        ("high", "", "line 2: novelty is 'high'"),
        ("", "blur", "line 2: quality holds 'blur'"),
        ("", "blur:bad", "note, poor, unusable"),
        ("", ":poor", "line 2: quality holds ':poor'"),
    ],
)
def test_what_was_examined_is_checked(tmp_path, simulated, novelty, quality, expected):
    row = table_row(simulated(9).cases[0], np.zeros(7))
    header = table_header(simulated(9).classes, novelty=True, quality=True)
    text = "\n".join(",".join(cells) for cells in (header, [*row, novelty, quality]))
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises(TableError, match=expected):
        read_predictions(tmp_path / "predictions.csv")


def test_the_unit_of_a_vote_is_the_lesion_and_of_a_draw_the_patient(simulated):
    predictions = simulated(9).take(range(4))
    cases = [replace(case, patient_id="P") for case in predictions.cases]
    predictions = Predictions(
        classes=predictions.classes,
        logits_NC=predictions.logits_NC,
        cases=(*cases[:3], replace(cases[3], source="b")),
    )
    assert len(set(predictions.groups_N)) == 3  # a name that three datasets use is three patients
    assert len(set(predictions.lesions_N)) == len(
        {(c.source, c.lesion_id or c.image_id) for c in predictions.cases}
    )


def test_a_lesion_that_two_datasets_hold_votes_once(simulated):
    predictions = simulated(9).take(range(2))
    cases = [replace(c, lesion_id="IL_1", source=s) for c, s in zip(predictions.cases, "ab", strict=True)]
    assert replace(predictions, cases=tuple(cases)).lesions_N == ["isic/lesion/IL_1"] * 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.replace("logit_MEL", "logit_XYZ"), "found the columns"),
        (lambda t: t.replace("logit_DF", "logit_XYZ"), "logit_XYZ is of no known class"),
        (lambda t: t.replace("logit_DF", "logit_BKL"), "logit_BKL more than once"),
        (lambda t: t.splitlines()[0], "no rows"),
        (lambda t: t + t.splitlines()[1] + "\n", "stands in more than one row"),
        (lambda t: t[: t.rindex(",", 0, -40)], "more or fewer cells"),
        (lambda t: t.replace(t.splitlines()[1].split(",")[1], "nan"), "line 2: logit_MEL is 'nan'"),
        (lambda t: t.replace(t.splitlines()[1].split(",")[0], ""), "image_id is ''"),
        (lambda t: t.replace(",NV,0,", ",NV,1,"), "melanoma is 1, the diagnosis NV"),
        (lambda t: t.replace(",NV,0,", ",naevus,0,"), "naevus"),
        (lambda t: t.replace(",NV,0,", ",NV,no,"), "'no'"),
        (lambda _: "\x00", "predictions.csv"),
    ],
)
def test_each_fault_is_named(tmp_path, simulated, change, expected):
    table_path = tmp_path / "predictions.csv"
    write_predictions(simulated(20), table_path)
    table_path.write_text(change(table_path.read_text()))
    with pytest.raises(TableError, match=expected):
        read_predictions(table_path)


def test_an_absent_file_and_bytes_that_are_no_text_are_refused(tmp_path):
    with pytest.raises(TableError, match="cannot be read"):
        read_predictions(tmp_path / "gone.csv")
    (tmp_path / "model.onnx").write_bytes(np.arange(200, 256, dtype=np.uint8).tobytes())
    with pytest.raises(TableError, match="cannot be read"):
        read_predictions(tmp_path / "model.onnx")
