"""The REST API below /api/v1: thin; each route parses, calls one function and encodes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema
from pydantic_core import PydanticCustomError

from melascope import __version__
from melascope.decision.prevalence import LEAST_PREVALENCE
from melascope.domain.assessment import Assessment
from melascope.errors import MelascopeError, OverloadedError, RequestError
from melascope.runtime.assessment_json import json_schema, to_json
from melascope.web import metrics, openapi, problems
from melascope.web.security import CSRF_FIELD, Permission, identify, requires
from melascope.web.service import AssessmentService, Upload
from melascope.web.uploads import clean_name, read_form, read_raw

router = APIRouter(prefix="/api/v1")
operations = APIRouter()


async def _stated_once(request: Request) -> None:
    """No option twice: which of them would count?"""
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if times > 1:
            raise RequestError(f"The option {name[:100]!r} is stated {times} times.", remedy="State it once.")


_ASSESS = [Depends(requires(Permission.ASSESS)), Depends(_stated_once)]
_PUBLIC = [Depends(requires(Permission.PUBLIC))]
_METRICS = [Depends(requires(Permission.METRICS))]


def _as_fraction(value: object) -> float:
    """Of a number as JSON writes it: Python would read 0.0_5 too."""
    text = str(value)
    if not _NUMBER.fullmatch(text) or not LEAST_PREVALENCE <= float(text) <= 1 - LEAST_PREVALENCE:
        raise PydanticCustomError(
            "fraction",
            "{value} is no number from 0.00001 to 0.99999; it is a fraction, 0.05 for 5 %",
            {"value": text[:40]},
        )
    return float(text)


_NUMBER = re.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
Fraction = Annotated[
    float,
    BeforeValidator(_as_fraction),
    WithJsonSchema({"type": "number", "minimum": LEAST_PREVALENCE, "maximum": 1 - LEAST_PREVALENCE}),
]


class Options(BaseModel):
    """On what terms images are assessed; see `Assessor.terms`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operating_point: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="One of the bundle's; left out: its default.",
        examples=["sensitivity-95"],
    )
    prevalence: Fraction | None = Field(
        None,
        description=(
            "Share of melanomas among your lesions, a fraction: 0.05 for 5 %. Moves probabilities. Never takes a "
            "referral away, but where melanoma then reaches the threshold, or a malignant diagnosis is the most "
            "probable, nobody is reassured."
        ),
        examples=[0.05],
    )
    heatmap: bool = Field(False, description="Whether to say where the network saw evidence for melanoma.")

    def as_arguments(self, request: Request) -> dict[str, Any]:
        """For the service."""
        return {
            "client": identify(request).share,
            "operating_point": self.operating_point,
            "melanoma_prevalence": self.prevalence,
            "heatmap": self.heatmap,
        }


class OptionsOfOne(Options):
    """The same, and a name for an image that comes without one."""

    name: str | None = Field(None, max_length=200, description="What to call an image that is sent bare.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of one image of several: an assessment or a problem."""

    name: str
    assessment: Assessment | None = None
    problem: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """What came of several images, in their order."""

    results: tuple[Outcome, ...]


OUTCOMES = TypeAdapter(Outcomes)


@router.post("/assess", dependencies=_ASSESS, **openapi.assess_one(Assessment))
async def assess(request: Request, options: Annotated[OptionsOfOne, Query()]) -> Response:
    """Assess one image, sent bare as the body or as the one file of a form.

    The declared type and the name are not trusted: the content decides what it is.
    """
    upload = await _one_upload(request, options.name)
    return _json(to_json(await _service(request).assess(upload, **options.as_arguments(request))))


@router.post("/assess-many", dependencies=_ASSESS, **openapi.assess_files(Outcomes))
async def assess_many(request: Request, options: Annotated[Options, Query()]) -> Response:
    """Assess the files of a form, each as a lesion of its own; a bad file among them spoils no other."""
    uploads = await _uploads(request)
    answers = await _service(request).assess_many(uploads, **options.as_arguments(request))
    pairs = zip(uploads, answers, strict=True)
    results = tuple(_outcome(request, upload, answer) for upload, answer in pairs)
    return _json(OUTCOMES.dump_json(Outcomes(results=results)))


@router.post("/assess-lesion", dependencies=_ASSESS, **openapi.assess_files(Assessment))
async def assess_lesion(request: Request, options: Annotated[Options, Query()]) -> Response:
    """One answer from the files of a form, which all show the same lesion."""
    uploads = await _uploads(request)
    return _json(to_json(await _service(request).assess_lesion(uploads, **options.as_arguments(request))))


@router.get("/bundle", dependencies=_ASSESS, **openapi.plain("The manifest.", "application/json"))
async def bundle(request: Request) -> Response:
    """The manifest of the bundle that answers: operating points, figures, training data, licence."""
    return _json(_service(request).assessor.manifest.model_dump_json().encode())


@router.get("/bundle/card", dependencies=_ASSESS, **openapi.plain("Markdown.", "text/markdown"))
async def card(request: Request) -> Response:
    """The model card of the bundle that answers."""
    return Response(_service(request).assessor.bundle.card, media_type="text/markdown")


@router.get("/health", dependencies=_PUBLIC, **openapi.plain("It lives.", "application/json"))
async def health() -> Response:
    """Whether the process lives."""
    return _json(b'{"status":"ok"}')


@router.get("/ready", dependencies=_PUBLIC, **openapi.plain("It is ready.", "application/json", 503))
async def ready(request: Request) -> Response:
    """Whether an image sent now would be accepted."""
    state = request.app.state
    if not (state.service.ready and state.buffers.has_room(state.settings.max_image_bytes)):
        raise OverloadedError("No image is accepted just now.", remedy="Ask again in a moment.")
    return _json(b'{"status":"ready"}')


@router.get("/version", dependencies=_PUBLIC, **openapi.plain("The version.", "application/json"))
async def version() -> dict[str, str]:
    """The version of melascope."""
    return {"version": __version__}


@router.get("/schema/assessment", dependencies=_PUBLIC, **openapi.plain("JSON Schema.", "application/json"))
async def schema() -> dict[str, Any]:
    """The JSON Schema of an assessment."""
    return json_schema()


@router.get("/problems", dependencies=_PUBLIC, **openapi.plain("By code.", "application/json"))
async def all_problems() -> dict[str, dict[str, object]]:
    """Every code that a problem may have: its HTTP status and what it means."""
    return problems.catalogue()


@router.get("/openapi.json", dependencies=_PUBLIC, **openapi.plain("OpenAPI 3.1.", "application/json"))
async def openapi_document(request: Request) -> dict[str, Any]:
    """This description."""
    return openapi.document(request.app, server=request.scope.get("root_path", ""))


@operations.get("/metrics", dependencies=_METRICS, include_in_schema=False)
async def prometheus() -> Response:
    """For Prometheus."""
    return Response(metrics.exposition(), media_type=metrics.MEDIA_TYPE)


def _service(request: Request) -> AssessmentService:
    service: AssessmentService = request.app.state.service
    return service


async def _one_upload(request: Request, name: str | None) -> Upload:
    if not request.headers.get("content-type", "").lower().startswith("multipart/"):
        return Upload(name=clean_name(name), data=await read_raw(request))
    files = await _files(request)
    if len(files) != 1:
        raise RequestError(
            f"The form has {len(files)} files.", remedy="Send one, or several to /api/v1/assess-many."
        )
    return files[0]


async def _uploads(request: Request) -> list[Upload]:
    files = await _files(request)
    if not files:
        raise RequestError("The form has no file.", remedy="Send one at least.")
    return files


async def _files(request: Request) -> list[Upload]:
    """Those of a form that holds nothing else: an option sent as a field would be lost without a word."""
    form = await read_form(request)
    for name in form.fields:
        if name != CSRF_FIELD:
            raise RequestValidationError(
                [
                    {
                        "loc": ("body", name[:100]),
                        "msg": "The form holds files alone; options go into the query",
                    }
                ]
            )
    return list(form.files)


def _outcome(request: Request, upload: Upload, answer: Assessment | MelascopeError) -> Outcome:
    if isinstance(answer, Assessment):
        return Outcome(name=upload.name, assessment=answer)
    problem = problems.problem_of(answer, problems.request_id(request))
    metrics.count_problem(problem.code)
    return Outcome(name=upload.name, problem=problem.as_json(request.scope.get("root_path", "")))


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
