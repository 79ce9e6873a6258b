"""From a recipe to a network: a backbone that gives a feature map, global average pooling, one linear layer.

That shape is what makes the class activation map exact (Zhou et al., CVPR 2016), so nothing else is built here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from safetensors import SafetensorError, safe_open
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from melascope.errors import RecipeError, UsageError
from melascope.imaging.preprocess import PreprocessSpec
from melascope.learning.recipe import ModelPart
from melascope.learning.simple_cnn import SimpleCnn


class Outputs(NamedTuple):
    """What a network answers; the exported graph has the same three outputs."""

    logits: Tensor  #: (n, classes)
    embedding: Tensor  #: (n, features): the mean of the feature map
    features: Tensor  #: (n, features, height, width): the last feature map


#: Axes along which each mirror image is flipped.
_FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))


class Classifier(nn.Module):
    """A backbone, its global average and a softmax layer's logits.

    When it is not training, it looks at several views, `zooms` times `mirrors`, and averages. What follows the feature
    maps is linear, so the logits are the mean of the views' logits; each map is laid where its view looked, with its
    mean kept, so the class activation map stays exact.

    Parameters
    ----------
    zooms
        Shares of the input's sides, around its centre. Every view is brought to the size of the smallest.
    """

    def __init__(
        self,
        backbone: nn.Module,
        n_features: int,
        n_classes: int,
        *,
        dropout: float,
        mirrors: int = 1,
        zooms: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.mirrors = mirrors
        self.zooms = tuple(zooms)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(n_features, n_classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, pixels_NCHW: Tensor) -> Outputs:
        """Shapes as in `Outputs`."""
        if self.training:
            features = self.backbone(pixels_NCHW)
            embedding = features.mean(dim=(2, 3))
        else:
            maps = self._maps(pixels_NCHW)
            embedding = _mean([map_.mean(dim=(2, 3)) for map_ in maps])
            features = maps[0] if self.zooms == (1.0,) else _mean(list(map(_lay, maps, self.zooms)))
        return Outputs(self.head(self.dropout(embedding)), embedding, features)

    def glance(self, pixels_NCHW: Tensor) -> Tensor:
        """Logits by one look, shape (n, classes), whatever `mirrors` and `zooms` say."""
        logits: Tensor = self.head(self.dropout(self.backbone(pixels_NCHW).mean(dim=(2, 3))))
        return logits

    def _maps(self, pixels_NCHW: Tensor) -> list[Tensor]:
        """The feature map of each zoom, the mean of its mirror images' turned back; all views are one batch."""
        flips = _FLIPS[: self.mirrors]
        zoomed = [_view(pixels_NCHW, zoom, min(self.zooms)) for zoom in self.zooms]
        views = [view.flip(axes) if axes else view for view in zoomed for axes in flips]
        if len(views) == 1:
            return [self.backbone(views[0])]
        maps = self.backbone(torch.cat(views)).unflatten(0, (len(views), pixels_NCHW.shape[0])).unbind()
        turned = [
            map_.flip(axes) if axes else map_ for map_, axes in zip(maps, flips * len(zoomed), strict=True)
        ]
        return [_mean(turned[first : first + len(flips)]) for first in range(0, len(turned), len(flips))]


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).mean(dim=0) if len(tensors) > 1 else tensors[0]


def _view(pixels_NCHW: Tensor, zoom: float, smallest: float) -> Tensor:
    """The middle `zoom` of each side, at the size of the middle `smallest`."""
    side = pixels_NCHW.shape[-1]
    wanted, size = _inner(side, zoom), _inner(side, smallest)
    start = (side - wanted) // 2
    view = pixels_NCHW[:, :, start : start + wanted, start : start + wanted]
    if wanted == size:
        return view
    return nn.functional.interpolate(view, (size, size), mode="bilinear", antialias=True)


def _inner(side: int, zoom: float) -> int:
    """Whole pixels nearest to `zoom` of a side that leave equal margins."""
    return side - 2 * round(side * (1 - zoom) / 2)


def _lay(features_NFHW: Tensor, zoom: float) -> Tensor:
    """Lay a square map over the middle `zoom` of a grid twice as fine; zeros around it, its mean kept."""
    cells = features_NFHW.shape[-1]
    edges = torch.linspace(0, 1, 2 * cells + 1, dtype=torch.float64)
    inner = (1 - zoom) / 2 + zoom * torch.linspace(0, 1, cells + 1, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], inner[None, 1:]) - torch.maximum(
        edges[:-1, None], inner[None, :-1]
    )
    share = (overlap.clamp(min=0) * 2 * cells / zoom).to(features_NFHW.dtype)  # columns sum to 2
    return share @ features_NFHW @ share.T


class _FeatureMap(nn.Module):
    """The part of a timm model before its pooling."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        features: Tensor = self.model.forward_features(pixels_NCHW)  # type: ignore[operator]
        return features


class _Renormalised(nn.Module):
    """A backbone for pixels that were normalised by the mean and deviation of another one."""

    scale_C: Tensor
    shift_C: Tensor

    def __init__(self, backbone: nn.Module, *, own: PreprocessSpec, given: PreprocessSpec) -> None:
        super().__init__()
        self.backbone = backbone
        own_mean, own_std, mean, std = (
            torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)
            for values in (own.mean, own.std, given.mean, given.std)
        )
        self.register_buffer("scale_C", (std / own_std).float())
        self.register_buffer("shift_C", ((mean - own_mean) / own_std).float())

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        features: Tensor = self.backbone(pixels_NCHW * self.scale_C + self.shift_C)
        return features


class _SideBySide(nn.Module):
    """Several backbones as one: their feature maps, one after the other along the channels."""

    def __init__(self, backbones: Sequence[nn.Module]) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones)

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        return torch.cat([backbone(pixels_NCHW) for backbone in self.backbones], dim=1)


def side_by_side(networks: Sequence[Classifier], specs: Sequence[PreprocessSpec]) -> Classifier:
    """One network whose logits are the mean of those of several, which look at the same views.

    Its last layer is theirs, side by side, so the class activation map stays exact. It reads pixels as the first does;
    `specs`, one a network, may differ in mean and deviation, and no more.

    Raises
    ------
    UsageError
        Their feature maps differ in size.
    """
    sides = {tuple(_features_of(network, specs[0]).shape[2:]) for network in networks}
    if len(sides) > 1:
        raise UsageError(
            f"The runs' feature maps are of {' and '.join(f'{h} x {w}' for h, w in sorted(sides))} cells.",
            remedy="Join networks that shrink the image alike.",
        )
    n_classes, n_features = networks[0].head.out_features, sum(n.head.in_features for n in networks)
    joined = Classifier(
        _SideBySide(
            [
                network.backbone
                if (spec.mean, spec.std) == (specs[0].mean, specs[0].std)
                else _Renormalised(network.backbone, own=spec, given=specs[0])
                for network, spec in zip(networks, specs, strict=True)
            ]
        ),
        n_features,
        n_classes,
        dropout=0.0,
        mirrors=networks[0].mirrors,
        zooms=networks[0].zooms,
    )
    with torch.no_grad():
        joined.head.weight.copy_(
            torch.cat([network.head.weight for network in networks], dim=1) / len(networks)
        )
        joined.head.bias.copy_(torch.stack([network.head.bias for network in networks]).mean(dim=0))
    return joined.eval()


def mean_weights(networks: Sequence[Classifier]) -> dict[str, Tensor]:
    """The state whose weights and statistics are the mean of those of networks of one shape."""
    states = [network.state_dict() for network in networks]
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


def _features_of(network: Classifier, spec: PreprocessSpec) -> Tensor:
    """The feature map of one view."""
    with torch.no_grad():
        side = _inner(spec.size_px, min(network.zooms))
        features: Tensor = network.backbone(torch.zeros(1, spec.channels, side, side))
    return features


def build_network(part: ModelPart, *, in_chans: int) -> Classifier:
    """The network of a recipe, with its first weights.

    Raises
    ------
    RecipeError
        An unknown backbone, one without a feature map, or weights that do not fit it.
    """
    if part.backbone == "simple_cnn":
        simple = SimpleCnn(in_chans)
        return _classifier(simple, simple.num_features, part)
    if not timm.is_model(part.backbone):
        close = timm.list_models(f"*{part.backbone[:6]}*")[:5]
        raise RecipeError(
            f"model.backbone {part.backbone!r} is not known to timm {timm.__version__}.",
            remedy=f"Use simple_cnn or a timm model, such as {', '.join(close or ['resnet50', 'mobilenetv2_100'])}.",
        )
    options: dict[str, Any] = {"drop_path_rate": part.drop_path} if part.drop_path else {}
    try:
        model: Any = timm.create_model(
            part.backbone,
            pretrained=part.weights == "timm",
            in_chans=in_chans,
            num_classes=0,
            global_pool="",
            **options,
        )
    except (
        RuntimeError,
        OSError,
        ValueError,
        TypeError,
    ) as fault:  # no network, no such weights, no such option
        raise RecipeError(
            f"model.backbone {part.backbone!r} with weights {part.weights!r} cannot be made: {fault}",
            remedy="Without a network name a safetensors file as model.weights, or 'none'.",
        ) from fault
    n_features: int = model.num_features
    if part.stem_norm:
        _add_stem_norm(model, part)
    if part.weights not in ("none", "timm"):
        _load_weights(model, part, in_chans)
    if part.keep_stages is not None:
        n_features = _cut(model, part)
    backbone = _FeatureMap(model)
    _check_feature_map(backbone, part, in_chans, n_features)
    return _classifier(backbone, n_features, part)


def _classifier(backbone: nn.Module, n_features: int, part: ModelPart) -> Classifier:
    return Classifier(
        backbone,
        n_features,
        len(part.classes),
        dropout=part.dropout,
        mirrors=part.mirrors,
        zooms=part.zooms,
    )


def _load_weights(model: nn.Module, part: ModelPart, in_chans: int) -> None:
    with _weights_file(part.weights) as file:
        names = [name for name in file.keys() if not name.startswith(("classifier.", "fc.", "head."))]  # noqa: SIM118
        weights = {name: file.get_tensor(name) for name in names}
    own = model.state_dict()
    if in_chans == 1:
        weights = {
            name: value.sum(dim=1, keepdim=True) if name in own and _is_stem(value, own[name]) else value
            for name, value in weights.items()
        }
    unknown = [name for name in weights if name not in own]
    misshapen = [name for name in weights if name in own and own[name].shape != weights[name].shape]
    if unknown or misshapen:
        name = (unknown or misshapen)[0]
        raise RecipeError(
            f"{part.weights}: {len(unknown) + len(misshapen)} tensors do not fit {part.backbone}, "
            f"the first is {name!r}.",
            remedy="Name the backbone that the weights are of (and model.stem_norm where they have a stem.norm).",
        )
    model.load_state_dict(weights, strict=False)


def weights_source(name: str) -> str | None:
    """What a safetensors file says of where its weights came from.

    Raises
    ------
    RecipeError
        There is no such file, or it is of another kind.
    """
    with _weights_file(name) as file:
        return (file.metadata() or {}).get("source")


@contextmanager
def _weights_file(name: str) -> Iterator[Any]:
    if not Path(name).is_file():
        raise RecipeError(
            f"model.weights {name!r} is no file.", remedy="Name a safetensors file, 'timm' or 'none'."
        )
    try:
        with safe_open(name, "pt") as file:
            yield file
    except (SafetensorError, OSError) as fault:
        raise RecipeError(
            f"{name}: not a safetensors file ({fault}).", remedy="Use a .safetensors file."
        ) from fault


def _add_stem_norm(model: Any, part: ModelPart) -> None:
    stem: Any = getattr(model, "stem", None)
    if not isinstance(stem, nn.Sequential) or not hasattr(stem, "conv") or not hasattr(stem, "pool"):
        raise RecipeError(
            f"model.stem_norm is set, but {part.backbone} has no stem of convolution and pooling.",
            remedy="It goes with resnetv2_* backbones.",
        )
    parts: dict[str, Any] = {name: getattr(stem, name) for name in ("conv", "pool")}
    norm = BatchNormAct2d(parts["conv"].out_channels)
    model.stem = nn.Sequential(OrderedDict(conv=parts["conv"], norm=norm, pool=parts["pool"]))


def _is_stem(value: Tensor, own: Tensor) -> bool:
    return value.ndim == 4 and value.shape[1] == 3 and own.shape[1] == 1 and value.shape[0] == own.shape[0]


def _cut(model: Any, part: ModelPart) -> int:
    stages = getattr(model, "stages", None)
    if not isinstance(stages, nn.Sequential) or not part.backbone.startswith("resnetv2"):
        raise RecipeError(
            f"model.keep_stages is {part.keep_stages}, but {part.backbone} is not cut here.",
            remedy="It goes with resnetv2_* backbones.",
        )
    if part.keep_stages is None or part.keep_stages > len(stages):
        raise RecipeError(f"model.keep_stages is {part.keep_stages}.", remedy=f"Use 1 to {len(stages)}.")
    model.stages = stages[: part.keep_stages]
    n_features = int(model.feature_info[part.keep_stages]["num_chs"])
    model.norm = BatchNormAct2d(n_features)
    return n_features


def _check_feature_map(backbone: nn.Module, part: ModelPart, in_chans: int, n_features: int) -> None:
    backbone.eval()
    try:
        with torch.no_grad():
            shape = tuple(backbone(torch.zeros(1, in_chans, 64, 64)).shape)
    except (AssertionError, RuntimeError, ValueError) as fault:  # a network that takes one size only
        raise RecipeError(
            f"model.backbone {part.backbone!r} does not take images of any size: {fault}",
            remedy="Use a convolutional backbone; the heatmap is made from its last feature map.",
        ) from fault
    backbone.train()
    if len(shape) != 4 or shape[1] != n_features:
        raise RecipeError(
            f"model.backbone {part.backbone!r} ends in a map of shape {shape}, not (n, {n_features}, height, width).",
            remedy="Use a convolutional backbone; the heatmap is made from its last feature map.",
        )


def parameter_groups(
    network: Classifier, *, lr: float, backbone_lr_factor: float, layer_decay: float, weight_decay: float
) -> list[dict[str, object]]:
    """Optimiser groups: the head at `lr`, the backbone at its share, earlier blocks at less; norms undecayed."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    scales = _depth_scales(network, layer_decay)
    for name, parameter in network.named_parameters():
        rate = lr if name.startswith("head.") else lr * backbone_lr_factor * scales[name]
        decay = weight_decay if parameter.ndim > 1 else 0.0
        if rate == 0:
            parameter.requires_grad_(False)
        else:
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def _depth_scales(network: Classifier, layer_decay: float) -> Mapping[str, float]:
    """layer_decay to the power of how many blocks lie between a parameter and the head."""
    blocks: dict[str, int] = {}
    depth_of: dict[str, int] = {}
    for name, _ in network.backbone.named_parameters():
        stem = (
            ".".join(name.split(".")[:4])
            if "blocks" in name or "stages" in name
            else ".".join(name.split(".")[:2])
        )
        depth_of[f"backbone.{name}"] = blocks.setdefault(stem, len(blocks))
    return {name: layer_decay ** (len(blocks) - 1 - depth) for name, depth in depth_of.items()}
