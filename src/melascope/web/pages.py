"""The pages, server-rendered: thin routes; what they show is made by `case_view`, `about_view` and `messages`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePath
from typing import Any

import jinja2
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from melascope import __version__
from melascope.bundle.manifest import Manifest
from melascope.decision.operating_point import OperatingPoint
from melascope.domain.assessment import Assessment
from melascope.domain.diagnosis import Diagnosis
from melascope.errors import MelascopeError, RequestError, UsageError
from melascope.runtime.assessment_json import to_jsonable
from melascope.web import assets
from melascope.web.about_view import about_view
from melascope.web.attachment import attachment
from melascope.web.case_view import FOREIGN_TO_BROWSERS, URGENCY, case_view, point_label
from melascope.web.messages import LANGUAGES, Messages, isolated, messages, negotiate
from melascope.web.problems import Problem
from melascope.web.report_pdf import REPORT_SIDE_PX, report_pdf
from melascope.web.security import CSRF_FIELD, Permission, csrf_token, identify, requires, sign_in, sign_out
from melascope.web.service import AssessmentService, Upload
from melascope.web.settings import Settings
from melascope.web.uploads import Form, read_form

router = APIRouter(include_in_schema=False)

LANGUAGE_COOKIE = "melascope-language"
_LANGUAGE_S = 365 * 24 * 3600
_PREVIEW_SIDE_PX = 1600  # of one photograph; several together take no more pixels
_RETURN_TO = frozenset({"/about"})
_FIELDS = frozenset({"operating_point", "prevalence", "lesion", CSRF_FIELD})  # of the form of photographs
_TICKED = "1"
_DECIMAL = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)")

#: Messages of the catalogue that the page's JavaScript says.
_SCRIPT_SECTIONS = ("error", "results", "terms", "camera")

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("melascope.web"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["isolated"] = isolated
_TEMPLATES.policies["json.dumps_kwargs"] = {}  # keys in their order, which is the classes'


# --- routes -------------------------------------------------------------------------------------------------


@router.get("/", dependencies=[Depends(requires(Permission.ASSESS))])
async def start(request: Request) -> Response:
    """The page on which images are assessed."""
    tongue, manifest = _tongue(request), _manifest(request)
    prevalence = manifest.calibration.prevalence_C[manifest.classes.index(Diagnosis.MEL)]
    return _page(
        request,
        "index.html",
        here="assess",
        points=[_choice(point, manifest, tongue) for point in manifest.operating_points],
        calibration_prevalence=tongue("terms.prevalence_default", percent=tongue.stated_percent(prevalence)),
        calibration_number=tongue.stated_percent(prevalence).split()[0],
        max_megabytes=request.app.state.settings.max_image_bytes // 1024**2,
        max_megapixels=request.app.state.settings.max_image_pixels // 1000**2,
        urgency=URGENCY.index,
        texts={name: tongue.section(name) for name in _SCRIPT_SECTIONS},
    )


@router.post("/assess", dependencies=[Depends(requires(Permission.ASSESS))])
async def assess(request: Request) -> Response:
    """Assess what the form holds: a fragment for the page's JavaScript, else a page of results."""
    form = await _photographs(request)
    if request.headers.get("x-fragment") == "1":
        return await _fragment(request, form)
    groups = [form.files] if "lesion" in form.fields else [[upload] for upload in form.files]
    cases, failures = [], []
    tongue = _tongue(request)
    for group in groups:
        try:
            cases.append(await _shown(request, form, group, preview_all=True))
        except UsageError:
            raise  # of the terms: it is the same for every file
        except MelascopeError as error:
            failures.append((group[0].name, _error_text(error.code, tongue), str(error)))
    cases.sort(key=lambda pair: URGENCY.index(pair[0].assessment.decision))
    return _page(
        request, "results.html", here="assess", cases=cases, failures=failures, urgency=URGENCY.index
    )


@router.post("/report.pdf", dependencies=[Depends(requires(Permission.ASSESS))])
async def report(request: Request) -> Response:
    """The report of one lesion. Nothing is stored, so that its photographs are sent again."""
    form = await _photographs(request)
    _refuse_several_lesions(request, form)
    service: AssessmentService = request.app.state.service
    client = identify(request).share
    assessment = await _assessed(service, form, form.files, client)
    photographs = [
        await service.preview(upload, side_px=REPORT_SIDE_PX, client=client) for upload in form.files
    ]
    make = partial(report_pdf, assessment, photographs, _manifest(request), _tongue(request))
    return Response(
        await asyncio.to_thread(make, made=datetime.now(UTC)),
        media_type="application/pdf",
        headers={"Content-Disposition": attachment(f"{PurePath(form.files[0].name).stem}.pdf")},
    )


@router.get("/about", dependencies=[Depends(requires(Permission.ASSESS))])
async def about(request: Request) -> Response:
    """The model behind the answers: its card, its figures, its limits."""
    bundle = request.app.state.service.assessor.bundle
    view = about_view(bundle.manifest, bundle.card, _tongue(request))
    return _page(request, "about.html", here="about", manifest=bundle.manifest, about=view)


@router.get("/login", dependencies=[Depends(requires(Permission.PUBLIC))])
async def login_page(request: Request) -> Response:
    """The form to sign in with."""
    if identify(request).by in {"open", "session"}:
        return _go_on(request)
    return _login(request, fault=None)


@router.post("/login", dependencies=[Depends(requires(Permission.PUBLIC))])
async def login(request: Request) -> Response:
    """Sign in; a failure comes back as the same form with a word about it (`problem_page`)."""
    fields = (await read_form(request)).fields
    cookie = await sign_in(request, fields.get("name", ""), fields.get("password", ""))
    return _go_on(request, cookie)


@router.post("/logout", dependencies=[Depends(requires(Permission.ASSESS, forms_age=False))])
async def logout(request: Request) -> Response:
    """Sign out."""
    return _redirect(f"{_base(request)}/", sign_out(request))


def problem_page(request: Request, problem: Problem) -> Response:
    """A problem for people: the login form where somebody has to sign in, else what happened and what to do."""
    tongue = _tongue(request)
    at_login = request.url.path == f"{_base(request)}/login"
    if problem.status == 401 or (at_login and problem.status == 429):
        fault = "login.waiting" if problem.status == 429 else "login.failed"
        return _login(request, fault=tongue(fault) if at_login else None)
    return _page(
        request,
        "problem.html",
        text=_error_text(problem.code, tongue, other="error.unknown"),
        technical=" ".join(filter(None, (problem.detail, problem.remedy))),
    )


# --- what the routes share ----------------------------------------------------------------------------------


async def _photographs(request: Request) -> Form:
    """The form of photographs and their terms.

    Raises
    ------
    RequestError
        No photograph, or an option that would be lost without a word: unknown, in the query, or not as the page
        sends it.
    """
    form = await read_form(request)
    for name in request.query_params:
        if name != "lang":
            raise RequestError(
                f"The option {name[:100]!r} is in the query.", remedy="Send it as a field of the form."
            )
    for name in form.fields:
        if name not in _FIELDS:
            raise RequestError(f"The form has no option {name[:100]!r}.", remedy="Leave it out.")
    lesion = form.fields.get("lesion", _TICKED)
    if lesion != _TICKED:
        raise RequestError(
            f"The field 'lesion' is {lesion[:100]!r}.",
            remedy=f"Send {_TICKED!r} if the photographs show one lesion, else leave it out.",
        )
    if not form.files:
        raise RequestError("No image is given.", remedy="Choose one image at least.")
    return form


def _refuse_several_lesions(request: Request, form: Form) -> None:
    """One answer is of one lesion: photographs of others would get into its record."""
    if len(form.files) > 1 and "lesion" not in form.fields:
        raise RequestError(
            f"{len(form.files)} photographs are given, and nothing says that they show one lesion.",
            remedy=f'Choose one photograph, or tick "{_tongue(request)("upload.lesion")}".',
        )


async def _fragment(request: Request, form: Form) -> Response:
    _refuse_several_lesions(request, form)
    case, jsonable = await _shown(request, form, form.files, preview_all=False)
    html = _TEMPLATES.get_template("case.html").render(
        **_frame(request), case=case, jsonable=jsonable, urgency=URGENCY.index
    )
    return HTMLResponse(html)


async def _shown(
    request: Request, form: Form, uploads: Sequence[Upload], *, preview_all: bool
) -> tuple[Any, Any]:
    """A case and its JSON, of one lesion; with previews of all its photographs, or of those that browsers lack."""
    service: AssessmentService = request.app.state.service
    client = identify(request).share
    assessment = await _assessed(service, form, uploads, client)
    side_px = round(_PREVIEW_SIDE_PX / len(form.files) ** 0.5)
    previews = {
        image.sha256: await service.preview(upload, side_px=side_px, client=client)
        for image, upload in zip(assessment.images, uploads, strict=True)
        if preview_all or image.format in FOREIGN_TO_BROWSERS
    }
    case = case_view(assessment, service.assessor.manifest, _tongue(request), previews=previews)
    return case, to_jsonable(assessment)


async def _assessed(
    service: AssessmentService, form: Form, uploads: Sequence[Upload], client: str
) -> Assessment:
    return await service.assess_lesion(
        uploads,
        client=client,
        operating_point=form.fields.get("operating_point") or None,
        melanoma_prevalence=_prevalence(form.fields.get("prevalence", "")),
        heatmap=True,
    )


def _prevalence(per_cent: str) -> float | None:
    """A share from what was typed, as "2" or "2,5" per cent.

    Raises
    ------
    UsageError
        It is no number, or not one from 0.001 to 99.999.
    """
    typed = per_cent.strip().removesuffix("%").strip().replace(",", ".")
    if not per_cent.strip():
        return None
    if not _DECIMAL.fullmatch(typed) or not 0.001 <= float(typed) <= 99.999:
        raise UsageError(
            f"The share of melanomas is {per_cent!r}.",
            remedy="Give a number of per cent from 0.001 to 99.999, such as 2.5 for 2.5 of 100 lesions.",
        )
    return float(typed) / 100


def _choice(point: OperatingPoint, manifest: Manifest, tongue: Messages) -> dict[str, object]:
    default = point.name == manifest.default_operating_point
    told = tongue(
        "terms.point_told",
        threshold=tongue.percent(point.threshold, decimals=1),
        sensitivity=tongue.percent(point.sensitivity),
        specificity=tongue.percent(point.specificity),
    )
    return {"name": point.name, "label": point_label(point, tongue), "default": default, "told": told}


def _login(request: Request, *, fault: str | None) -> Response:
    return _page(request, "login.html", fault=fault, to=_asked_for(request))


def _go_on(request: Request, cookie: str | None = None) -> Response:
    """To the page that was asked for before signing in, else to the start."""
    return _redirect(f"{_base(request)}{_asked_for(request) or '/'}", cookie)


def _asked_for(request: Request) -> str | None:
    """The page to come back to: one of ours by name, so that nobody can be sent elsewhere."""
    path = request.query_params.get("to", "").removeprefix(_base(request))
    return path if path in _RETURN_TO else None


def _redirect(to: str, cookie: str | None) -> Response:
    response = RedirectResponse(to, status_code=303)
    if cookie is not None:
        response.headers.append("Set-Cookie", cookie)
    return response


def _error_text(code: str, tongue: Messages, *, other: str = "error.other") -> str:
    return tongue.texts.get(f"error.{code}", tongue.texts[other])


def _manifest(request: Request) -> Manifest:
    service: AssessmentService = request.app.state.service
    return service.assessor.manifest


def _tongue(request: Request) -> Messages:
    asked = request.query_params.get("lang") or request.cookies.get(LANGUAGE_COOKIE)
    return messages(negotiate(asked, request.headers.get("accept-language")))


def _base(request: Request) -> str:
    """Where the application lies: not the scope's `root_path`, which a mount below it moves."""
    settings: Settings = request.app.state.settings
    return settings.base_path


def _frame(request: Request) -> dict[str, Any]:
    """What every template needs."""
    base = _base(request)
    tongue, path = _tongue(request), request.url.path
    return {
        "t": tongue,
        "language_path": path if path.removeprefix(base) in {"/login", *_RETURN_TO} else f"{base}/",
        "base": base,
        "static": lambda name: f"{base}{assets.path()}/{name}",
        "languages": LANGUAGES,
        "version": __version__,
    }


def _page(request: Request, template: str, **values: Any) -> Response:
    caller, service = identify(request), getattr(request.app.state, "service", None)
    inside = Permission.ASSESS in caller.permissions
    tongue = _tongue(request)
    html = _TEMPLATES.get_template(template).render(
        **_frame(request),
        **{"here": None} | values,
        menu=inside,
        signed_in=caller.by == "session",
        csrf_token=csrf_token(request),
        bundle_id=service.assessor.manifest.id if inside and service is not None else None,
        intended_use=tongue("common.intended_use"),
    )
    response = HTMLResponse(
        html, headers={"Content-Language": tongue.language, "Vary": "Accept-Language, Cookie"}
    )
    if request.method == "GET" and request.query_params.get("lang") in LANGUAGES:
        response.set_cookie(
            LANGUAGE_COOKIE, tongue.language, max_age=_LANGUAGE_S, samesite="lax", httponly=True,
            secure=request.url.scheme == "https",
        )  # fmt: skip
    return response
