"""How a bundle's answer holds when the dermatoscope frames the lesion otherwise.

    python benchmarks/framing.py TABLE.csv [BUNDLE ...] [--framings 0.5,0.7,1,1.3,1.6]

How much of the picture a lesion fills differs from hospital to hospital. Each image of the table that training has not
seen is shown as it is (1), as its middle part (below 1), and continued by its mirror image (above 1). Prints, for each
dataset and framing, the melanoma AUROC, and sensitivity and specificity at the bundle's default operating point, by
image. Images of which the table does not say whether they show a melanoma are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from melascope.bundle.catalogue import load_bundle
from melascope.bundle.store import Bundle
from melascope.datasets.files import open_case_bytes
from melascope.datasets.table import read_cases
from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.domain.image import RgbImage
from melascope.imaging.decode import decode_image
from melascope.runtime.assessor import Assessor

BATCH = 64


def framed(pixels_HWC: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """The middle `share` of each side; above 1 the picture is continued by its mirror image."""
    height, width = pixels_HWC.shape[:2]
    if share <= 1:
        y, x = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
        return pixels_HWC[y : height - y, x : width - x]
    y, x = round(height * (share - 1) / 2), round(width * (share - 1) / 2)
    return np.pad(pixels_HWC, ((y, y), (x, x), (0, 0)), mode="symmetric")


def batches(cases: list[Case]) -> Iterator[list[RgbImage]]:
    """The cases' images."""
    for first in range(0, len(cases), BATCH):
        yield [
            decode_image(open_case_bytes(case.path), name=case.image_id)
            for case in cases[first : first + BATCH]
        ]


def melanoma_probability(bundle: Bundle, cases: list[Case], shares: list[float]) -> NDArray[np.float64]:
    """Calibrated, shape (framings, cases)."""
    assessor, manifest = Assessor(bundle), bundle.manifest
    column = manifest.classes.index(Diagnosis.MEL)
    parts = [
        [
            manifest.calibration.probabilities(
                assessor.logits(
                    [
                        RgbImage(
                            pixels_HWC=framed(image.pixels_HWC, share),
                            name=image.name,
                            format=image.format,
                            sha256=image.sha256,
                        )
                        for image in images
                    ]
                )
            )[:, column]
            for share in shares
        ]
        for images in batches(cases)
    ]
    return np.concatenate([np.stack(part) for part in parts], axis=1)


def main() -> None:
    """Read the arguments, print one table a bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, help="case table with splits")
    parser.add_argument("bundle", nargs="*", default=["default"])
    parser.add_argument("--framings", default="0.5,0.7,1,1.3,1.6")
    options = parser.parse_args()
    shares = [float(share) for share in options.framings.split(",")]
    cases = [
        case for case in read_cases(options.table) if case.split != "train" and case.melanoma is not None
    ]
    groups = {
        f"{source} {split}": [i for i, c in enumerate(cases) if (c.source, c.split) == (source, split)]
        for source, split in sorted({(case.source, case.split) for case in cases}, key=str)
    }
    truth = np.array([bool(case.melanoma) for case in cases])
    for name in options.bundle:
        bundle = load_bundle(name)
        points = {point.name: point for point in bundle.manifest.operating_points}
        point = points[bundle.manifest.default_operating_point]
        scores = melanoma_probability(bundle, cases, shares)
        print(f"\n{bundle.id}, {point.name}: AUROC / sensitivity / specificity")
        print(f"{'':24}" + "".join(f"{share:>22g}" for share in shares))
        for group, rows in groups.items():
            if len(set(truth[rows])) < 2:
                continue
            cells = []
            for score in scores[:, rows]:
                referred, is_melanoma = point.refers(score), truth[rows]
                cells.append(
                    f"{roc_auc_score(is_melanoma, score):.3f} / {referred[is_melanoma].mean():.1%}"
                    f" / {(~referred)[~is_melanoma].mean():.1%}"
                )
            print(f"{group:24}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
