"""Image quality on real photographs: what is flagged, how limits are crossed, and the fit of the lesion's colour.

    python benchmarks/quality.py flagged FOLDER... [--sheets OUT]
    python benchmarks/quality.py degraded FOLDER... [--images 200]
    python benchmarks/quality.py fit HAM10000_FOLDER

`flagged`: share of a folder's photographs with each finding, and the spread of each measured value; with --sheets a
contact sheet a code. `degraded`: the same photographs made worse step by step (`tests/support/degraded.py`), and what
that does to the melanoma score of the default bundle. `fit`: the coefficients of `lesion_cut` from HAM10000's lesion
masks, and how well they tell a cut lesion in the half of the photographs that they were not fitted to.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression

from melascope.bundle.catalogue import load_bundle
from melascope.domain.diagnosis import Diagnosis
from melascope.imaging.decode import read_image
from melascope.imaging.preprocess import preprocess
from melascope.imaging.quality import COARSE, border_features, examine, findings, measure, reduced_copy
from melascope.runtime.session import session_for

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import degraded

Pixels = NDArray[np.uint8]

STEPS: dict[str, tuple[str, Callable[[Pixels, float], Pixels], Sequence[float]]] = {
    "blur, share of the shorter side": (
        "blurred",
        degraded.blurred,
        (0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.02, 0.04, 0.06, 0.08, 0.12),
    ),
    "the same, then noise of 3 levels, then JPEG at 60": (
        "blurred",
        lambda pixels, sigma: degraded.recompressed(degraded.noisy(degraded.blurred(pixels, sigma), 3), 60),
        (0, 0.004, 0.006, 0.008, 0.01, 0.02, 0.04, 0.06, 0.08, 0.12),
    ),
    "JPEG quality": ("blurred", degraded.recompressed, (95, 60, 30, 15, 5)),
    "shorter side, pixels": ("low-resolution", degraded.shrunk, (224, 160, 127, 96, 63, 48, 32)),
    "stops of light": ("too-dark", degraded.exposed, (0, -1, -2, -3, -4, -5, -6, -8)),
    "stops of light, upwards": ("too-bright", degraded.exposed, (0, 0.5, 1, 1.5, 2, 3, 4)),
    "contrast taken away": ("blank", degraded.flattened, (0, 0.5, 0.7, 0.8, 0.9, 0.95, 1)),
    "spots of glare": ("glare", degraded.glaring, (0, 3, 6, 10, 20, 40)),
    "hairs": ("hair", degraded.hairy, (0, 5, 10, 20, 30, 40, 60)),
    "left and top cropped away": ("lesion-cut", degraded.cropped, (0, 0.1, 0.2, 0.3, 0.4, 0.5)),
    "half diagonal left dark": ("dark-corners", degraded.vignetted, (0, 0.05, 0.1, 0.15, 0.2, 0.3)),
    "ruler, share of the shorter side": ("ruler", degraded.with_ruler, (0, 0.2, 0.4, 0.6, 0.8, 1)),
    "ink blot, share of the shorter side": ("ink", degraded.inked, (0, 0.1, 0.15, 0.2, 0.3, 0.4)),
}


def photographs(folders: Sequence[Path]) -> list[Path]:
    """Every JPEG and PNG in them but masks, in order."""
    found = sorted(
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix.lower() in {".jpg", ".jpeg", ".png"} and "segmentation" not in path.name
    )
    if not found:
        sys.exit(f"no photographs in {', '.join(map(str, folders))}")
    return found


def flagged(folder: Path, sheets: Path | None) -> None:
    """Print what share of the photographs in a folder has each finding; optionally draw contact sheets."""
    paths = photographs([folder])
    values: dict[str, list[float]] = defaultdict(list)
    by_code: dict[str, list[tuple[float, Path]]] = defaultdict(list)
    severities: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for path in paths:
        quality = measure(read_image(path).pixels_HWC)
        for name, value in asdict(quality).items():
            values[name].append(value)
        found = findings(quality)
        severities.update({finding.severity for finding in found})
        codes.update(f"{finding.code}, {finding.severity}" for finding in found)
        for finding in found:
            by_code[finding.code].append((finding.value, path))
            if finding.severity == "unusable":
                print(f"unusable: {path} ({finding.code} {finding.value:.3g})")
    print(f"\n{folder.name}: {len(paths)} photographs")
    for name, count in [*severities.most_common(), *codes.most_common()]:
        print(f"  {name:28} {100 * count / len(paths):6.2f} %")
    shares = (0, 0.001, 0.01, 0.05, 0.5, 0.95, 0.99, 0.999, 1)
    print(f"  {'quantiles':16}" + "".join(f"{share:9g}" for share in shares))
    for name, column in values.items():
        print(f"  {name:16}" + "".join(f"{value:9.3f}" for value in np.nanquantile(column, shares)))
    if sheets is not None:
        sheets.mkdir(parents=True, exist_ok=True)
        for code, of_code in by_code.items():
            contact_sheet(sorted(of_code, reverse=True)[:96]).save(sheets / f"{folder.name}-{code}.png")


def contact_sheet(of_code: Sequence[tuple[float, Path]], *, columns: int = 12) -> Image.Image:
    """Small copies, the highest value first."""
    sheet = Image.new("RGB", (columns * 160, -(-len(of_code) // columns) * 120))
    for place, (_, path) in enumerate(of_code):
        small = Image.fromarray(read_image(path).pixels_HWC).resize((158, 118))
        sheet.paste(small, (place % columns * 160, place // columns * 120))
    return sheet


def degrade(folders: Sequence[Path], images: int) -> None:
    """Print, step by step, how many photographs are flagged and how far the melanoma score moves."""
    paths = photographs(folders)
    chosen = np.random.default_rng(0).choice(len(paths), min(images, len(paths)), replace=False)
    pictures = [read_image(paths[place]).pixels_HWC for place in sorted(chosen)]
    reference = melanoma_log_odds(pictures)
    print(f"{len(pictures)} photographs; the score's spread over them is {reference.std():.2f} (log odds)")
    for name, (code, worsen, steps) in STEPS.items():
        print(
            f"\n{name}\n{'step':>8} {code + ':':>16} {'poor':>7} {'unusable':>9}   {'score moves by':>14} {'r':>6}"
        )
        for step in steps:
            worse = [worsen(pixels, step) for pixels in pictures]
            found = [finding for pixels in worse for finding in examine(pixels) if finding.code == code]
            share = {
                s: sum(f.severity == s for f in found) / len(worse) for s in ("note", "poor", "unusable")
            }
            score = melanoma_log_odds(worse)
            print(
                f"{step:8g} {len(found) / len(worse):16.1%} {share['poor']:7.1%} {share['unusable']:9.1%}   "
                f"{np.median(np.abs(score - reference)):14.2f} {np.corrcoef(score, reference)[0, 1]:6.2f}"
            )


def melanoma_log_odds(pictures: Sequence[Pixels]) -> NDArray[np.float64]:
    """Of the default bundle's network, before calibration."""
    bundle = load_bundle()
    melanoma = bundle.manifest.classes.index(Diagnosis.MEL)
    scores = []
    for first in range(0, len(pictures), 16):
        batch = preprocess(pictures[first : first + 16], bundle.manifest.preprocess)
        (logits_NC,) = session_for(bundle, threads=1).run(batch, ("logits",))
        others_NC = np.delete(logits_NC.astype(np.float64), melanoma, axis=1)
        scores.append(logits_NC[:, melanoma] - np.logaddexp.reduce(others_NC, axis=1))
    return np.concatenate(scores)


def fit(folder: Path) -> None:
    """Print the coefficients of `lesion_cut`, fitted to all masks, and what a fit to half is worth on the rest.

    Few photographs cut a dark lesion, so a random quarter of each is learnt from as well, with a tenth the weight.
    """
    masks = {path.name.split("_segmentation")[0]: path for path in folder.rglob("*_segmentation.png")}
    rng = np.random.default_rng(0)
    whole, quarter = [], []
    for path in photographs([folder]):
        pixels = read_image(path).pixels_HWC
        height, width = pixels.shape[:2]
        mask = np.asarray(Image.open(masks[path.stem]).convert("L").resize((width, height)))
        whole.append(border_of(pixels, mask))
        y, x = (rng.uniform(0, 0.5, 2) * (height, width)).astype(int)
        part = slice(y, y + height // 2), slice(x, x + width // 2)
        quarter.append(border_of(pixels[part], mask[part]))
    for name, chosen in (("all", slice(None)), ("every second", slice(None, None, 2))):
        learnt = whole[chosen] + quarter[chosen]
        weights = [1.0] * len(whole[chosen]) + [0.1] * len(quarter[chosen])
        model = LogisticRegression(C=10, max_iter=3000)
        model.fit(
            np.concatenate([features for features, _ in learnt]),
            np.concatenate([lesion for _, lesion in learnt]),
            np.repeat(weights, [len(lesion) for _, lesion in learnt]),
        )
        print(f"{name}: weights {model.coef_[0].round(1)}, offset {model.intercept_[0]:.1f}")
    for name, part in (("whole photographs", whole[1::2]), ("quarters of them", quarter[1::2])):
        measured = np.array([(model.decision_function(features) > 0).mean() for features, _ in part])
        true = np.array([lesion.mean() for _, lesion in part])
        for limit in (0.05, 0.1, 0.15, 0.2, 0.25):
            found = measured > limit
            print(
                f"{name}, limit {limit}: {found.mean():.2%} found; in {(true[found] > 0.05).mean():.0%} of these the "
                f"mask covers more than 5 % of the border, in {(true[found] > 0.15).mean():.0%} more than 15 %; "
                f"found are {found[true > 0.25].mean():.0%} of those with more than 25 %, "
                f"{found[true == 0].mean():.2%} of those with none"
            )


def border_of(pixels: Pixels, mask: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What `lesion_cut` knows of the border's pixels, and which of them the mask covers."""
    coarse = reduced_copy(pixels).reduce(COARSE)
    covered = np.asarray(Image.fromarray(mask).resize(coarse.size, Image.Resampling.BOX)) > 127
    return border_features(coarse), np.concatenate(
        [covered[0], covered[-1], covered[1:-1, 0], covered[1:-1, -1]]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("flagged", "degraded", "fit"))
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args(arguments)
    match options.what:
        case "flagged":
            for folder in options.folders:
                flagged(folder, options.sheets)
        case "degraded":
            degrade(options.folders, options.images)
        case "fit":
            fit(options.folders[0])


if __name__ == "__main__":
    main()
