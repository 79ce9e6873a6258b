"""Many photographs at once, the files that the page gives of them, and names that deceive."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from page_steps import Open, Photographs, assess, names, saved_files
from playwright.sync_api import expect

from melascope.web.messages import messages


def photograph_of(name: str, photographs: Photographs) -> bytes:
    return next(path for path in photographs(50) if path.name == name).read_bytes()


def test_fifty_photographs_with_bad_files_among_them(
    open_page: Open, photographs: Photographs, tmp_path: Path
) -> None:
    cut, text = tmp_path / "cut.jpg", tmp_path / "notes.pdf"
    cut.write_bytes(photographs(1)[0].read_bytes()[:3000])
    text.write_bytes(b"%PDF-1.4 no picture")
    page = open_page()
    most = page.evaluate(
        """() => { window.open_requests = 0; window.most_requests = 0;
        const plain = window.fetch;
        window.fetch = (...all) => { window.open_requests += 1;
          window.most_requests = Math.max(window.most_requests, window.open_requests);
          return plain(...all).finally(() => { window.open_requests -= 1; }); }; }"""
    )
    assert most is None
    page.evaluate(
        """() => { window.told = [];
        new MutationObserver(() => window.told.push([document.querySelector('#progress-text').textContent,
          document.querySelectorAll('#rows .badge:not(.waiting)').length]))
          .observe(document.querySelector('#progress-text'), { childList: true }); }"""
    )
    assess(page, [cut, *photographs(48), text])
    told = page.evaluate("window.told")
    assert told[0][0] == "0 of 50 assessed"
    assert told[-1][0] == "50 of 50 assessed"
    assert any(0 < shown < 50 for _, shown in told)  # results come as they are made
    assert page.locator("#rows tr").count() == 50
    assert page.evaluate("window.most_requests") <= 4
    expect(page.locator("#unanswered")).to_have_text("Without an answer: 2 of 50.")
    scores = page.locator("#rows tr").evaluate_all(
        "rows => rows.map(row => row.querySelector('.badge').className)"
    )
    urgency = ["refer", "uncertain", "failed cannot-assess", "no-sign-of-melanoma"]  # the riskiest first
    ranks = [next(n for n, each in enumerate(urgency) if name.split()[-1] in each.split()) for name in scores]
    assert ranks == sorted(ranks)
    riskiest_first = names(page)
    rows, whole = saved_files(page)
    assert [row["image"] for row in rows] == riskiest_first
    bad = {"cut.jpg", "notes.pdf"}
    answered = [name for name in riskiest_first if name not in bad]
    assert [one["images"][0]["name"] for one in whole["assessments"]] == answered
    assert {one["name"] for one in whole["problems"]} == bad
    for decision in {one["decision"] for one in whole["assessments"]}:
        scores = [one["melanoma_score"] for one in whole["assessments"] if one["decision"] == decision]
        assert scores == sorted(scores, reverse=True)
    made = [row for row in rows if row["image"] not in bad]
    for row, one in zip(made, whole["assessments"], strict=True):
        assert row["decision"] == one["decision"]
        assert float(row["melanoma_probability"]) == one["melanoma_probability"]
        assert row["sha256"] == hashlib.sha256(photograph_of(row["image"], photographs)).hexdigest()
    by_name = sorted(names(page))
    page.click("#overview [data-sort=name]")
    expect(page.locator("#rows .row-name")).to_have_text(by_name)
    page.click("#overview [data-sort=name]")
    expect(page.locator("#rows .row-name")).to_have_text(by_name[::-1])
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.get_by_text("cut.jpg").click()
    expect(page.locator("article .failure-text")).to_have_text(messages("en")("error.image-truncated"))
    page.click("#previous")
    expect(page.locator("article h3")).to_have_text(by_name[1])
    for _ in range(2):  # either way round what has no number stands last
        page.click("#overview [data-sort=probability]")
        expect(page.locator("#rows .row-name").nth(48)).to_have_text(re.compile("cut|notes"))
        expect(page.locator("#rows .row-name").nth(49)).to_have_text(re.compile("cut|notes"))
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Melanoma")


def test_the_sessions_results_as_csv_and_json(
    open_page: Open, photographs: Photographs, tmp_path: Path
) -> None:
    formula = tmp_path / "=cmd.jpg"
    formula.write_bytes(photographs(1)[0].read_bytes())
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    page = open_page()
    assess(page, [*photographs(2), formula, bad])
    rows, whole = saved_files(page)
    assert len(whole["assessments"]) == 3
    assert whole["assessments"][0]["schema_version"] == 2
    assert [problem["code"] for problem in whole["problems"]] == ["image-not-an-image"]
    assert {row["image"] for row in rows} == {"lesion-000.jpg", "lesion-001.jpg", "'=cmd.jpg", "bad.jpg"}
    told = {one["images"][0]["name"]: one for one in whole["assessments"]}
    for row in rows:
        if row["problem"]:
            assert row["decision"] == ""
        else:
            one = told[row["image"].removeprefix("'")]
            assert float(row["melanoma_score"]) == one["melanoma_score"]
            assert float(row["probability_NV"]) == one["probabilities"]["NV"]
            assert row["sha256"] == one["images"][0]["sha256"]


@pytest.mark.parametrize(
    ("name", "shown", "in_table"),
    [
        ("mole\u202egpj.exe.jpg", "mole\ufffdgpj.exe.jpg", None),
        ("zero\u200bwidth\u2066.jpg", "zero\ufffdwidth\ufffd.jpg", None),
        ("line\nbreak\t.jpg", "line\ufffdbreak\ufffd.jpg", None),
        ("\u05d0\u05d1 1.jpg", "\u05d0\u05d1 1.jpg", None),
        ("+1.jpg", "+1.jpg", "'+1.jpg"),
        ("-1.jpg", "-1.jpg", "'-1.jpg"),
        ("@SUM(A1).jpg", "@SUM(A1).jpg", "'@SUM(A1).jpg"),
        ("\uff1dcmd.jpg", "\uff1dcmd.jpg", "'\uff1dcmd.jpg"),
        ("a; =1+1.jpg", "a; =1+1.jpg", "a;' =1+1.jpg"),
        ("a,b.jpg", "a,b.jpg", None),
    ],
)
def test_names_that_deceive_are_cleaned_set_apart_and_no_formula(
    open_page: Open, photographs: Photographs, name: str, shown: str, in_table: str | None
) -> None:
    page = open_page()
    good = {"name": name, "mimeType": "image/jpeg", "buffer": photographs(1)[0].read_bytes()}
    page.set_input_files("#files", [good, {**good, "buffer": b"no picture"}])
    expect(page.locator("#rows tr")).to_have_count(2, timeout=30_000)
    expect(page.locator("#progress")).to_be_hidden(timeout=30_000)
    assert page.locator("#rows bdi").all_text_contents() == [shown, shown]
    for at in (0, 1):
        page.locator("#rows .row-open").nth(at).click()
        assert page.locator("article h3 bdi").all_text_contents() == [shown]
    rows, whole = saved_files(page)
    assert [row["image"] for row in rows] == [in_table or shown] * 2
    assert whole["assessments"][0]["images"][0]["name"] == whole["problems"][0]["name"] == shown
