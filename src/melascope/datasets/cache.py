"""Decoded pixels as one memory-mapped array, so that an epoch is not bound by JPEG decoding.

A cache is keyed by content: the preprocessing and the sha256 of every image in it. It is written under a lock and
moved into place when it is whole, so an interruption leaves nothing that could be mistaken for a cache, and
processes that want the same one build it once and share its pages.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from melascope.datasets.files import open_case_bytes
from melascope.domain.case import Case
from melascope.errors import DatasetError, ImageError
from melascope.imaging.decode import decode_image
from melascope.imaging.preprocess import PreprocessSpec, to_uint8

_FORMAT_VERSION = 1

Progress = Callable[[int, int], None]  #: called with (images done, images in all)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PixelCache:
    """Preprocessed pixels of many images; rows are found by the image's sha256."""

    spec: PreprocessSpec
    pixels_NHWC: NDArray[np.uint8]  #: memory-mapped, shape (n, size_px, size_px, channels)
    aspect_N: NDArray[np.float32]  #: width / height of each image before preprocessing
    row_of: dict[str, int]  #: sha256 -> row

    def rows(self, cases: Sequence[Case]) -> NDArray[np.int64]:
        """The row of each case."""
        return np.array([self.row_of[case.sha256 or ""] for case in cases], dtype=np.int64)


def open_cache(
    cases: Sequence[Case],
    spec: PreprocessSpec,
    folder: Path,
    *,
    threads: int = 2,
    progress: Progress | None = None,
) -> PixelCache:
    """The cache of these images under this preprocessing; built first where it is not there yet.

    Parameters
    ----------
    cases
        Each with its sha256 (as `data import` writes it); their order does not matter.
    folder
        Where caches are kept. May be shared by processes of one machine.

    Raises
    ------
    DatasetError
        A case without sha256, a file whose content is no longer that sha256, or one that cannot be decoded; all
        such files are named, up to ten.
    """
    missing = [case.image_id for case in cases if not case.sha256]
    if missing:
        raise DatasetError(
            f"{len(missing)} cases have no sha256, among them {missing[0]!r}.",
            remedy="Make the case table with `melascope data import`, which computes it.",
        )
    by_sha = {case.sha256 or "": case for case in cases}
    digests = sorted(by_sha)
    identity = json.dumps([_FORMAT_VERSION, asdict(spec), digests], sort_keys=True)
    key = hashlib.sha256(identity.encode()).hexdigest()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    pixels_path, aspect_path = folder / f"{key}.pixels.npy", folder / f"{key}.aspect.npy"
    with _locked(folder / f"{key}.lock"):
        if not pixels_path.exists():
            _build([by_sha[digest] for digest in digests], spec, pixels_path, aspect_path, threads, progress)
    return PixelCache(
        spec=spec,
        pixels_NHWC=np.load(pixels_path, mmap_mode="r"),
        aspect_N=np.load(aspect_path),
        row_of={digest: row for row, digest in enumerate(digests)},
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock that the system itself releases when its process ends, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(
    cases: Sequence[Case],
    spec: PreprocessSpec,
    pixels_path: Path,
    aspect_path: Path,
    threads: int,
    progress: Progress | None,
) -> None:
    partial = pixels_path.with_suffix(".partial")
    shape = (len(cases), spec.size_px, spec.size_px, spec.channels)
    pixels_NHWC = open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    aspect_N = np.empty(len(cases), dtype=np.float32)
    faults: list[str] = []

    def fill(row: int) -> None:
        case = cases[row]
        try:
            data = open_case_bytes(case.path)
            if hashlib.sha256(data).hexdigest() != case.sha256:
                faults.append(f"{case.path}: its content is not the one that the case table recorded.")
                return
            image = decode_image(data, name=case.path)
        except (ImageError, DatasetError) as error:
            faults.append(error.message)
            return
        pixels_NHWC[row] = to_uint8(image.pixels_HWC, spec)
        aspect_N[row] = image.width_px / image.height_px

    with ThreadPoolExecutor(threads) as pool:
        for done, _ in enumerate(pool.map(fill, range(len(cases))), start=1):
            if progress:
                progress(done, len(cases))
    if faults:
        partial.unlink()
        raise DatasetError(
            f"{len(faults)} of {len(cases)} images cannot be cached: " + " ".join(sorted(faults)[:10]),
            remedy="Mend or remove these files, then import the dataset again.",
        )
    pixels_NHWC.flush()
    np.save(aspect_path, aspect_N)
    os.replace(partial, pixels_path)
