"""One image, one call: `melascope.assess`."""

from __future__ import annotations

import os
from pathlib import Path

from melascope.bundle.catalogue import load_bundle
from melascope.bundle.store import Bundle
from melascope.domain.assessment import Assessment
from melascope.imaging.decode import read_image
from melascope.runtime.assessor import Assessor


def assess(
    path: str | os.PathLike[str],
    *,
    bundle: Bundle | str | os.PathLike[str] | None = None,
    operating_point: str | None = None,
    melanoma_prevalence: float | None = None,
    heatmap: bool = False,
) -> Assessment:
    """Assess one image file. For many images make one `Assessor`.

    Parameters
    ----------
    path
        Of the image.
    bundle
        What answers: a bundle, or a name, id or path of one; None: the active one.
    operating_point, melanoma_prevalence, heatmap
        See `Assessor.assess`.

    Raises
    ------
    ImageError
        The image cannot be read or assessed.
    BundleError
        There is no such bundle, or it does not verify.
    UsageError
        An operating point that the bundle lacks, a prevalence outside its range.
    """
    loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    answers = Assessor(loaded).assess(
        [read_image(Path(path))],
        operating_point=operating_point,
        melanoma_prevalence=melanoma_prevalence,
        heatmap=heatmap,
    )
    return answers[0]
