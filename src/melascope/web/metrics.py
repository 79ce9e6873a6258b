"""What the server tells Prometheus: counts and times, of all worker processes together, never of whom or of what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

from melascope.domain.assessment import Assessment
from melascope.web.service import Observer

MEDIA_TYPE = CONTENT_TYPE_LATEST
FOLDER_VARIABLE = (
    "PROMETHEUS_MULTIPROC_DIR"  # set by `melascope serve` for several workers, before this is imported
)

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

disable_created_metrics()  # type: ignore[no-untyped-call]
_registry = CollectorRegistry()
_requests = Counter(
    "melascope_requests_total", "Requests answered.", ("method", "route", "status"), registry=_registry
)
_seconds = Histogram(
    "melascope_request_seconds", "Time to the answer.", ("route",), buckets=_SECONDS, registry=_registry
)
_in_flight = Gauge(
    "melascope_requests_in_flight", "Requests under way.", multiprocess_mode="livesum", registry=_registry
)
_decisions = Counter(
    "melascope_assessments_total", "Lesions assessed, by decision.", ("decision",), registry=_registry
)
_problems = Counter(
    "melascope_problems_total", "Answers that are problems, by code.", ("code",), registry=_registry
)
_refused = Counter(
    "melascope_refused_credentials_total",
    "Passwords and bearer tokens that were refused, by the code of the reason.",
    ("credential", "code"),
    registry=_registry,
)
_batch = Histogram(
    "melascope_batch_images",
    "Images that went through the network at once.",
    buckets=(1, 2, 4, 8, 16),
    registry=_registry,
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@contextmanager
def in_flight() -> Iterator[None]:
    """Count a request while it is under way."""
    _in_flight.inc()
    try:
        yield
    finally:
        _in_flight.dec()


def count_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request; `route` is the template of its path, never the path."""
    _requests.labels(method if method in _METHODS else "other", route, status).inc()
    _seconds.labels(route).observe(seconds)


def count_problem(code: str) -> None:
    """Count an answer that is a problem."""
    _problems.labels(code).inc()


def count_refused(credential: Literal["password", "token"], code: str) -> None:
    """Count a password or a token that opens nothing."""
    _refused.labels(credential, code).inc()


class ServiceMetrics(Observer):
    """Counts what the service does."""

    def batch(self, images: int) -> None:
        _batch.observe(images)

    def answered(self, assessment: Assessment) -> None:
        _decisions.labels(assessment.decision).inc()


def exposition() -> bytes:
    """In Prometheus' text format."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        return generate_latest(_registry)
    shared = CollectorRegistry()
    multiprocess.MultiProcessCollector(shared, path=folder)  # type: ignore[no-untyped-call]
    return generate_latest(shared)


def forget_dead_workers() -> None:
    """Take back the gauges of processes that were killed; called when a worker starts."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        return
    for file in Path(folder).glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            multiprocess.mark_process_dead(pid, path=folder)  # type: ignore[no-untyped-call]
