"""Augmentation for dermoscopy, on whole batches, on whatever device the batch is.

All geometry (rotation, mirror, zoom, stretch, shift) is one affine map and so one resampling; all colour is one
3x3 matrix, one tone curve and a few maps of brightness. Every random number comes from torch's global generator,
which `fit` seeds afresh each epoch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from melascope.imaging.preprocess import ResizePolicy
from melascope.learning.recipe import AugmentPart

_LUMA = (0.299, 0.587, 0.114)


def augment(
    pixels_NHWC: Tensor, aspect_N: Tensor, part: AugmentPart, *, size_px: int, resize: ResizePolicy = "crop"
) -> Tensor:
    """Random views of cached images.

    Parameters
    ----------
    pixels_NHWC
        uint8, the whole images squashed to a square: shape (n, side, side, channels).
    aspect_N
        Width / height of each image before it was squashed, float32.
    size_px
        Side of the views.
    resize
        How images are framed when judged, which views vary: `crop` takes zoom from the short side; `pad` from the
        long side, with black around; `squash` gives up the aspect.

    Returns
    -------
    Tensor
        float32 in [0, 1], shape (n, channels, size_px, size_px).
    """
    images = pixels_NHWC.permute(0, 3, 1, 2).float().div_(255.0)
    if resize == "squash":
        aspect_N = torch.ones_like(aspect_N)
    unit_N = torch.maximum(aspect_N, 1 / aspect_N) if resize == "pad" else torch.ones_like(aspect_N)
    views = F.grid_sample(
        images,
        F.affine_grid(
            _geometry(aspect_N, unit_N, part), [*images.shape[:2], size_px, size_px], align_corners=False
        ),
        mode="bilinear",
        padding_mode="zeros" if resize == "pad" else "reflection",
        align_corners=False,
    )
    views = _hair(views, part.hair)
    views = _blur(views, part.blur)
    views = _colour(views, part) if views.shape[1] == 3 else _tone(views, part)
    views = views * _illumination(views, part)
    views = _noise(views, part.noise)
    views = _occlude(views, part.occlude)
    return views.clamp_(0.0, 1.0)


def normalise(views_NCHW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """As `imaging.preprocess.normalise`, for pixels in [0, 1] on a device."""
    mean_C = torch.tensor(mean, device=views_NCHW.device).view(1, -1, 1, 1)
    std_C = torch.tensor(std, device=views_NCHW.device).view(1, -1, 1, 1)
    return (views_NCHW - mean_C) / std_C


def mix(pixels_NCHW: Tensor, part: AugmentPart) -> tuple[Tensor, Tensor, Tensor]:
    """Mixup or cutmix of a batch with itself in another order.

    Returns
    -------
    pixels_NCHW, partner_N, share_N
        The loss of a case is `share * loss(its label) + (1 - share) * loss(partner's label)`.
    """
    n, _, height, width = pixels_NCHW.shape
    ones = torch.ones(n, device=pixels_NCHW.device)
    alphas = [alpha for alpha in (part.mixup_alpha, part.cutmix_alpha) if alpha > 0]
    if not alphas:
        return pixels_NCHW, torch.arange(n, device=pixels_NCHW.device), ones
    partner_N = torch.randperm(n, device=pixels_NCHW.device)
    cut = part.cutmix_alpha > 0 and (part.mixup_alpha == 0 or bool(torch.rand(()) < 0.5))
    alpha = part.cutmix_alpha if cut else part.mixup_alpha
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    if not cut:
        return share * pixels_NCHW + (1 - share) * pixels_NCHW[partner_N], partner_N, share * ones
    side = math.sqrt(1 - share)
    box_h, box_w = round(height * side), round(width * side)
    top = int(torch.randint(0, height - box_h + 1, ()))
    left = int(torch.randint(0, width - box_w + 1, ()))
    mixed = pixels_NCHW.clone()
    mixed[:, :, top : top + box_h, left : left + box_w] = pixels_NCHW[
        partner_N, :, top : top + box_h, left : left + box_w
    ]
    return mixed, partner_N, (1 - box_h * box_w / (height * width)) * ones


def _uniform(n: int, low: float, high: float, like: Tensor) -> Tensor:
    return torch.empty(n, device=like.device).uniform_(low, high)


def _chosen(n: int, share: float, like: Tensor) -> Tensor:
    """1.0 for a random share of n, else 0.0; shape (n, 1, 1, 1)."""
    return (torch.rand(n, device=like.device) < share).float().view(n, 1, 1, 1)


def _rows(n: int, share: float, like: Tensor) -> Tensor:
    """Indices of a random share of n."""
    return torch.nonzero(torch.rand(n, device=like.device) < share).flatten()


def _geometry(aspect_N: Tensor, unit_N: Tensor, part: AugmentPart) -> Tensor:
    """Affine maps from view coordinates to those of the squashed image, both in [-1, 1]; shape (n, 2, 3).

    `unit_N` is the side that zoom is a share of, in short sides.
    """
    n = len(aspect_N)
    angle = _uniform(n, -math.pi, math.pi, aspect_N) if part.rotate else torch.zeros_like(aspect_N)
    mirror = torch.where(torch.rand(n, device=aspect_N.device) < 0.5, -1.0, 1.0) if part.rotate else 1.0
    zoom = _uniform(n, math.log(part.zoom[0]), math.log(part.zoom[1]), aspect_N).exp() * unit_N
    stretch = _uniform(n, -math.log(part.stretch), math.log(part.stretch), aspect_N).mul(0.5).exp()
    # In units of half the short side: the image reaches to (reach_x, reach_y), the view to zoom.
    reach_x, reach_y = aspect_N.clamp(min=1.0), (1 / aspect_N).clamp(min=1.0)
    shift_x = _uniform(n, -1, 1, aspect_N) * (reach_x - zoom).clamp(min=0.0) * part.shift
    shift_y = _uniform(n, -1, 1, aspect_N) * (reach_y - zoom).clamp(min=0.0) * part.shift
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    row_x = torch.stack([cos * stretch * mirror, -sin / stretch, shift_x], dim=1) / reach_x[:, None]
    row_y = torch.stack([sin * stretch * mirror, cos / stretch, shift_y], dim=1) / reach_y[:, None]
    return torch.stack([row_x, row_y], dim=1)


def _colour(views: Tensor, part: AugmentPart) -> Tensor:
    """Hue, saturation, channel gains, contrast and brightness as one affine map of RGB, then the tone curve."""
    n = len(views)
    luma = torch.tensor(_LUMA, device=views.device)
    hue = _uniform(n, -part.hue_degrees, part.hue_degrees, views).deg2rad().view(n, 1, 1)
    identity = torch.eye(3, device=views.device)
    gray = torch.full((3, 3), 1 / 3, device=views.device)
    axis = torch.tensor(
        [[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], device=views.device
    ) / math.sqrt(3)
    rotation = hue.cos() * identity + (1 - hue.cos()) * gray + hue.sin() * axis  # about the gray axis
    saturation = _uniform(n, 1 - part.saturation, 1 + part.saturation, views).view(n, 1, 1)
    gains = 1 + _uniform(3 * n, -part.brightness / 2, part.brightness / 2, views).view(n, 3, 1)
    matrix = gains * (saturation * identity + (1 - saturation) * luma.expand(3, 3)) @ rotation
    mixed = (matrix @ views.flatten(2)).view_as(views)
    return _tone(mixed, part)


def _tone(views: Tensor, part: AugmentPart) -> Tensor:
    """Contrast about each image's mean, brightness, gamma."""
    n = len(views)
    contrast = _uniform(n, 1 - part.contrast, 1 + part.contrast, views).view(n, 1, 1, 1)
    brightness = _uniform(n, 1 - part.brightness, 1 + part.brightness, views).view(n, 1, 1, 1)
    mean = views.mean(dim=(1, 2, 3), keepdim=True)
    views = ((views - mean) * contrast + mean) * brightness
    log_gamma = math.log(part.gamma)
    gamma = _uniform(n, -log_gamma, log_gamma, views).exp().view(n, 1, 1, 1)
    return views.clamp(1e-4, 1.0) ** gamma if log_gamma else views


def _blur(views: Tensor, share: float) -> Tensor:
    """A random mixture of each chosen image and its blurred self."""
    chosen_M = _rows(len(views), share, views)
    sharp = views[chosen_M]
    blurred = F.avg_pool2d(sharp, 5, stride=1, padding=2, count_include_pad=False)
    weight = torch.rand(len(sharp), 1, 1, 1, device=views.device)
    return views.index_copy(0, chosen_M, torch.lerp(sharp, blurred, weight))


def _coordinates(views: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of each pixel in [-1, 1], shapes (1, 1, 1, width) and (1, 1, height, 1)."""
    height, width = views.shape[2:]
    x = torch.linspace(-1, 1, width, device=views.device).view(1, 1, 1, width)
    y = torch.linspace(-1, 1, height, device=views.device).view(1, 1, height, 1)
    return x, y


def _illumination(views: Tensor, part: AugmentPart) -> Tensor:
    """Factors of brightness: a ramp in a random direction, and for some the round field of a dermatoscope."""
    n = len(views)
    x, y = _coordinates(views)
    angle = _uniform(n, -math.pi, math.pi, views).view(n, 1, 1, 1)
    slope = _uniform(n, 0, part.illumination, views).view(n, 1, 1, 1)
    ramp = 1 + slope * (angle.cos() * x + angle.sin() * y)
    radius = _uniform(n, 0.95, 1.3, views).view(n, 1, 1, 1)
    field = torch.sigmoid((radius - (x**2 + y**2).sqrt()) * 40)
    return ramp * torch.lerp(torch.ones_like(field), field, _chosen(n, part.vignette, views))


def _hair(views: Tensor, share: float) -> Tensor:
    """Draw dark hairs over some images: parabolas in any direction, of one colour and about one width an image."""
    chosen_M = _rows(len(views), share, views)
    m, height = len(chosen_M), views.shape[2]
    if not m:
        return views
    x, y = _coordinates(views)
    along = _uniform(m, -math.pi, math.pi, views)
    brown = views.new_tensor([0.35, 0.27, 0.2] if views.shape[1] == 3 else [0.28])[:, None, None]
    colour = torch.rand(m, 1, 1, 1, device=views.device) * brown
    width = (
        _uniform(m, 0.6, 1.8, views).view(m, 1, 1, 1) * 2 / height
    )  # in half sides; at least a pixel is seen
    bare = torch.ones(m, 1, *views.shape[2:], device=views.device)
    for _ in range(int(torch.randint(3, 16, ()))):
        angle = (along + _uniform(m, -0.7, 0.7, views)).view(m, 1, 1, 1)
        u, v = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
        bend, offset = (_uniform(m, -reach, reach, views).view(m, 1, 1, 1) for reach in (0.6, 1.1))
        slope = 1 + (2 * bend * u).square()
        distance = (v - bend * u.square() - offset).abs() / slope.sqrt()
        bare = bare * (distance / width).clamp(max=1.0)
    hairy = torch.lerp(colour, views[chosen_M], bare)
    return views.index_copy(0, chosen_M, hairy)


def _noise(views: Tensor, share: float) -> Tensor:
    chosen_M = _rows(len(views), share, views)
    clean = views[chosen_M]
    deviation = _uniform(len(clean), 0.0, 0.04, views).view(-1, 1, 1, 1)
    return views.index_copy(0, chosen_M, clean + deviation * torch.randn_like(clean))


def _occlude(views: Tensor, share: float) -> Tensor:
    """Hide a rectangle of some images under a random gray."""
    n = len(views)
    x, y = _coordinates(views)
    half_w, half_h = (_uniform(n, 0.05, 0.33, views).view(n, 1, 1, 1) for _ in range(2))
    centre_x, centre_y = (_uniform(n, -1, 1, views).view(n, 1, 1, 1) for _ in range(2))
    inside = ((x - centre_x).abs() < half_w) & ((y - centre_y).abs() < half_h)
    fill = torch.rand(n, 1, 1, 1, device=views.device)
    return torch.lerp(views, fill.expand_as(views), inside.float() * _chosen(n, share, views))
