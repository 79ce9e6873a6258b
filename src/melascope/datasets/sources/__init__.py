"""Every dataset that is read in its published layout: `read_source(name, folder)`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from melascope.datasets.files import sha256_of
from melascope.datasets.sources import (
    ham10000,
    isic2020,
    isic2024,
    isic_archive,
    isic_challenges,
    medmnist,
    own_data,
)
from melascope.datasets.sources.layout import Source
from melascope.domain.case import Case
from melascope.errors import DatasetError, TableError, UsageError

_LOG = logging.getLogger(__name__)

#: name -> dataset.
SOURCES: dict[str, Source] = {
    source.name: source
    for module in (ham10000, isic_challenges, isic2020, isic2024, isic_archive, medmnist, own_data)
    for source in module.SOURCES
}


def are_public(names: Iterable[str]) -> bool:
    """Whether all are published datasets, whose limits are known, and none is somebody's own."""
    return all(name in SOURCES and SOURCES[name].licence != "yours" for name in names)


def source_named(name: str) -> Source:
    """The dataset of that name.

    Raises
    ------
    UsageError
        There is none.
    """
    if name not in SOURCES:
        raise UsageError(f"There is no source {name!r}.", remedy=f"Known are {', '.join(SOURCES)}.")
    return SOURCES[name]


def read_source(name: str, root: Path, *, allow_missing: bool = False) -> list[Case]:
    """The cases of a dataset, each with its image's absolute path and SHA-256.

    Parameters
    ----------
    name
        A key of `SOURCES`.
    root
        The folder (or file) in the layout that the source describes.
    allow_missing
        Leave out, with a logged warning, labelled images that are not on disk.

    Raises
    ------
    UsageError
        There is no such source.
    DatasetError
        The folder is not in the published layout, or images are missing.
    TableError
        A label file has a missing column or a value outside its domain.
    """
    return finish_cases(source_named(name).read(root.resolve()), root=root, allow_missing=allow_missing)


def finish_cases(read: Iterable[Case], *, root: Path, allow_missing: bool) -> list[Case]:
    """Settle missing images (an empty path), refuse repeated ids, add each file's SHA-256."""
    cases = list(read)
    seen: set[str] = set()
    for case in cases:
        if case.image_id in seen:
            raise TableError(
                f"{root}: {case.image_id!r} is labelled more than once.", remedy="Keep one row an image."
            )
        seen.add(case.image_id)
    missing = [case.image_id for case in cases if not case.path]
    if missing:
        few = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        finding = f"{root}: {len(missing)} of {len(cases)} labelled images are absent ({few})"
        if not allow_missing or len(missing) == len(cases):
            raise DatasetError(
                f"{finding}.", remedy="Complete the download, or leave them out with --allow-missing."
            )
        _LOG.warning("%s; they are left out.", finding)
    found = [case for case in cases if case.path]
    digests = sha256_of([case.path for case in found])
    return [replace(case, sha256=digest) for case, digest in zip(found, digests, strict=True)]
