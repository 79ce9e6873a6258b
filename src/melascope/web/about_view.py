"""The page about the model: its figures, its promises, its limits in the reader's language, and its card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from melascope.bundle.manifest import Figure, Manifest, Measurement
from melascope.datasets.sources import are_public
from melascope.decision.operating_point import OperatingPoint
from melascope.domain.diagnosis import Diagnosis
from melascope.web.case_view import point_label
from melascope.web.messages import Messages, isolated

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")  # its `validateLink` checks links

#: Token of a header cell -> the way to that of its words.
_TO_WORDS = {"th_open": 1, "th_close": -1}

#: Sets of lesions that have a name in words.
_SETS = {
    "test": "about.set_test",
    "isic2017-val": "about.set_isic2017",
    "isic2018-val": "about.set_isic2018",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What stands in a table, and the interval about it."""

    text: str
    interval: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of a table."""

    head: str
    cells: tuple[Cell, ...]
    default: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table whose rows become blocks where there is no room."""

    name: str
    headings: tuple[str, ...]  #: that of the rows' heads first
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AboutView:
    """All that the page says in the reader's language, short of plain fields of the manifest; then the card."""

    unseen: Table  #: figures of lesions that neither the network nor its thresholds come from
    unseen_note: str
    leak: str | None  #: why those figures are not to be believed
    limits: tuple[str, ...]
    points: Table
    calibrated_at: str
    refitted: str | None  #: on whose cases the decision was fitted anew
    promises: tuple[str, ...]
    training_lead: str
    class_counts: tuple[tuple[str, str], ...]
    card: Markup


def about_view(manifest: Manifest, card: str, tongue: Messages) -> AboutView:
    """Everything to show of a bundle; `card` is Markdown."""
    calibration, conformal, training = manifest.calibration, manifest.conformal, manifest.training
    prevalence = tongue.stated_percent(calibration.prevalence_C[manifest.classes.index(Diagnosis.MEL)])
    coverage = None if conformal is None else tongue.percent(conformal.coverage)
    reasons = [training.audit_override, manifest.refit.allowed_leak if manifest.refit else None]
    reason = "; ".join(filter(None, reasons))
    return AboutView(
        unseen=_unseen(manifest, tongue),
        unseen_note=tongue("about.unseen_note", point=point_label(manifest.operating_point(), tongue)),
        leak=None if not reason else tongue("about.leak", reason=isolated(reason)),
        limits=_limits(manifest, prevalence, tongue),
        points=_points(manifest, tongue),
        calibrated_at=tongue(
            "about.calibrated_at",
            n_cases=tongue.count(calibration.n_cases),
            n_groups=tongue.count(calibration.n_groups),
            prevalence=prevalence,
        ),
        refitted=_refitted(manifest, tongue),
        promises=(
            tongue("about.sets_promise", coverage=coverage) if coverage else tongue("about.no_sets"),
            tongue("about.no_novelty" if manifest.novelty is None else "about.novelty_told"),
        ),
        training_lead=tongue(
            "about.training_lead",
            n_images=tongue.count(training.n_images),
            n_groups=tongue.count(training.n_groups),
        ),
        class_counts=tuple(
            (tongue.texts.get(f"diagnosis.{name}", name), tongue.count(count))
            for name, count in training.class_counts.items()
        ),
        card=card_html(card),
    )


def card_html(card: str) -> Markup:
    """The card as HTML. Its tables scroll by themselves, and a header cell without a word is no header."""
    tokens, shown, heading = _MARKDOWN.parse(card), [], ""
    for i, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[i + 1].content
        elif token.type == "table_open":
            shown.append(
                _html(f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(heading)}">')
            )
        elif (other := _TO_WORDS.get(token.type)) and not tokens[i + other].content:
            token.tag = "td"
        shown.append(token)
        if token.type == "table_close":
            shown.append(_html("</div>"))
    return Markup(_MARKDOWN.renderer.render(shown, _MARKDOWN.options, {}))  # noqa: S704 - the card's HTML is off


def _html(content: str) -> Token:
    return Token("html_block", "", 0, content=content)


def _refitted(manifest: Manifest, tongue: Messages) -> str | None:
    if manifest.refit is None:
        return None
    return tongue(
        "about.refitted",
        sources=isolated(", ".join(manifest.refit.sources)),
        base=isolated(manifest.refit.base),
    )


def _unseen(manifest: Manifest, tongue: Messages) -> Table:
    return Table(
        name=tongue("about.unseen"),
        headings=(
            tongue("about.set"),
            tongue("about.size"),
            "AUROC",
            tongue("about.sensitivity"),
            tongue("about.specificity"),
            tongue("about.balanced_accuracy"),
        ),
        rows=tuple(
            _measured(
                measurement,
                manifest.default_operating_point,
                tongue,
                head=measurement.name
                if manifest.refit or measurement.name not in _SETS
                else tongue(_SETS[measurement.name]),
            )
            for measurement in manifest.measurements
        ),
    )


def _measured(measurement: Measurement, point: str, tongue: Messages, *, head: str) -> Row:
    def share(name: str) -> Cell:
        return _figure(measurement.figures.get(name), tongue.percent, tongue)

    def decimal(value: float) -> str:
        return f"{value:.3f}".replace(".", tongue.texts["decimal_mark"])

    return Row(
        head=head,
        cells=(
            Cell(
                text=tongue(
                    "about.set_counts",
                    n_images=tongue.count(measurement.n_images),
                    n_groups=tongue.count(measurement.n_groups),
                    n_melanoma=tongue.count(measurement.n_melanoma),
                )
            ),
            _figure(measurement.figures.get("melanoma_auroc"), decimal, tongue),
            share(f"sensitivity@{point}"),
            share(f"specificity@{point}"),
            share("balanced_accuracy"),
        ),
    )


def _figure(figure: Figure | None, written: Callable[[float], str], tongue: Messages) -> Cell:
    if figure is None or figure.value is None:
        return Cell(text=tongue("about.undefined"))
    if figure.low is None or figure.high is None:
        return Cell(text=written(figure.value))
    return Cell(text=written(figure.value), interval=f"({written(figure.low)} – {written(figure.high)})")


def _points(manifest: Manifest, tongue: Messages) -> Table:
    return Table(
        name=tongue("about.points"),
        headings=tuple(
            tongue(key)
            for key in (
                "about.promise",
                "about.threshold",
                "about.sensitivity",
                "about.specificity",
                "about.lesions",
            )
        ),
        rows=tuple(
            _point(point, tongue, default=point.name == manifest.default_operating_point)
            for point in manifest.operating_points
        ),
    )


def _point(point: OperatingPoint, tongue: Messages, *, default: bool) -> Row:
    def share(value: float, interval: tuple[float, float]) -> Cell:
        return _figure(Figure(value=value, low=interval[0], high=interval[1]), tongue.percent, tongue)

    label = point_label(point, tongue)
    return Row(
        head=tongue("about.promised", promise=label, confidence=tongue.percent(point.confidence))
        if point.guaranteed
        else label,
        default=default,
        cells=(
            Cell(text=tongue.percent(point.threshold, decimals=1)),
            share(point.sensitivity, point.sensitivity_interval),
            share(point.specificity, point.specificity_interval),
            Cell(
                text=tongue(
                    "about.lesion_counts",
                    n_melanoma=tongue.count(point.n_melanoma),
                    n_other=tongue.count(point.n_other),
                )
            ),
        ),
    )


def _limits(manifest: Manifest, prevalence: str, tongue: Messages) -> tuple[str, ...]:
    """What the card says of limits (`learning.card`), in the reader's language."""
    recognised = "about.no_novelty" if manifest.novelty is None else "about.limit_recognised"
    return (
        f"{tongue('about.limit_dermoscopy')} {tongue(recognised)}",
        *map(
            tongue,
            ("about.limit_skin", "about.limit_melanomas")
            if are_public(manifest.training.sources)
            else ("about.limit_other_data",),
        ),
        tongue("about.limit_no_sign"),
        tongue("about.limit_figures"),
        tongue("about.limit_prevalence", prevalence=prevalence),
    )
