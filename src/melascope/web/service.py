"""Assessing for many at once, without HTTP: bytes → decoded and prepared in a bounded pool → micro-batches → answers.

Decoding runs in threads (Pillow releases the interpreter lock), the network in one thread that takes all images that
wait, up to a batch. What waits is bounded: who comes when it is full is told so at once (`OverloadedError`) instead
of waiting for an answer that nobody reads any more.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar, cast

from melascope.domain.assessment import Assessment
from melascope.domain.image import RgbImage
from melascope.errors import (
    BundleError,
    ImageTooLargeError,
    MelascopeError,
    OverloadedError,
    UsageError,
)
from melascope.imaging.decode import DEFAULT_LIMITS, ImageLimits, decode_image
from melascope.runtime.assessor import Assessor, Prepared, SeenImage, Terms
from melascope.runtime.lesion import combine
from melascope.web.preview import preview_of

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A file as it was sent."""

    name: str  #: as the sender called it; for messages, never a path
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceLimits:
    """What the service takes on at once."""

    images: ImageLimits = DEFAULT_LIMITS
    decode_threads: int = 2
    batch_size: int = 4  #: images that go through the network at once; more take memory and gain little
    queue: int = 64  #: images accepted and not yet answered
    queue_of_client: int = 32  #: of one client; what is more waits, so that there is room for the others
    light_pixels: int = 8_000_000
    """Images of more pixels are decoded one at a time, so that memory is bounded by one of the largest kind."""

    @property
    def at_a_time(self) -> int:
        """Images of one call that wait at once: enough to keep all busy, and at most half of what a client may have."""
        most = min(self.queue, self.queue_of_client)
        return max(1, min(self.decode_threads + self.batch_size, most // 2))


class Observer:
    """Told what happens, for metrics; does nothing by itself."""

    def batch(self, images: int) -> None:
        """So many images go through the network at once. Called in the network's thread."""

    def answered(self, assessment: Assessment) -> None:
        """A lesion has its answer."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    image: Prepared
    heatmap: bool
    answer: Future[tuple[Prepared, SeenImage]]


class AssessmentService:
    """Assesses uploads for any number of callers on one event loop.

    Parameters
    ----------
    assessor
        What answers; public, for its bundle and manifest.
    limits
        See `ServiceLimits`.
    observer
        Told what happens.
    """

    def __init__(
        self,
        assessor: Assessor,
        limits: ServiceLimits | None = None,
        *,
        observer: Observer | None = None,
    ) -> None:
        self.assessor = assessor
        self.limits = limits or ServiceLimits()
        self._light = replace(
            self.limits.images, max_pixels=min(self.limits.light_pixels, self.limits.images.max_pixels)
        )
        self._observer = observer or Observer()
        self._accepted: Counter[str] = Counter()  # images by client; changed on the event loop only
        self._answered = asyncio.Condition()
        self._closing = False
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(self.limits.decode_threads, thread_name_prefix="decode")
        self._heavy_pool = ThreadPoolExecutor(1, thread_name_prefix="decode-heavy")
        self._batcher = threading.Thread(target=self._run_batches, name="network", daemon=True)
        self._batcher.start()

    @property
    def ready(self) -> bool:
        """Whether an image that came now would be accepted and answered."""
        return not self._closing and self._batcher.is_alive() and self._accepted.total() < self.limits.queue

    async def assess(
        self,
        upload: Upload,
        *,
        client: str = "",
        operating_point: str | None = None,
        melanoma_prevalence: float | None = None,
        heatmap: bool = False,
    ) -> Assessment:
        """Assess one image; the options are those of `Assessor.assess`, `client` is whose image it counts as.

        Raises
        ------
        OverloadedError
            The queue is full, or the service is closing.
        ImageError
            The file cannot be decoded.
        UsageError
            An operating point that the bundle lacks, a prevalence outside its range.
        BundleError
            The network fails on this image.
        """
        terms = self.assessor.terms(operating_point, melanoma_prevalence)
        assessment = (await self._assess_all([upload], terms, client=client, heatmap=heatmap))[0]
        self._observer.answered(assessment)
        return assessment

    async def assess_many(
        self,
        uploads: Sequence[Upload],
        *,
        client: str = "",
        operating_point: str | None = None,
        melanoma_prevalence: float | None = None,
        heatmap: bool = False,
    ) -> list[Assessment | MelascopeError]:
        """Assess images, each as a lesion of its own; what keeps one from an answer stands in its place.

        Only a few of them wait at a time, so that other callers are served between them.

        Raises
        ------
        UsageError
            As `assess`.
        """
        self.assessor.terms(operating_point, melanoma_prevalence)  # a wrong name fails before any work
        places = asyncio.Semaphore(self.limits.at_a_time)

        async def assess(upload: Upload) -> Assessment | MelascopeError:
            async with places:
                try:
                    return await self.assess(
                        upload,
                        client=client,
                        operating_point=operating_point,
                        melanoma_prevalence=melanoma_prevalence,
                        heatmap=heatmap,
                    )
                except MelascopeError as error:
                    return error

        return await asyncio.gather(*map(assess, uploads))

    async def assess_lesion(
        self,
        uploads: Sequence[Upload],
        *,
        client: str = "",
        operating_point: str | None = None,
        melanoma_prevalence: float | None = None,
        heatmap: bool = False,
    ) -> Assessment:
        """One answer for a lesion from one image of it or several; one that cannot be read fails them all.

        They wait a few at a time, as those of `assess_many`, in places of the queue that are theirs to the end.

        Raises
        ------
        UsageError
            No image; else as `assess`.
        """
        if not uploads:
            raise UsageError("No image of the lesion is given.", remedy="Give one image at least.")
        terms = self.assessor.terms(operating_point, melanoma_prevalence)
        assessment = combine(await self._assess_all(uploads, terms, client=client, heatmap=heatmap))
        self._observer.answered(assessment)
        return assessment

    async def preview(self, upload: Upload, *, side_px: int, client: str = "") -> bytes:
        """A JPEG of the photograph as it is assessed, no longer than `side_px`; counts as an accepted image.

        Raises
        ------
        OverloadedError
            As `assess`.
        ImageError
            The file cannot be decoded.
        """
        async with self._accept(1, client):
            return await self._decoded(upload, partial(preview_of, side_px=side_px))

    async def close(self) -> None:
        """Refuse what comes from now on, finish what was accepted, stop the threads."""
        self._closing = True
        async with self._answered:
            self._answered.notify_all()
        while self._accepted.total():
            await asyncio.sleep(0.01)
        self._waiting.put(None)
        await asyncio.to_thread(self._batcher.join)
        self._pool.shutdown()
        self._heavy_pool.shutdown()

    async def _assess_all(
        self, uploads: Sequence[Upload], terms: Terms, *, client: str, heatmap: bool
    ) -> list[Assessment]:
        count = min(len(uploads), self.limits.at_a_time)
        places = asyncio.Semaphore(count)

        async def assess(upload: Upload) -> Assessment:
            async with places:
                return await self._assess_one(upload, terms, heatmap=heatmap)

        async with self._accept(count, client):
            return await _all(map(assess, uploads))

    @asynccontextmanager
    async def _accept(self, count: int, client: str) -> AsyncIterator[None]:
        """Count images in, when the client's others leave room for them, or refuse them, and out again."""
        async with self._answered:
            await self._answered.wait_for(
                lambda: self._closing or self._accepted[client] + count <= self.limits.queue_of_client
            )
        if self._closing:
            raise OverloadedError("The server is about to stop.", remedy="Send it again in a moment.")
        if self._accepted.total() + count > self.limits.queue:
            raise OverloadedError(
                f"{self._accepted.total()} images wait to be assessed, as many as fit.",
                remedy="Send it again in a moment.",
            )
        self._accepted[client] += count
        try:
            yield
        finally:
            self._accepted[client] -= count
            if not self._accepted[client]:
                del self._accepted[client]
            async with self._answered:
                self._answered.notify_all()

    async def _assess_one(self, upload: Upload, terms: Terms, *, heatmap: bool) -> Assessment:
        image = await self._decoded(upload, self.assessor.prepare)
        answer: Future[tuple[Prepared, SeenImage]] = Future()
        self._waiting.put(_Waiting(image, heatmap, answer))
        return self.assessor.conclude(*await asyncio.wrap_future(answer), terms)

    async def _decoded(self, upload: Upload, use: Callable[[RgbImage], _T]) -> _T:
        """What `use` makes of the photograph, in a thread; large ones share one of their own."""

        def decode(limits: ImageLimits) -> _T:
            return use(decode_image(upload.data, name=upload.name, limits=limits))

        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, decode, self._light)
        except ImageTooLargeError:
            try:
                return await loop.run_in_executor(self._heavy_pool, decode, self.limits.images)
            except ImageTooLargeError as refused:
                setting = "bytes" if len(upload.data) > self.limits.images.max_bytes else "pixels"
                raise ImageTooLargeError(
                    refused.message,
                    remedy=f"Save it smaller, or have who runs this server raise max_image_{setting}.",
                ) from None

    # --- the network's thread -----------------------------------------------------------------------------

    def _run_batches(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < self.limits.batch_size:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._waiting.put(None)
                    break
                batch.append(following)
            batch = [waiting for waiting in batch if waiting.answer.set_running_or_notify_cancel()]
            if batch:
                self._observer.batch(len(batch))
                self._look(batch)

    def _look(self, batch: Sequence[_Waiting]) -> None:
        """Answer a batch; where the network fails on several, each is tried alone, so that only the culprit fails."""
        activation = any(waiting.heatmap for waiting in batch)
        try:
            seen = list(self.assessor.look([waiting.image for waiting in batch], activation=activation))
        except BundleError as fault:
            if len(batch) == 1:
                batch[0].answer.set_exception(fault)
            else:
                for waiting in batch:
                    self._look([waiting])
            return
        except BaseException as fault:  # noqa: BLE001 - a caller waits for each of them, and the thread must live on
            for waiting in batch:
                waiting.answer.set_exception(fault)
            return
        for waiting, one in zip(batch, seen, strict=True):
            waiting.answer.set_result(
                (waiting.image, one if waiting.heatmap else one._replace(activation_HW=None))
            )


async def _all(calls: Iterable[Awaitable[_T]]) -> list[_T]:
    """The results in their order; where some fail, the first failure, after all have ended."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return cast(list[_T], results)
