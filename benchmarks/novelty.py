"""What a bundle refuses: pictures that show no lesion, skin without one, and lesions that it should not refuse.

    python benchmarks/novelty.py BUNDLE --foreign FOLDER [--cases TABLE.csv] [--masks FOLDER]

FOLDER holds pictures that show no lesion, in one folder a kind. The table's images are lesions that training has not
seen; those of its split `train` are left out. With masks (HAM10000_segmentations_lesion_tschandl: `<image_id>*.png`,
white where the lesion is) the skin beside each lesion is cut out as well and mirrored to fill a picture.

Prints, for each group, the shares of images that are unlike what the model has learnt from (`unusual`), of those beyond
the outer limit (`foreign`), of those that get no answer, for this or for another reason (`cannot assess`), and of those
that are told to show no sign of melanoma (`no sign`).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_cdt

from melascope.bundle.catalogue import load_bundle
from melascope.datasets.table import read_cases
from melascope.domain.assessment import Assessment, Decision
from melascope.domain.case import Case
from melascope.domain.image import RgbImage
from melascope.errors import ImageError
from melascope.imaging.decode import read_image
from melascope.runtime.assessor import Assessor

FORMATS = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
DARK = 60  # of 255: hair, ink or the tube, not skin
MARGIN_PX = 6  # of the mask: the lesion's rim
MIN_SKIN_PX = 70  # side of a piece of skin

Grouped = Iterator[tuple[list[str], RgbImage]]


def foreign(folder: Path) -> Grouped:
    """Pictures of the folder, each in the group of its kind."""
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in FORMATS):
        try:
            image = read_image(path)
        except ImageError as fault:
            print(f"left out: {path.name}: {fault.message}")
            continue
        yield ["foreign, all", f"foreign, {path.relative_to(folder).parts[0]}"], image


def lesions(cases: list[Case]) -> Grouped:
    """The cases' images, each in the groups of its source and split, and of its diagnosis."""
    for case in cases:
        outcome = {None: "unknown", True: "yes", False: "no"}[case.melanoma]
        groups = [f"{case.source} {case.split}", f"diagnosis {case.diagnosis}", f"melanoma {outcome}"]
        yield ["lesions, all", *(f"lesions, {group}" for group in groups)], read_image(Path(case.path))


def plain_skin(cases: list[Case], masks: Path) -> Grouped:
    """The largest square of skin beside each lesion that has a mask, mirrored to fill a picture."""
    for case in cases:
        mask_path = next(iter(sorted(masks.glob(f"{case.image_id}*.png"))), None)
        if mask_path is None:
            continue
        image = read_image(Path(case.path))
        lesion = Image.open(mask_path).convert("L").resize((image.width_px, image.height_px))
        margin_px = MARGIN_PX * image.width_px // 200
        near_HW = distance_transform_cdt(np.asarray(lesion) < 128, metric="chessboard") <= margin_px
        skin_HW = ~near_HW & (image.pixels_HWC.min(axis=-1) > DARK)
        room_HW = distance_transform_cdt(np.pad(skin_HW, 1), metric="chessboard")[1:-1, 1:-1]
        y, x = np.unravel_index(room_HW.argmax(), room_HW.shape)
        reach = int(room_HW[y, x]) - 1
        if 2 * reach + 1 < MIN_SKIN_PX:
            continue
        skin = image.pixels_HWC[y - reach : y + reach + 1, x - reach : x + reach + 1]
        missing = (image.height_px - len(skin), image.width_px - len(skin))
        pixels = np.pad(skin, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
        yield (
            ["plain skin"],
            RgbImage(pixels_HWC=pixels, name=case.image_id, format="PNG", sha256=image.sha256),
        )


def told(assessment: Assessment) -> list[bool]:
    """One answer a column."""
    novelty = assessment.images[0].novelty
    if novelty is None:
        raise SystemExit(f"{assessment.bundle_id} holds no novelty model.")
    return [
        novelty.familiarity != "familiar",
        novelty.familiarity == "foreign",
        assessment.decision is Decision.CANNOT_ASSESS,
        assessment.decision is Decision.NO_SIGN,
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", help="a name, id or path; left out: the active one")
    parser.add_argument(
        "--foreign", type=Path, help="folder of pictures that show no lesion, one folder a kind"
    )
    parser.add_argument("--cases", type=Path, help="case table of lesions")
    parser.add_argument("--masks", type=Path, help="folder of the lesions' masks")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    assessor = Assessor(load_bundle(options.bundle), threads=options.threads)
    cases = [case for case in read_cases(options.cases) if case.split != "train"] if options.cases else []
    parts = [lesions(cases)]
    if options.foreign:
        parts.append(foreign(options.foreign))
    if options.masks:
        parts.append(plain_skin(cases, options.masks))
    found: defaultdict[str, list[list[bool]]] = defaultdict(list)
    for part in parts:
        for groups, image in part:
            answer = told(assessor.assess([image])[0])
            for group in groups:
                found[group].append(answer)
    print(f"{assessor.bundle.id}: {assessor.manifest.novelty}")
    print(f"{'':42}{'images':>8}{'unusual':>9}{'foreign':>9}{'cannot assess':>15}{'no sign':>9}")
    for group, answers in sorted(found.items()):
        unusual, beyond, refused, reassured = np.mean(answers, axis=0)
        print(f"{group:42}{len(answers):8}{unusual:9.1%}{beyond:9.1%}{refused:15.1%}{reassured:9.1%}")


if __name__ == "__main__":
    main()
