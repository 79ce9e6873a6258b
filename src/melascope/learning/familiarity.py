"""The novelty model of a run's network and its limits, fitted with the exported graph on photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melascope.bundle.store import Bundle
from melascope.datasets.cache import Progress
from melascope.datasets.files import open_case_bytes
from melascope.decision.novelty import NoveltyLimits, NoveltyModel, fit_limits
from melascope.domain.case import Case
from melascope.errors import ImageError, UsageError
from melascope.imaging.appearance import appearance
from melascope.imaging.decode import decode_image, read_image
from melascope.imaging.preprocess import normalise, to_uint8
from melascope.learning.exposure import fit_by_exposure
from melascope.runtime.session import session_for

_BATCH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """How many pictures of each kind; see `fit_by_exposure`."""

    n_familiar: int = 4500
    n_varied: int = 1500
    n_drawn: int = 3900
    n_spoiled: int = 1000


def fit_familiarity(
    draft: Bundle,
    *,
    trained: Sequence[Case],
    held_out: Sequence[Case],
    foreign: Path | None = None,
    exposure: Exposure,
    progress: Progress | None = None,
) -> tuple[NoveltyModel, NoveltyLimits]:
    """Fit the novelty model on what the network was trained on, its limits on what it was not.

    Parameters
    ----------
    draft
        The bundle without novelty: its graph gives the embeddings.
    trained
        Cases that the network was trained on; one image a lesion is used.
    held_out
        Cases that it was not trained on, for the rates of false alarms.
    foreign
        A folder of pictures that show no lesion, beside those that are drawn; taken in depth.
    exposure
        How many pictures of each kind.
    progress
        Called with the images done and all.

    Raises
    ------
    UsageError
        `foreign` holds no picture that can be read.
    MelascopeError
        Too few held-out lesions to promise a rate of false alarms.
    """
    spec, session = draft.manifest.preprocess, session_for(draft)
    pictures = list(_pictures(foreign)) if foreign else []
    photographs = list({case.vote: case for case in trained}.values())
    as_they_are = min(exposure.n_familiar, len(photographs))
    made = exposure.n_varied + exposure.n_drawn + exposure.n_spoiled
    total, done = as_they_are + made + len(pictures) + len(held_out), 0

    def embed(prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        nonlocal done
        (embedding_NE,) = session.run(normalise(np.stack(prepared), spec), ("embedding",))
        done += len(prepared)
        if progress:
            progress(done, total)
        return embedding_NE

    model = fit_by_exposure(
        [partial(_photograph, case) for case in photographs],
        embed,
        spec,
        foreign=pictures,
        **asdict(exposure),
    )
    scores: list[NDArray[np.float64]] = []
    for start in range(0, len(held_out), _BATCH):
        prepared = [to_uint8(_photograph(case), spec) for case in held_out[start : start + _BATCH]]
        scores.append(model.score(embed(prepared), np.stack([appearance(one) for one in prepared])))
    return model, fit_limits(np.concatenate(scores), [case.vote for case in held_out])


def _photograph(case: Case) -> NDArray[np.uint8]:
    return decode_image(open_case_bytes(case.path), name=case.image_id).pixels_HWC


def _pictures(folder: Path) -> Iterator[Callable[[], NDArray[np.uint8]]]:
    """Those of the folder's files that are pictures melascope reads."""
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: there is no such folder.", remedy="Name a folder of pictures that show no lesion."
        )
    n = 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        try:
            read_image(path)
        except ImageError:
            continue
        n += 1
        yield partial(_read, path)
    if not n:
        raise UsageError(
            f"{folder}: there is no picture that can be read.",
            remedy="Name a folder of pictures that show no lesion, or leave --foreign out.",
        )


def _read(path: Path) -> NDArray[np.uint8]:
    return read_image(path).pixels_HWC
