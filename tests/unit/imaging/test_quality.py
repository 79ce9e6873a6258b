"""What is wrong with a photograph is found, grows with the fault, and is not found where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace

import degraded
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from melascope.imaging.quality import SENTENCES, Quality, examine, findings, measure

Pixels = np.ndarray


def dermoscopy(width_px: int = 600, height_px: int = 450, *, radius: float = 0.27, seed: int = 0) -> Pixels:
    """A lesion with dots in it, off the middle, on skin with fine texture; the radius is of the shorter side."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height_px, :width_px]
    side = min(width_px, height_px)
    far = np.hypot(x - 0.47 * width_px, y - 0.52 * height_px) / side
    lesion_HW = 0.5 - 0.5 * np.tanh((far - radius) / 0.003)  # an edge as soft as 0.3 % of the shorter side
    for dot_x, dot_y in rng.uniform(-0.7, 0.7, (40, 2)) * radius * side:
        dot = np.hypot(x - 0.47 * width_px - dot_x, y - 0.52 * height_px - dot_y)
        lesion_HW = lesion_HW + (0.25 - 0.25 * np.tanh((dot / side - 0.012) / 0.004))
    skin, lesion = np.array([215, 165, 150]), np.array([120, 75, 60])
    texture = rng.normal(0, 3, (height_px, width_px, 1))
    pixels = skin + (lesion - skin) * np.minimum(lesion_HW, 1.5)[..., None] + texture
    return np.clip(pixels, 0, 255).astype(np.uint8)


GOOD = dermoscopy()


def codes(pixels: Pixels) -> dict[str, str]:
    return {finding.code: finding.severity for finding in examine(pixels)}


def test_a_good_photograph_has_no_finding() -> None:
    assert examine(GOOD) == ()


# --- each fault: what measures it, growing steps, the step from which it must be found, and how gravely ----

Fault = tuple[str, str, Callable[[Pixels, float], Pixels], tuple[float, ...], float, str]

GROWING: list[Fault] = [
    ("blurred", "blur_px", degraded.blurred, (0, 0.003, 0.006, 0.009, 0.012), 0.012, "poor"),
    ("blurred", "coarse_blur_px", degraded.blurred, (0.01, 0.02, 0.04, 0.06, 0.08), 0.08, "unusable"),
    ("too-bright", "burnt", degraded.exposed, (0, 1, 2, 3, 5), 5, "unusable"),
    ("glare", "glare", degraded.glaring, (0, 2, 8, 20, 40), 20, "poor"),
    ("hair", "hair", degraded.hairy, (0, 5, 15, 30, 60), 30, "poor"),
    ("dark-corners", "dark_corners", degraded.vignetted, (0, 0.08, 0.15, 0.25, 0.35), 0.15, "note"),
    ("ruler", "ruler", degraded.with_ruler, (0, 0.3, 0.6, 0.8, 1.0), 0.6, "note"),
    ("ink", "ink", degraded.inked, (0, 0.1, 0.2, 0.3, 0.4), 0.2, "note"),
]
SHRINKING: list[Fault] = [
    (
        "too-dark",
        "skin_luma",
        lambda p, stops: degraded.exposed(p, -stops),
        (0, 1, 2, 4, 6.5),
        6.5,
        "unusable",
    ),
    ("too-dark", "skin_luma", lambda p, stops: degraded.exposed(p, -stops), (0, 1, 2, 3.5), 3.5, "poor"),
    ("blank", "contrast", degraded.flattened, (0, 0.5, 0.8, 0.95, 1), 0.95, "unusable"),
    ("blank", "contrast", degraded.flattened, (0, 0.5, 0.8), 0.8, "poor"),
    (
        "low-resolution",
        "short_side_px",
        lambda p, n: degraded.shrunk(p, 450 - n),
        (0, 100, 250, 360),
        360,
        "poor",
    ),
    (
        "low-resolution",
        "short_side_px",
        lambda p, n: degraded.shrunk(p, 450 - n),
        (0, 250, 410),
        410,
        "unusable",
    ),
]


@pytest.mark.parametrize(("sign", "fault"), [*((1, f) for f in GROWING), *((-1, f) for f in SHRINKING)])
def test_a_fault_is_measured_in_order_and_found_when_strong(sign: int, fault: Fault) -> None:
    code, name, worsen, steps, found_from, severity = fault
    pictures = {step: worsen(GOOD, step) for step in steps}
    values = [sign * getattr(measure(pixels), name) for pixels in pictures.values()]
    assert all(np.diff(values) >= 0), values
    assert values[-1] > values[0]
    for step, pixels in pictures.items():
        if step >= found_from:
            assert codes(pixels)[code] == severity
    assert code not in codes(GOOD)


@pytest.mark.parametrize(
    "fault", [fault for fault in [*GROWING, *SHRINKING] if fault[0] not in {"blank", "too-dark"}]
)
def test_a_fault_is_not_taken_for_another(fault: Fault) -> None:
    code, _, worsen, _, found_from, _ = fault
    related = {"too-bright": {"no-colour"}}
    assert set(codes(worsen(GOOD, found_from))) <= {code} | related.get(code, set())  # white has no colour


@pytest.mark.parametrize("sigma_px", [1.0, 1.5, 2.0, 3.0])
def test_blur_is_measured_in_pixels(sigma_px: float) -> None:
    # A step, blurred by a known amount: the oracle. The picture has the size of the reduced copy.
    step = np.full((225, 300, 3), 60, np.uint8)
    step[:, 140:] = 200
    assert measure(degraded.blurred(step, sigma_px / 225)).blur_px == pytest.approx(sigma_px, rel=0.15)


def test_strong_blur_is_found_under_noise_and_compression() -> None:
    blurred = degraded.blurred(GOOD, 0.06)
    assert "blurred" in codes(degraded.recompressed(degraded.noisy(blurred, 4), 50))


def test_compression_and_noise_are_no_blur() -> None:
    assert "blurred" not in codes(degraded.recompressed(degraded.noisy(GOOD, 4), 30))


# --- a cut lesion ------------------------------------------------------------------------------------------


def test_a_lesion_is_cut_the_more_the_larger_it_is() -> None:
    sizes = [dermoscopy(radius=radius) for radius in (0.2, 0.4, 0.5, 0.55, 0.6)]
    values = [measure(pixels).lesion_cut for pixels in sizes]
    assert values[:2] == [0, 0]
    assert values == sorted(values)
    assert "lesion-cut" not in codes(sizes[1])
    assert codes(sizes[4])["lesion-cut"] == "poor"


def test_the_share_of_the_border_is_that_of_the_lesion() -> None:
    pixels = np.empty((225, 300, 3), np.uint8)
    pixels[:] = (215, 165, 150)
    pixels[:, :160] = (120, 75, 60)  # 545 of the 1050 pixels of the border, and more than half of the picture
    assert measure(pixels).lesion_cut == pytest.approx(545 / 1050, abs=0.02)


def test_shade_and_dark_corners_are_no_lesion() -> None:
    y, x = np.mgrid[-1:1:450j, -1:1:600j]
    shade = (1 - 0.35 * (x**2 + y**2) / 2)[..., None]
    shaded = np.rint(GOOD * shade).astype(np.uint8)
    assert "lesion-cut" not in codes(shaded)
    assert "lesion-cut" not in codes(degraded.vignetted(GOOD, 0.25))


# --- any picture --------------------------------------------------------------------------------------------


def same(one: Quality, other: Quality) -> None:
    """Equal but for where tiles, cells and sampled points happen to fall."""
    for name, value in asdict(one).items():
        tolerance = {"coarse_blur_px": 0.5, "ruler": 0.08, "contrast": 3, "skin_luma": 3}.get(name, 0.02)
        assert asdict(other)[name] == pytest.approx(value, rel=0.2, abs=tolerance, nan_ok=True), name


@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, np.rot90, lambda pixels: pixels.transpose(1, 0, 2)])
@pytest.mark.parametrize(
    "pixels", [GOOD, degraded.hairy(GOOD, 30), degraded.blurred(GOOD, 0.01)], ids=["good", "hairy", "blurred"]
)
def test_a_photograph_may_lie_in_any_way(turn: Callable[[Pixels], Pixels], pixels: Pixels) -> None:
    same(measure(pixels), measure(np.ascontiguousarray(turn(pixels))))


@pytest.mark.parametrize("size", [(300, 225), (450, 338), (1024, 768), (2000, 1500), (4032, 3024)])
def test_the_camera_does_not_matter(size: tuple[int, int]) -> None:
    # The same scene from cameras of other resolutions, with its finest texture beyond all of them.
    scene = degraded.hairy(degraded.blurred(dermoscopy(1200, 900), 0.005), 20)
    expected = measure(np.asarray(Image.fromarray(scene).resize((600, 450), Image.Resampling.BOX)))
    found = measure(np.asarray(Image.fromarray(scene).resize(size, Image.Resampling.BICUBIC)))
    same(replace(expected, short_side_px=float(size[1])), found)


@given(
    st.integers(28, 400),
    st.integers(28, 400),
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
)
def test_any_picture_has_measures_in_their_ranges(
    width_px: int, height_px: int, seed: int, grain: int, channels: int
) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (-(-height_px // grain), -(-width_px // grain), channels), dtype=np.uint8)
    pixels = np.broadcast_to(
        cells.repeat(grain, axis=0).repeat(grain, axis=1)[:height_px, :width_px], (height_px, width_px, 3)
    )
    quality = measure(np.ascontiguousarray(pixels))
    for name in ("burnt", "glare", "hair", "lesion_cut", "dark_corners", "ruler", "ink"):
        assert 0 <= getattr(quality, name) <= 1
    for name in ("contrast", "skin_luma"):
        assert 0 <= getattr(quality, name) <= 255
    for name in ("blur_px", "coarse_blur_px"):
        assert math.isnan(getattr(quality, name)) or getattr(quality, name) > 0
    for finding in findings(quality):
        assert finding.text == SENTENCES[finding.code].format(value=finding.value)


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("size", [(28, 28), (28, 280), (600, 450), (4000, 3000)])
def test_a_blank_picture_is_unusable_and_has_no_blur(level: int, size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), level, np.uint8)
    assert codes(pixels)["blank"] == "unusable"
    assert math.isnan(measure(pixels).blur_px)
    assert ("too-dark" in codes(pixels)) == (level == 0)
    assert ("too-bright" in codes(pixels)) == (level == 255)


def test_a_grayscale_photograph_lacks_colour_alone() -> None:
    gray = np.repeat(GOOD.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    assert codes(gray) == {"no-colour": "poor"}


# --- findings -------------------------------------------------------------------------------------------------


def test_only_the_gravest_finding_of_a_code_is_told_with_the_limit_it_crossed() -> None:
    quality = measure(GOOD)
    (poor,) = findings(replace(quality, skin_luma=60.0))
    (unusable,) = findings(replace(quality, skin_luma=10.0))
    assert (poor.code, poor.severity, poor.value, poor.limit) == ("too-dark", "poor", 60, 80)
    assert (unusable.severity, unusable.value, unusable.limit) == ("unusable", 10, 30)


def test_a_value_on_its_limit_is_not_found() -> None:
    quality = measure(GOOD)
    assert findings(replace(quality, skin_luma=80.0, hair=0.12)) == ()


def test_a_sentence_tells_the_value() -> None:
    (finding,) = findings(replace(measure(GOOD), short_side_px=90.0))
    assert "90 pixels" in finding.text


def test_undefined_blur_is_no_finding() -> None:
    assert findings(replace(measure(GOOD), blur_px=math.nan, coarse_blur_px=math.nan)) == ()


def test_every_sentence_can_be_reached() -> None:
    awful = Quality(
        short_side_px=1.0, contrast=0.0, skin_luma=0.0, burnt=1.0, blur_px=9.0, coarse_blur_px=40.0, glare=1.0,
        hair=1.0, lesion_cut=1.0, dark_corners=1.0, ruler=1.0, ink=1.0, stretch=9.0, colour=0.0,
        blue_cast=9.0,
    )  # fmt: skip
    assert {finding.code for finding in findings(awful)} == set(SENTENCES)


@pytest.mark.parametrize(
    ("code", "spoilt"),
    [
        ("odd-shape", lambda pixels: pixels[: pixels.shape[1] // 3]),
        (
            "no-colour",
            lambda pixels: np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8),
        ),
        ("colour-cast", lambda pixels: (pixels * [0.5, 0.8, 1.0]).astype(np.uint8)),
    ],
)
def test_a_picture_that_the_network_has_not_learnt_from_is_poor(code, spoilt):
    assert code not in {finding.code for finding in examine(GOOD)}
    assert code in {finding.code for finding in examine(spoilt(GOOD)) if finding.severity == "poor"}
