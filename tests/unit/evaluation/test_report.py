"""Subgroups and the page that shows everything."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from melascope.decision.novelty import NoveltyLimits
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import MelascopeError
from melascope.evaluation.evaluate import Fitted, Subject, evaluate
from melascope.evaluation.holdout import fit_decision, rows_of_split
from melascope.evaluation.judged import judge
from melascope.evaluation.measure import measure
from melascope.evaluation.metrics import UndefinedMetricWarning
from melascope.evaluation.report import write_report
from melascope.evaluation.subgroups import by_subgroup

LIMITS = NoveltyLimits(
    method="distance",
    unusual=1.0,
    foreign=2.0,
    false_alarm_unusual=0.05,
    false_alarm_foreign=0.01,
    n_images=99,
)
SUBJECT = Subject(name="run/<b>predictions</b>.csv", sha256="0" * 64, split="test", leak_override=None)


@pytest.fixture(scope="module")
def rows_and_fitted(simulated):
    predictions = simulated(500)
    decision = fit_decision(rows_of_split(predictions, "val"))
    fitted = Fitted(
        calibration=decision.calibration,
        operating_points=decision.operating_points,
        conformal=decision.conformal,
        novelty=LIMITS,
        n_folds=None,
        main_point="sensitivity-95",
        origin="fitted on val",
        other_lesions=True,
    )
    return rows_of_split(predictions, "test"), fitted


class _Page(HTMLParser):
    """Text, element names, and every attribute that could make a browser fetch."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.fetched, self.open = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in {"meta", "br", "link", "img", "path", "use"}:
            self.open.append(tag)
        self.fetched += [
            value
            for name, value in attrs
            if name in {"src", "href", "xlink:href", "srcset", "data"} and not value.startswith("#")
        ]

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_is_one_file_that_asks_no_host_and_escapes_names(tmp_path, rows_and_fitted):
    rows, fitted = rows_and_fitted
    cases = tuple(replace(case, site="<script>alert(1)</script>") for case in rows.cases)
    other = ("other <i>model</i>", judge(replace(rows, cases=cases), fitted))
    evaluation = evaluate(
        judge(replace(rows, cases=cases), fitted), fitted, SUBJECT, n_bootstrap=50, other=other
    )
    metrics_path, report_path = write_report(evaluation, tmp_path / "new")
    html = report_path.read_text()
    page = _Page(html)
    assert page.fetched == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 8
    assert not re.search(r"url\((?!#|&#)", html)
    assert "@import" not in html
    assert not set(re.findall(r'https?://[^"\s<]+', html)) - {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    text = " ".join(page.texts)
    measured = evaluation.measured
    assert f"{measured.figures['melanoma_auroc'].value:.3f}" in text
    assert f"{len(rows.cases)} photographs" in text
    assert SUBJECT.name in text
    told = json.loads(metrics_path.read_text())
    assert told["metrics"]["figures"]["melanoma_auroc"]["value"] == measured.figures["melanoma_auroc"].value
    assert told["comparison"]["difference"]["melanoma_auroc"]["value"] == 0


def test_the_same_evaluation_is_the_same_bytes(tmp_path, rows_and_fitted):
    rows, fitted = rows_and_fitted
    first, second = (
        write_report(evaluate(judge(rows, fitted), fitted, SUBJECT, n_bootstrap=20, seed=1), tmp_path / name)
        for name in "ab"
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_set_without_melanoma_has_a_report_without_curves(tmp_path, rows_and_fitted):
    rows, fitted = rows_and_fitted
    with pytest.warns(UndefinedMetricWarning):
        evaluation = evaluate(
            judge(rows.where(rows.melanoma_N == 0), fitted), fitted, SUBJECT, n_bootstrap=20
        )
    html = write_report(evaluation, tmp_path)[1].read_text()
    assert "there is no curve to draw" in html
    assert html.count("<svg") == 2  # what is told, and the prediction sets
    assert "undefined" in html
    assert "nan" not in _Page(html).texts


def test_thresholds_are_of_other_lesions_only_where_that_is_known_and_an_override_stands_out(
    tmp_path, rows_and_fitted
):
    rows, fitted = rows_and_fitted
    other, unsure = (
        "chosen on other lesions, then applied",
        "thresholds fitted on val; whether they were chosen on other lesions than these is not known",
    )

    def page(fitted, subject):
        evaluation = evaluate(judge(rows, fitted), fitted, subject, n_bootstrap=0)
        return [path.read_text() for path in write_report(evaluation, tmp_path)]

    assert other in page(fitted, SUBJECT)[1]
    bundled = page(replace(fitted, other_lesions=False), SUBJECT)[1]
    metrics, overridden = page(fitted, replace(SUBJECT, leak_override="a test of the page"))
    for text in (bundled, overridden):
        assert other not in text
        assert unsure in text
    assert json.loads(metrics)["subject"]["leak_override"] == "a test of the page"
    assert "a test of the page" in overridden


def test_subgroups_part_the_cases_and_small_ones_have_no_figures(rows_and_fitted):
    rows, fitted = rows_and_fitted
    judged, point = judge(rows, fitted), "sensitivity-95"
    parts = by_subgroup(judged, point, n_bootstrap=50)
    for attribute in ("source", "sex", "age", "site"):
        assert sum(part.n_images for part in parts if part.attribute == attribute) == len(rows.cases)
    assert [part.value for part in parts if part.attribute == "age"] == [
        "under 40",
        "40 to 59",
        "60 and over",
    ]
    assert [part.value for part in parts if part.attribute == "sex"] == ["female", "unknown"]
    ham = next(part for part in parts if part.value == "ham10000")
    alone = measure(
        judge(rows.where([case.source == "ham10000" for case in rows.cases]), fitted), n_bootstrap=50
    )
    assert ham.figures is not None
    assert ham.figures["melanoma_auroc"] == alone.figures["melanoma_auroc"]
    assert (
        ham.figures["sensitivity@sensitivity-95"] == alone.operating_points["sensitivity-95"]["sensitivity"]
    )
    few = by_subgroup(judged.take(np.arange(20)), point, n_bootstrap=50)
    assert all(part.figures is None and part.to_dict()["figures"] is None for part in few)


def test_rows_without_any_truth_are_refused(rows_and_fitted):
    rows, fitted = rows_and_fitted
    cases = tuple(replace(case, diagnosis=Diagnosis.UNK, melanoma=None) for case in rows.cases)
    with pytest.raises(MelascopeError, match="known whether it is a melanoma"):
        evaluate(judge(replace(rows, cases=cases), fitted), fitted, SUBJECT)
