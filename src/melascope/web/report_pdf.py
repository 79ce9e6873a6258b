"""The report of one lesion as a PDF for its record: one page of A4 where it fits."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image
from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table
from reportlab.platypus import Image as Picture

from melascope import __version__
from melascope.bundle.manifest import Manifest
from melascope.domain.assessment import AssessedImage, Assessment, Decision
from melascope.web.case_view import Bar, CaseView, ImageView, case_view, heat_picture
from melascope.web.messages import Messages
from melascope.web.report_font import BOLD, REGULAR, writable
from melascope.web.report_pieces import FramedPicture, NumberedCanvas, shortened

REPORT_SIDE_PX = 1000  #: of the photographs in a report

_MARGIN_MM, _WIDTH_MM, _GAP_MM = 16.0, 210.0 - 2 * 16.0, 6.0
_HALF_MM = (_WIDTH_MM - _GAP_MM) / 2
_PICTURE_HEIGHTS_MM = (62.0, 50.0, 40.0)  # the first with which all fits on one page
_HEAT_OPACITY = 0.6
_FRAME_PT = 6  #: that reportlab keeps free within the margins

_INK, _SOFT, _LINE, _SUNKEN = map(HexColor, ("#1b2326", "#4c585c", "#ddd8d0", "#f0ede8"))
_BRAND, _MALIGNANT = HexColor("#0e5a63"), HexColor("#a3241d")
_DECISIONS = {
    Decision.REFER: (HexColor("#a3241d"), HexColor("#fbeae7")),
    Decision.UNCERTAIN: (HexColor("#845200"), HexColor("#fbf0dc")),
    Decision.NO_SIGN: (HexColor("#27566f"), HexColor("#e6eff4")),
    Decision.CANNOT_ASSESS: (HexColor("#51475f"), HexColor("#efecf3")),
}


def _style(size: float, *, bold: bool = False, colour: Color = _INK, **more: Any) -> ParagraphStyle:
    return ParagraphStyle(
        f"{size}{bold}{colour}{sorted(more)}",
        fontName=BOLD if bold else REGULAR,
        fontSize=size,
        leading=round(size * 1.32, 1),
        textColor=colour,
        **more,
    )


_TEXT, _SMALL, _TINY = _style(8.2), _style(7.3, colour=_SOFT), _style(6.4, colour=_SOFT)
_BULLET = _style(
    8.2, leftIndent=10, bulletIndent=1, bulletFontName=REGULAR, bulletFontSize=8.2, spaceAfter=1.5
)
_HEADING = _style(7.4, bold=True, colour=_BRAND, spaceBefore=5, spaceAfter=2)
_TITLE = _style(13, bold=True)
_RIGHT = _style(7.3, colour=_SOFT, alignment=TA_RIGHT)


def report_pdf(
    assessment: Assessment,
    photographs: Sequence[bytes],
    manifest: Manifest,
    tongue: Messages,
    *,
    made: datetime,
) -> bytes:
    """The PDF.

    Parameters
    ----------
    photographs
        A JPEG of each of the assessment's images, in their order.
    manifest
        Of the bundle that made the assessment.
    made
        When, UTC.
    """
    case = case_view(assessment, manifest, tongue)
    title = f"{tongue('report.title')}: {assessment.name}"
    told = f"{assessment.name} · {assessment.bundle_id}"
    stamp = tongue("report.made", date=tongue.date(made), version=__version__)
    for height_mm in _PICTURE_HEIGHTS_MM if len(photographs) == 1 else _PICTURE_HEIGHTS_MM[-1:]:
        pdf, n_pages = _build(case, photographs, tongue, height_mm=height_mm, title=title, head=(stamp, told))
        if n_pages == 1:
            break
    return pdf


def _build(
    case: CaseView,
    photographs: Sequence[bytes],
    tongue: Messages,
    *,
    height_mm: float,
    title: str,
    head: tuple[str, str],
) -> tuple[bytes, int]:
    """The PDF with pictures of that height, and its number of pages; at their head what made it, then what it is of."""
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=_MARGIN_MM * mm - _FRAME_PT,
        rightMargin=_MARGIN_MM * mm - _FRAME_PT,
        topMargin=20 * mm,
        bottomMargin=14 * mm,
        title=title,
        author="melascope",
        creator=f"melascope {__version__}",
        lang=tongue.language,
    )
    story = [
        *_opening(case, tongue),
        *_photographs(case, photographs, tongue, height_mm),
        *_reasons(case, tongue),
        *_figures(case, tongue),
        *_closing(case, tongue),
    ]
    made, told = head
    document.build(
        story,
        onFirstPage=partial(_frame, head=made),
        onLaterPages=partial(_frame, head=told),
        canvasmaker=partial(NumberedCanvas, at_end=partial(_number, tongue=tongue)),
    )
    return buffer.getvalue(), int(document.page)


# --- the parts, from top to bottom --------------------------------------------------------------------------


def _frame(canvas: Canvas, _: SimpleDocTemplate, *, head: str) -> None:
    """What stands on every page above the text."""
    left, right, top = _MARGIN_MM * mm, (210 - _MARGIN_MM) * mm, A4[1] - 14 * mm
    canvas.saveState()
    canvas.setFillColor(_BRAND)
    canvas.setFont(BOLD, 10.5)
    canvas.drawString(left, top, "melascope")
    canvas.setFillColor(_SOFT)
    canvas.setFont(REGULAR, 7.2)
    canvas.drawRightString(right, top, shortened(writable(head), REGULAR, 7.2, right - left - 30 * mm))
    canvas.setStrokeColor(_LINE)
    canvas.line(left, top - 3 * mm, right, top - 3 * mm)
    canvas.restoreState()


def _number(canvas: Canvas, n: int, total: int, *, tongue: Messages) -> None:
    """What stands on every page below the text."""
    canvas.setFillColor(_SOFT)
    canvas.setFont(REGULAR, 7.2)
    text = writable(tongue("report.page", n=n, total=total))
    canvas.drawRightString((210 - _MARGIN_MM) * mm, 9 * mm, text)


def _opening(case: CaseView, tongue: Messages) -> list[Flowable]:
    images, decision = case.assessment.images, case.assessment.decision
    title = tongue("report.title") if len(images) == 1 else tongue("report.title_lesion", n=len(images))
    strong, soft = _DECISIONS[decision]
    said = [_text(case.decision_label, _style(17, bold=True, colour=strong)), _text(case.advice, _TEXT)]
    number: list[Flowable] = []
    if case.probability is not None:
        right = {"alignment": TA_RIGHT}
        number = [
            _text(case.probability, _style(22, bold=True, **right)),
            Spacer(1, 2),
            _text(tongue("case.probability"), _RIGHT),
        ]
    banner = Table([["", said, number]], colWidths=[1.5 * mm, (_WIDTH_MM - 53.5) * mm, 52 * mm])
    banner.setStyle([
        ("BACKGROUND", (0, 0), (-1, -1), soft),
        ("BACKGROUND", (0, 0), (0, -1), strong),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("LEFTPADDING", (1, 0), (1, -1), 10), ("RIGHTPADDING", (-1, 0), (-1, -1), 10),
        ("TOPPADDING", (0, 0), (-1, -1), 7), ("BOTTOMPADDING", (0, 0), (-1, -1), 9),
    ])  # fmt: skip
    words = tongue("case.no_number")
    if case.probability_words:
        words = f"{case.probability_words} {case.probability_at}"
    return [_text(title, _TITLE), Spacer(1, 7), banner, Spacer(1, 4), _text(words, _SMALL), Spacer(1, 6)]


def _photographs(
    case: CaseView, photographs: Sequence[bytes], tongue: Messages, height_mm: float
) -> list[Flowable]:
    """Each photograph with its heatmap beside it."""
    rows = []
    for view, photograph in zip(case.images, photographs, strict=True):
        heat = _overlaid(view.image, photograph)
        beside: list[Flowable] = [_text(view.heat_note or "", _SMALL)]
        if heat is not None:
            beside = [_picture(heat, height_mm, view), Spacer(1, 2), _text(
                f"{tongue('report.heatmap')}. {tongue('report.heatmap_key')}", _TINY
            )]  # fmt: skip
        caption = f"{tongue('report.photograph')}: {view.image.name}"
        if view.frame:
            caption += f". {tongue('case.frame')}"
        rows.append([[_picture(photograph, height_mm, view), Spacer(1, 2), _text(caption, _TINY)], beside])
    return [_columns(rows), Spacer(1, 4)]


def _reasons(case: CaseView, tongue: Messages) -> list[Flowable]:
    lines = [_text(tongue("case.reasons"), _HEADING), *(_bullet(reason) for reason in case.reasons)]
    findings = [(view, sentence) for view in case.images for sentence in _found(view)]
    if findings:
        lines.append(_text(tongue("case.findings"), _HEADING))
    for view, sentence in findings:
        lines.append(_bullet(sentence if len(case.images) == 1 else f"{view.image.name}: {sentence}"))
    return [*lines, Spacer(1, 4)]


def _found(view: ImageView) -> list[str]:
    told = [f"{finding.label}: {finding.text}" for finding in view.findings]
    return [*told, view.novelty] if view.novelty else told


def _figures(case: CaseView, tongue: Messages) -> list[Flowable]:
    """Diagnoses beside what the decision is worth; nothing where there is no answer."""
    if not case.bars or case.point is None or case.threshold is None:
        return []
    point = tongue("report.threshold_of", point=case.point, threshold=case.threshold)
    left = [
        _text(tongue("case.diagnoses"), _HEADING),
        _bars(case.bars),
        _text(tongue("report.bars_key"), _TINY),
    ]
    if case.prediction_set:
        left += [
            Spacer(1, 2),
            _text(case.prediction_set, _TEXT),
            _text(case.prediction_set_promise or "", _TINY),
        ]
    right = [
        _text(tongue("case.operating_point"), _HEADING),
        _text(f"{point}.", _TEXT),
        _text(case.promise or "", _TINY),
        Spacer(1, 3),
        _text(tongue("case.worth"), _HEADING),
        _text(case.worth_at or "", _SMALL),
    ]
    for worth, style in zip(case.worth, (_TEXT, _SMALL), strict=False):
        right += [_text(worth.told, style), _text(f"{worth.label}, {worth.interval}", _TINY), Spacer(1, 2)]
    return [_columns([[left, right]]), Spacer(1, 4)]


def _closing(case: CaseView, tongue: Messages) -> list[Flowable]:
    """What it was made of and by, what it is not, and room for the reader's hand."""
    made_of = [_text(f"{tongue('case.bundle')}: {case.assessment.bundle_id}", _TINY)]
    for view in case.images:
        facts = f"{tongue('case.file')}: {view.image.name} ({view.facts}); SHA-256 {view.image.sha256}"
        made_of.append(_text(facts, _TINY))
    limits = [
        _text(tongue("report.limits_heading"), _HEADING),
        _text(f"{tongue('common.intended_use')} {tongue('report.limits')}", _SMALL),
    ]
    hands = [_text(tongue(key), _TINY) for key in ("report.patient", "report.reader", "report.signature")]
    width_mm = (_WIDTH_MM - 2 * _GAP_MM) / 3
    sign = Table(
        [[hands[0], "", hands[1], "", hands[2]]],
        colWidths=[width * mm for width in (width_mm, _GAP_MM, width_mm, _GAP_MM, width_mm)],
    )
    sign.setStyle([
        *(("LINEABOVE", (n, 0), (n, 0), 0.6, _SOFT) for n in (0, 2, 4)),
        ("LEFTPADDING", (0, 0), (-1, -1), 0), ("TOPPADDING", (0, 0), (-1, -1), 1),
    ])  # fmt: skip
    return [KeepTogether([*limits, Spacer(1, 3), *made_of, Spacer(1, 24), sign])]


# --- pieces -------------------------------------------------------------------------------------------------


def _text(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(escape(writable(text)), style)


def _bullet(text: str) -> Paragraph:
    return Paragraph(escape(writable(text)), _BULLET, bulletText="\N{BULLET}")


def _columns(rows: list[list[list[Flowable]]]) -> Table:
    """Two columns of equal width."""
    table = Table(
        [[left, "", right] for left, right in rows], colWidths=[_HALF_MM * mm, _GAP_MM * mm, _HALF_MM * mm]
    )
    table.setStyle([
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 0), ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
    ])  # fmt: skip
    return table


def _picture(data: bytes, height_mm: float, view: ImageView) -> Picture:
    with Image.open(io.BytesIO(data)) as picture:
        width_px, height_px = picture.size
    scale = min(_HALF_MM / width_px, height_mm / height_px) * mm
    frame = view.frame
    if frame is not None:
        across, down = width_px / view.image.width_px * scale, height_px / view.image.height_px * scale
        frame = frame[0] * across, frame[1] * down, frame[2] * across, frame[3] * down
    return FramedPicture(data, width=width_px * scale, height=height_px * scale, frame=frame)


def _overlaid(image: AssessedImage, photograph: bytes) -> bytes | None:
    """The photograph under its heatmap; None where there is nothing to show."""
    if image.heatmap is None:
        return None
    heat = heat_picture(image.heatmap, width_px=image.width_px, height_px=image.height_px)
    if heat is None:
        return None
    below = Image.open(io.BytesIO(photograph)).convert("RGB")
    above = Image.open(io.BytesIO(heat)).convert("RGBA").resize(below.size, Image.Resampling.BICUBIC)
    cover = above.getchannel("A").point(lambda level: round(level * _HEAT_OPACITY))
    below.paste(above.convert("RGB"), mask=cover)
    buffer = io.BytesIO()
    below.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _bars(bars: Sequence[Bar]) -> Table:
    rows = [[_BarRow(bar), _text(bar.shown, _RIGHT)] for bar in bars]
    table = Table(rows, colWidths=[(_HALF_MM - 18) * mm, 18 * mm])
    table.setStyle([
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 0), ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
    ])  # fmt: skip
    return table


class _BarRow(Flowable):  # type: ignore[misc]  # reportlab has no types
    """A diagnosis over the bar of its probability."""

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self._bar = bar
        self.width = (_HALF_MM - 18) * mm
        self.height = 13.0

    def draw(self) -> None:
        canvas: Canvas = self.canv
        canvas.setFillColor(_INK)
        canvas.setFont(BOLD if self._bar.plausible else REGULAR, 7.8)
        canvas.drawString(0, 5, writable(self._bar.label))
        canvas.setFillColor(_SUNKEN)
        canvas.rect(0, 0, self.width, 2.4, stroke=0, fill=1)
        canvas.setFillColor(_MALIGNANT if self._bar.diagnosis.malignant else _SOFT)
        canvas.rect(0, 0, self.width * self._bar.fraction, 2.4, stroke=0, fill=1)
        canvas.setFillColor(white)
