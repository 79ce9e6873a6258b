"""Many images through the network in bounded memory: decoded ahead in a few threads, scored in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from melascope.domain.image import RgbImage
from melascope.errors import MelascopeError
from melascope.runtime.assessor import Assessor, Prepared, SeenImage

_BATCHES_AHEAD = 2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScoredBatch:
    """The answers for one batch of inputs."""

    scored: tuple[int, ...]  #: index of each input that was scored
    prepared: tuple[Prepared, ...]  #: those images
    seen: tuple[SeenImage, ...]  #: what the network made of them
    refused: tuple[tuple[int, MelascopeError], ...]  #: index of each input that could not be read, and why
    stop: int  #: index of the first input after this batch


def score(
    assessor: Assessor, loaders: Sequence[Callable[[], RgbImage]], *, start: int = 0, decoders: int = 2
) -> Iterator[ScoredBatch]:
    """Score images batch by batch, in order; a bad image is refused alone.

    A batch is `assessor.batch_size` consecutive inputs, counted from 0: work that stops after a batch and
    is taken up with `start` there gives, bit for bit, what uninterrupted work gives.

    Parameters
    ----------
    loaders
        Each reads and decodes one image; called in other threads. Its MelascopeError refuses that image.
    start
        Index of the first input to score, a multiple of the batch size.
    decoders
        Threads that read and decode; as many full-size images are in memory at once.
    """
    size = assessor.batch_size

    def prepare(load: Callable[[], RgbImage]) -> Prepared | MelascopeError:
        try:
            return assessor.prepare(load())
        except MelascopeError as fault:
            return fault

    ahead: deque[Future[Prepared | MelascopeError]] = deque()
    submitted = start
    with ThreadPoolExecutor(decoders, thread_name_prefix="decode") as pool:
        try:
            for first in range(start, len(loaders), size):
                stop = min(len(loaders), first + size)
                while submitted < min(len(loaders), stop + size * _BATCHES_AHEAD):
                    ahead.append(pool.submit(prepare, loaders[submitted]))
                    submitted += 1
                answers = {n: ahead.popleft().result() for n in range(first, stop)}
                prepared = {
                    n: answer for n, answer in answers.items() if not isinstance(answer, MelascopeError)
                }
                images = tuple(prepared.values())
                yield ScoredBatch(
                    scored=tuple(prepared),
                    prepared=images,
                    seen=tuple(assessor.look(images)) if images else (),
                    refused=tuple((n, a) for n, a in answers.items() if isinstance(a, MelascopeError)),
                    stop=stop,
                )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
