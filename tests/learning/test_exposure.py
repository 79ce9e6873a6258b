import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.metrics import roc_auc_score

from melascope.errors import MelascopeError
from melascope.imaging.appearance import appearance
from melascope.imaging.preprocess import PreprocessSpec, to_uint8
from melascope.learning.exposure import fit_by_exposure, spoiled_picture, varied_picture
from melascope.learning.foreign import KINDS, SIDE_PX, draw, drawn_picture

SPEC = PreprocessSpec(size_px=56)


def lesion(seed, size=(120, 90)):
    """A brown blot on skin."""
    random = np.random.default_rng(seed)
    skin = tuple(random.integers([200, 150, 130], [240, 190, 170]).tolist())
    image = Image.new("RGB", size, skin)
    x, y, r = *random.normal([60, 45], 5), random.uniform(12, 30)
    ImageDraw.Draw(image).ellipse([x - r, y - r, x + r, y + r], fill=tuple(int(v * 0.5) for v in skin))
    return np.clip(np.asarray(image) + random.normal(0, 4, (size[1], size[0], 3)), 0, 255).astype(np.uint8)


def embed(pictures):
    """A network of sorts: the mean colours of a few regions."""
    return np.stack([picture.reshape(4, 14, 4, 14, 3).mean(axis=(1, 3)).ravel() for picture in pictures])


@pytest.mark.parametrize("kind", list(KINDS), ids=lambda kind: kind.__name__)
def test_every_kind_draws_different_pictures_and_the_same_ones_again(kind):
    pictures = [draw(kind, np.random.default_rng(seed)) for seed in (0, 1, 2, 3)]
    assert {(picture.shape, picture.dtype) for picture in pictures} == {
        ((SIDE_PX, SIDE_PX, 3), np.dtype(np.uint8))
    }
    assert len({picture.tobytes() for picture in pictures}) == 4
    np.testing.assert_array_equal(draw(kind, np.random.default_rng(0)), pictures[0])


@pytest.mark.parametrize("change", [spoiled_picture, varied_picture])
def test_photographs_are_changed_the_same_way_for_the_same_seed(change):
    photograph = lesion(0)
    for seed in range(12):
        changed = change(photograph, seed)
        assert changed.shape == (SIDE_PX, SIDE_PX, 3)
        assert changed.dtype == np.uint8
        np.testing.assert_array_equal(changed, change(photograph, seed))


def test_a_spoiled_photograph_of_skin_holds_no_lesion():
    """Half of them are even skin: hardly darker anywhere than the skin of the photograph is."""
    photograph = lesion(1)
    skin = photograph[:10].mean(axis=(0, 1))
    even = [np.abs(spoiled_picture(photograph, seed) - skin).max() < 40 for seed in range(60)]
    assert 20 <= sum(even) <= 40


def test_a_dark_border_is_not_taken_for_skin():
    photograph = np.zeros((90, 120, 3), dtype=np.uint8)
    photograph[30:60, 45:75] = (230, 180, 160)
    for seed in range(30):
        assert spoiled_picture(photograph, seed).std() > 5


def test_what_is_fitted_on_drawn_pictures_refuses_others_and_knows_lesions():
    model = fit_by_exposure(
        [lambda n=n: lesion(n) for n in range(60)],
        embed,
        SPEC,
        foreign=[lambda: np.full((64, 64, 3), 255, dtype=np.uint8)] * 3,
        n_familiar=60,
        n_varied=30,
        n_drawn=60,
        n_spoiled=20,
    )
    familiar = [to_uint8(lesion(1000 + n), SPEC) for n in range(30)]
    foreign = [to_uint8(drawn_picture(10**6 + n), SPEC) for n in range(30)]
    score_N = model.score(embed(familiar + foreign), np.stack([appearance(p) for p in familiar + foreign]))
    assert roc_auc_score(np.repeat([0, 1], 30), score_N) > 0.95


def test_without_photographs_there_is_no_model():
    with pytest.raises(MelascopeError, match="no photograph"):
        fit_by_exposure([], embed, SPEC)
