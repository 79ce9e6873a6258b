"""From whatever pixels a file holds to sRGB: depth, palette, colour profile, transparency.

- *Depth*: 16 bits (and 12) are scaled to 8. 32-bit integers and floats have no agreed range and are refused.
- *Colour*: an embedded ICC profile is converted to sRGB with perceptual intent. A profile that is broken or
  made for another kind of pixels is ignored, as viewers do; pixels without a profile are sRGB.
- *Transparency* becomes black: transparent means "no picture here", and black is what surrounds a
  dermoscope's field of view, what `preprocess` pads with, and neutral to colour constancy. A wholly
  transparent image is refused.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import TiffImageFile

from melascope.errors import UnsupportedImageError
from melascope.imaging.headers import SAVE_AS

_GRAY_MODES = {"1", "L", "LA", "La"}
_COLOUR_MODES = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK"}
_ICC_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}


def to_srgb(image: Image.Image) -> Image.Image:
    """What is seen, as an image of mode RGB in sRGB.

    Raises
    ------
    UnsupportedImageError
        Pixels of a kind with no agreed meaning, or wholly transparent.
    """
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16"):
        image = _scale_to_8_bits(image)
    if image.mode not in _GRAY_MODES | _COLOUR_MODES:
        raise UnsupportedImageError(f"its pixels are of the unread kind {image.mode!r}.", remedy=SAVE_AS)
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode in _GRAY_MODES:
        image = _as(image, "L")
    elif image.mode != "CMYK":
        image = _as(_as(image, "RGBA") if alpha else image, "RGB")
    image = _apply_profile(image, profile) if profile else _as(image, "RGB")
    if alpha is None:
        return image
    if alpha.getextrema() == (0, 0):
        raise UnsupportedImageError("it is wholly transparent.", remedy="Save it without transparency.")
    return Image.composite(image, Image.new("RGB", image.size), alpha)


def _as(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # `convert` alone would copy a large image


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    levels_HW = np.asarray(image)
    white, inverted = 65535, False
    if isinstance(image, TiffImageFile):
        white = (1 << image.tag_v2.get(258, (16,))[0]) - 1  # BitsPerSample
        inverted = image.tag_v2.get(262) == 0  # PhotometricInterpretation: WhiteIsZero
    scaled_HW = ((levels_HW.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
    gray = Image.fromarray(255 - scaled_HW if inverted else scaled_HW)
    if isinstance(key := image.info.get("transparency"), int):
        gray.putalpha(Image.fromarray(np.where(levels_HW == key, 0, 255).astype(np.uint8)))
    return gray


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """From an ICC profile's colours to sRGB; as if there were none where the profile does not fit or work."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space == "RGB" and image.mode == "L":
            image = _as(image, "RGB")
        if space == _ICC_SPACES[image.mode]:
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
            if converted is not None:
                return converted
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        pass
    return _as(image, "RGB")
