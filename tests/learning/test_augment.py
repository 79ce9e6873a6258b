import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from melascope.imaging.preprocess import PreprocessSpec
from melascope.imaging.preprocess import normalise as normalise_numpy
from melascope.learning.augment import augment, mix, normalise
from melascope.learning.recipe import AugmentPart

STILL = AugmentPart(
    rotate=False, zoom=(1.0, 1.0), stretch=1.0, shift=0.0, brightness=0.0, contrast=0.0, saturation=0.0,
    hue_degrees=0.0, gamma=1.0, illumination=0.0, blur=0.0, noise=0.0, vignette=0.0, occlude=0.0, hair=0.0,
)  # fmt: skip


def pixels(n: int = 2, side: int = 32, channels: int = 3) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (n, side, side, channels), dtype=np.uint8))


def test_with_everything_off_a_square_image_is_itself() -> None:
    image = pixels()
    view = augment(image, torch.ones(2), STILL, size_px=32)
    torch.testing.assert_close(view, image.permute(0, 3, 1, 2) / 255.0, atol=1e-5, rtol=0)


def test_with_everything_off_a_wide_image_shows_its_centred_square() -> None:
    wide = torch.zeros(
        1, 64, 64, 3, dtype=torch.uint8
    )  # 2:1, squashed to a square: its centre is the middle half
    wide[:, :, 16:48] = 255
    view = augment(wide, torch.tensor([2.0]), STILL, size_px=32)
    assert view.min() > 0.99


def test_a_rotated_circle_stays_a_circle_whatever_the_aspect() -> None:
    """A circle drawn at 3:2 and squashed: a rotation that forgot the aspect would make an ellipse of it."""
    y, x = np.mgrid[:90, :90]
    circle = (np.hypot((x - 44.5) * 1.5, y - 44.5) < 30).astype(np.uint8) * 255
    image = torch.from_numpy(circle)[None, :, :, None].expand(8, -1, -1, 3).contiguous()
    views = augment(image, torch.full((8,), 1.5), STILL.model_copy(update={"rotate": True}), size_px=90)
    inside = torch.from_numpy(np.hypot(x - 44.5, y - 44.5))
    assert views[:, 0][:, inside < 28].min() > 0.95
    assert views[:, 0][:, (inside > 32) & (inside < 44)].max() < 0.05  # farther out the border is mirrored


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    channels=st.sampled_from([1, 3]),
    size=st.sampled_from([28, 33]),
    aspect=st.floats(0.3, 3.0),
)
def test_views_have_their_shape_and_stay_within_black_and_white(
    seed: int, channels: int, size: int, aspect: float
) -> None:
    torch.manual_seed(seed)
    view = augment(pixels(3, 32, channels), torch.full((3,), aspect), AugmentPart(vignette=1.0), size_px=size)
    assert view.shape == (3, channels, size, size)
    assert torch.isfinite(view).all()
    assert view.min() >= 0
    assert view.max() <= 1


def test_the_same_seed_draws_the_same_view() -> None:
    views = []
    for _ in range(2):
        torch.manual_seed(11)
        views.append(augment(pixels(), torch.ones(2), AugmentPart(), size_px=28))
    torch.testing.assert_close(views[0], views[1], rtol=0, atol=0)


def test_hue_turns_about_the_gray_axis() -> None:
    gray = torch.full((4, 8, 8, 3), 128, dtype=torch.uint8)
    part = STILL.model_copy(update={"hue_degrees": 90.0, "saturation": 0.9})
    view = augment(gray, torch.ones(4), part, size_px=8)
    torch.testing.assert_close(view, torch.full_like(view, 128 / 255), atol=1e-4, rtol=0)


def test_normalise_equals_that_of_the_server() -> None:
    image = pixels(2, 28)
    spec = PreprocessSpec(size_px=28)
    here = normalise(image.permute(0, 3, 1, 2).float() / 255.0, spec.mean, spec.std)
    np.testing.assert_allclose(here.numpy(), normalise_numpy(image.numpy(), spec), atol=1e-6)


@pytest.mark.parametrize(
    "part", [AugmentPart(mixup_alpha=1.0), AugmentPart(cutmix_alpha=1.0)], ids=["mixup", "cutmix"]
)
def test_mixing_shares_pixels_as_it_shares_labels(part: AugmentPart) -> None:
    torch.manual_seed(5)
    flat = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 20, 20)  # image i is i everywhere
    mixed, partner_N, share_N = mix(flat, part)
    expected = share_N * torch.arange(6.0) + (1 - share_N) * partner_N
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), expected)
    assert math.isclose(float(share_N.min()), float(share_N.max()))


def test_without_mixing_all_stays() -> None:
    image = torch.rand(3, 3, 8, 8)
    mixed, partner_N, share_N = mix(image, AugmentPart())
    assert mixed is image
    assert partner_N.tolist() == [0, 1, 2]
    assert share_N.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("channels", [1, 3])
def test_hairs_darken_some_of_the_skin_in_any_colour_mode(channels: int) -> None:
    torch.manual_seed(0)
    skin = torch.full((8, 64, 64, channels), 200, dtype=torch.uint8)
    view = augment(skin, torch.ones(8), STILL.model_copy(update={"hair": 1.0}), size_px=64)
    assert view.shape == (8, channels, 64, 64)
    dark = (view < 0.6).float().mean(dim=(1, 2, 3))
    assert ((dark > 0.005) & (dark < 0.6)).all()
    assert view.max() <= 200 / 255 + 1e-5
