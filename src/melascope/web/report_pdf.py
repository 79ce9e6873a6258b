"""The report of one lesion as a PDF for its record: one page of A4 where it fits."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth
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
_EDGE_PT = 7.2  # the letters above and below the text
_DIGEST_DIGITS = 12
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
_MARK = _style(6.4, bold=True)
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
    stamp = tongue("report.made", date=tongue.date(made), version=__version__)
    for height_mm in _PICTURE_HEIGHTS_MM if len(photographs) == 1 else _PICTURE_HEIGHTS_MM[-1:]:
        pdf, n_pages = _build(case, photographs, tongue, height_mm=height_mm, title=title, made=stamp)
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
    made: str,
) -> tuple[bytes, int]:
    """The PDF with pictures of that height, and its number of pages."""
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=_MARGIN_MM * mm - _FRAME_PT,
        rightMargin=_MARGIN_MM * mm - _FRAME_PT,
        topMargin=28 * mm,
        bottomMargin=15 * mm,
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
    head = partial(_head, made=made, tongue=tongue)
    foot = partial(_foot, case=case, tongue=tongue)
    document.build(
        story, onFirstPage=head, onLaterPages=head, canvasmaker=partial(NumberedCanvas, at_end=foot)
    )
    return buffer.getvalue(), int(document.page)


# --- the parts, from top to bottom --------------------------------------------------------------------------


def _head(canvas: Canvas, _: SimpleDocTemplate, *, made: str, tongue: Messages) -> None:
    """What stands on every page above the text: what made it, and room for whose it is."""
    left, right, top = _MARGIN_MM * mm, (210 - _MARGIN_MM) * mm, A4[1] - 14 * mm
    canvas.saveState()
    canvas.setFillColor(_BRAND)
    canvas.setFont(BOLD, 10.5)
    canvas.drawString(left, top, "melascope")
    canvas.setFillColor(_SOFT)
    canvas.setFont(REGULAR, _EDGE_PT)
    canvas.drawRightString(right, top, writable(made))
    canvas.setStrokeColor(_LINE)
    canvas.line(left, top - 3 * mm, right, top - 3 * mm)
    patient, down = writable(tongue("report.patient")), top - 12 * mm
    canvas.drawString(left, down, patient)
    canvas.setStrokeColor(_SOFT)
    canvas.setLineWidth(0.6)
    canvas.line(left + canvas.stringWidth(patient, REGULAR, _EDGE_PT) + 2 * mm, down, right, down)
    canvas.restoreState()


def _foot(canvas: Canvas, n: int, total: int, *, case: CaseView, tongue: Messages) -> None:
    """What stands on every page below the text: what it is of, so that pages that were parted can be matched."""
    left, right, up = _MARGIN_MM * mm, (210 - _MARGIN_MM) * mm, 10 * mm
    page = writable(tongue("report.page", n=n, total=total))
    digest = f" · SHA-256 {case.assessment.images[0].sha256[:_DIGEST_DIGITS]}…"
    canvas.setFillColor(_SOFT)
    canvas.setFont(REGULAR, _EDGE_PT)
    canvas.drawRightString(right, up, page)
    room = right - left - 6 * mm - canvas.stringWidth(f"{page}{digest}", REGULAR, _EDGE_PT)
    canvas.drawString(
        left, up, shortened(writable(_named(case, 1, tongue)), REGULAR, _EDGE_PT, room) + digest
    )
    bundle = writable(f"{tongue('case.bundle')}: {case.assessment.bundle_id}")
    canvas.drawString(left, up - 9, bundle)


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
    """Each photograph with its heatmap beside it; of several, the one that decided is marked."""
    rows, several = [], len(case.images) > 1
    for n, (view, photograph) in enumerate(zip(case.images, photographs, strict=True), start=1):
        heat = _overlaid(view.image, photograph)
        beside: list[Flowable] = [_text(view.heat_note or "", _SMALL)]
        if heat is not None:
            beside = [_picture(heat, height_mm, view), Spacer(1, 2), _text(
                f"{tongue('report.heatmap')}. {tongue('report.heatmap_key')}", _TINY
            )]  # fmt: skip
        caption = _named(case, n, tongue)
        if view.frame:
            caption += f". {tongue('case.frame')}"
        mark: list[Flowable] = []
        if several and view.speaks and case.probability is not None:
            mark = [_text(tongue("report.decided"), _MARK)]
        shown = [_picture(photograph, height_mm, view), Spacer(1, 2), *mark, _text(caption, _TINY)]
        rows.append([shown, beside])
    return [_columns(rows), Spacer(1, 4)]


def _named(case: CaseView, n: int, tongue: Messages) -> str:
    """A photograph by its name; of several by its number too, since cameras repeat names."""
    number = f" {n}" if len(case.images) > 1 else ""
    return f"{tongue('report.photograph')}{number}: {case.images[n - 1].image.name}"


def _reasons(case: CaseView, tongue: Messages) -> list[Flowable]:
    lines = [_text(tongue("case.reasons"), _HEADING), *(_bullet(reason) for reason in case.reasons)]
    several = len(case.images) > 1
    findings = [
        f"{tongue('report.photograph')} {n}: {sentence}" if several else sentence
        for n, view in enumerate(case.images, start=1)
        for sentence in _found(view)
    ]
    if findings:
        lines.append(_text(tongue("report.photographs" if several else "case.findings"), _HEADING))
    return [*lines, *map(_bullet, findings), Spacer(1, 4)]


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
        _bars(case.bars, tongue),
        _text(tongue("report.bars_key", malignant=tongue("case.malignant")), _TINY),
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
    for n, view in enumerate(case.images, start=1):
        facts = f"{_named(case, n, tongue)} ({view.facts}); SHA-256 {view.image.sha256}"
        made_of.append(_text(facts, _TINY))
    limits = [
        _text(tongue("report.limits_heading"), _HEADING),
        _text(f"{tongue('common.intended_use')} {tongue('report.limits')}", _SMALL),
    ]
    hands = [_text(tongue(key), _TINY) for key in ("report.reader", "report.signature")]
    sign = Table([[hands[0], "", hands[1]]], colWidths=[_HALF_MM * mm, _GAP_MM * mm, _HALF_MM * mm])
    sign.setStyle([
        *(("LINEABOVE", (n, 0), (n, 0), 0.6, _SOFT) for n in (0, 2)),
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


def _bars(bars: Sequence[Bar], tongue: Messages) -> Table:
    number_pt = max(stringWidth(writable(bar.shown), REGULAR, _RIGHT.fontSize) for bar in bars) + 6
    name_pt = _HALF_MM * mm - number_pt
    rows = [
        [[_diagnosis(bar, tongue), Spacer(1, 1), _BarOf(bar, name_pt)], _text(bar.shown, _RIGHT)]
        for bar in bars
    ]
    table = Table(rows, colWidths=[name_pt, number_pt])
    table.setStyle([
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 0), ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
    ])  # fmt: skip
    return table


def _diagnosis(bar: Bar, tongue: Messages) -> Paragraph:
    """Its name; a malignant one says so, since its bar may be too short for a colour."""
    told = escape(writable(bar.label))
    if bar.diagnosis.malignant:
        said = escape(writable(tongue("case.malignant")))
        told += f' <font name="{REGULAR}" size="6.4" color="#{_MALIGNANT.hexval()[2:]}">{said}</font>'
    return Paragraph(told, _style(7.8, bold=bar.plausible))


class _BarOf(Flowable):  # type: ignore[misc]  # reportlab has no types
    """A diagnosis' probability, drawn."""

    def __init__(self, bar: Bar, width: float) -> None:
        super().__init__()
        self._bar = bar
        self.width, self.height = width, 2.4

    def draw(self) -> None:
        canvas: Canvas = self.canv
        canvas.setFillColor(_SUNKEN)
        canvas.rect(0, 0, self.width, self.height, stroke=0, fill=1)
        canvas.setFillColor(_MALIGNANT if self._bar.diagnosis.malignant else _SOFT)
        canvas.rect(0, 0, self.width * self._bar.fraction, self.height, stroke=0, fill=1)
