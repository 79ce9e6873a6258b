"""Terms and the answers that are of them: none is lost, none is shown as of others than its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_steps import Open, Photographs, apply_share, assess, names, saved_files
from playwright.sync_api import Page, expect

from melascope.web.messages import messages

ENGLISH = messages("en")


def settled(page: Page) -> None:
    page.wait_for_timeout(100)
    expect(page.locator("#progress")).to_be_hidden(timeout=30_000)


@pytest.mark.parametrize("fault", ["offline", "signed out"])
def test_new_terms_that_meet_no_server_leave_the_answers(
    open_page: Open, photographs: Photographs, fault: str
) -> None:
    page = open_page()
    apply_share(page, "5")
    assess(page, photographs(3))
    badges = page.locator("#rows .badge").all_inner_texts()
    page.route(
        "**/assess?*",
        lambda route: route.abort() if fault == "offline" else route.fulfill(status=401, json={}),
    )
    page.select_option("#operating-point", index=1)
    settled(page)
    assert page.locator("#rows .badge").all_inner_texts() == badges
    expect(page.locator("#rows .earlier-tag:visible")).to_have_count(3)
    told = page.locator("article .earlier")
    expect(told).to_contain_text("5 % of lesions are melanomas")
    expect(told).to_contain_text(ENGLISH("error.network" if fault == "offline" else "error.signed-out"))
    expect(told.locator(".sign-in")).to_be_visible(visible=fault == "signed out")
    expect(page.locator("#not-present")).to_contain_text("3 of 3")
    rows, whole = saved_files(page)
    assert len(whole["assessments"]) == 3
    assert {row["problem"] for row in rows} == {"network" if fault == "offline" else "signed-out"}
    assert {(row["operating_point"], row["melanoma_prevalence"]) for row in rows} == {
        ("sensitivity-95", "0.05")
    }
    page.unroute("**/assess?*")
    page.click("#retry-all")
    settled(page)
    expect(page.locator("#not-present")).to_be_hidden()
    expect(page.locator("#rows .earlier-tag:visible")).to_have_count(0)
    rows, _ = saved_files(page)
    assert {(row["operating_point"], row["problem"]) for row in rows} == {("sensitivity-90", "")}


def test_files_that_come_while_a_share_is_typed_get_it_and_so_do_the_others(
    open_page: Open, photographs: Photographs
) -> None:
    page = open_page()
    apply_share(page, "5")
    assess(page, photographs(1))
    page.fill("#prevalence", "50")  # the field keeps the focus
    expect(page.locator("article .earlier")).to_contain_text("5 % of lesions")
    page.set_input_files("#files", photographs(2)[1:])
    expect(page.locator("#rows tr")).to_have_count(2)
    settled(page)
    rows, _ = saved_files(page)
    assert [row["melanoma_prevalence"] for row in rows] == ["0.5", "0.5"]


def test_an_impossible_share_holds_files_back_and_changes_nothing(
    open_page: Open, photographs: Photographs
) -> None:
    page = open_page()
    apply_share(page, "5")
    assess(page, photographs(1))
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url) if sent.method == "POST" else None)
    page.fill("#prevalence", "500")
    page.select_option("#operating-point", index=1)
    page.set_input_files("#files", photographs(3)[1:])
    expect(page.locator("#held")).to_have_text(ENGLISH("terms.held", n=2))
    expect(page.locator("article .earlier")).to_contain_text("95\N{NO-BREAK SPACE}%")
    assert asked == []
    apply_share(page, "50")
    expect(page.locator("#rows tr")).to_have_count(3)
    settled(page)
    expect(page.locator("#held")).to_be_hidden()
    rows, _ = saved_files(page)
    assert {(row["operating_point"], row["melanoma_prevalence"]) for row in rows} == {
        ("sensitivity-90", "0.5")
    }


def test_leaving_with_results_is_asked_about_and_the_terms_are_kept(
    open_page: Open, photographs: Photographs
) -> None:
    page = open_page()
    apply_share(page, "5")
    page.select_option("#operating-point", index=1)
    assess(page, photographs(1))
    page.click("article h3")  # browsers ask only who has touched the page
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == ["beforeunload"]
    expect(page.locator("#prevalence")).to_have_value("5")
    assess(page, photographs(1))
    expect(page.locator(".promise > p").first).to_contain_text("90")
    expect(page.locator(".worth > .hint")).to_contain_text("5")
    page.click("#clear")
    page.goto("/about")
    assert asked == ["beforeunload"]  # there was nothing to lose


def test_a_report_that_fails_says_so_beside_its_button(open_page: Open, photographs: Photographs) -> None:
    page = open_page()
    assess(page, photographs(1))
    page.route("**/report.pdf*", lambda route: route.abort())
    page.click("button.report")
    expect(page.locator(".case-head .fault")).to_contain_text(ENGLISH("results.no_report"))
    expect(page.locator(".case-head .fault .sign-in")).to_be_hidden()
    page.unroute("**/report.pdf*")
    with page.expect_download(timeout=30_000):
        page.click("button.report")
    expect(page.locator(".fault")).to_have_count(0)


def test_that_photographs_show_one_lesion_is_said_of_these_alone(
    open_page: Open, photographs: Photographs, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    page = open_page()
    page.check("#lesion")
    assess(page, photographs(3))
    expect(page.locator(".one-answer")).to_have_text(ENGLISH("case.one_answer", n=3))
    expect(page.locator("#lesion")).not_to_be_checked()
    page.set_input_files("#files", photographs(2))
    expect(page.locator("#rows tr")).to_have_count(3)
    settled(page)
    page.check("#lesion")
    page.set_input_files("#files", [*photographs(2), bad])
    expect(page.locator(".failure-text")).to_have_text(
        f"bad.jpg: {ENGLISH('error.image-not-an-image')}", timeout=30_000
    )
    expect(page.locator("#retry-all")).to_be_hidden()  # the file would not be another
    assert len(names(page)) == 4


def test_the_answers_are_in_the_language_of_their_page(open_page: Open, photographs: Photographs) -> None:
    page = open_page()
    other = page.context.new_page()
    other.goto("/?lang=de")
    assess(page, photographs(1))
    expect(page.locator("article h4").filter(has_text=ENGLISH("case.reasons"))).to_be_visible()


def test_an_answer_after_a_failure_is_no_change(open_page: Open, photographs: Photographs) -> None:
    page = open_page()
    page.route("**/assess?*", lambda route: route.abort())
    assess(page, photographs(1))
    page.unroute("**/assess?*")
    apply_share(page, "5")
    expect(page.locator("article.case .in-words")).to_contain_text("5", timeout=30_000)
    expect(page.locator(".changed")).to_be_hidden()


def test_on_paper_and_in_the_table_the_terms_are_told(open_page: Open, photographs: Photographs) -> None:
    page = open_page()
    apply_share(page, "5")
    assess(page, photographs(2))
    page.emulate_media(media="print")
    expect(page.locator("#terms-told")).to_contain_text("5 % of lesions are melanomas")
    expect(page.locator("#terms-told")).to_be_visible()
    page.emulate_media(media="screen")
    expect(page.locator("#terms-told")).to_be_hidden()
    notes = page.locator("#rows .row-note").all_text_contents()
    shares = page.locator("#rows .row-probability").all_text_contents()
    for note, share in zip(notes, shares, strict=True):  # another number than the row's is said to be another
        assert "%" not in note or share in note or "prevalence of calibration" in note
    rows, whole = saved_files(page)
    told = {one["images"][0]["name"]: one for one in whole["assessments"]}
    for row in rows:
        one = told[row["image"]]
        why = [*one["reasons"], *one["images"][0]["quality"]]
        assert row["reason_codes"].split() == [reason["code"] for reason in why]
