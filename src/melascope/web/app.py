"""The application: settings and a bundle in, an ASGI application out."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

from fastapi import FastAPI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from melascope import __version__
from melascope.bundle.catalogue import load_bundle
from melascope.bundle.store import Bundle
from melascope.imaging.decode import ImageLimits
from melascope.runtime.assessor import Assessor
from melascope.runtime.session import default_threads
from melascope.web import api, assets, metrics, pages, problems, security
from melascope.web.edge import Edge, TrustedWord
from melascope.web.service import AssessmentService, ServiceLimits
from melascope.web.sessions import Sessions
from melascope.web.settings import Settings
from melascope.web.uploads import Buffers


def create_app(settings: Settings, *, bundle: Bundle | None = None, folder: Path | None = None) -> FastAPI:
    """The application of one process.

    Parameters
    ----------
    bundle
        What answers; None: the one that the settings name.
    folder
        Private to the server and shared by its processes; None: one of this application's own, gone with it.

    Raises
    ------
    BundleError
        There is no such bundle, or it does not verify.
    RuntimeError
        A route that does not state its permission.
    """
    threads = settings.threads or max(1, default_threads() // settings.workers)
    assessor = Assessor(
        bundle or load_bundle(settings.bundle), threads=threads, batch_size=settings.batch_size
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        metrics.forget_dead_workers()
        own = nullcontext(str(folder)) if folder else tempfile.TemporaryDirectory(prefix="melascope-")
        with own as private:
            app.state.sessions = Sessions(
                Path(private),
                {name: user.password for name, user in settings.users.items()},
                hours=settings.session_hours,
            )
            service = app.state.service = AssessmentService(
                assessor, _service_limits(settings), observer=metrics.ServiceMetrics()
            )
            assessor.time_network_ms()  # the first run allocates; nobody should wait for that
            try:
                yield
            finally:
                await service.close()

    app = FastAPI(
        title="melascope",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.shares = security.Shares(settings.queue_of_client)
    app.state.buffers = Buffers(
        settings.max_buffered_bytes,
        most_of_client=max(settings.max_buffered_bytes // 2, settings.max_request_bytes),
        seconds=settings.room_seconds,
    )
    routers = (api.router, api.operations, pages.router)
    security.refuse_unstated(routers)
    for router in routers:
        app.include_router(router)
    app.mount(assets.path(), assets.Assets(), name="static")  # public: it holds nobody's data
    app.state.problem_page = getattr(pages, "problem_page", None)
    problems.install(app)
    app.add_middleware(Edge, settings=settings, buffers=app.state.buffers)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies))
        app.add_middleware(TrustedWord)
    return app


def _service_limits(settings: Settings) -> ServiceLimits:
    return ServiceLimits(
        images=ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels),
        decode_threads=settings.decode_threads,
        batch_size=settings.batch_size,
        queue=settings.queue,
        queue_of_client=settings.queue_of_client,
    )
