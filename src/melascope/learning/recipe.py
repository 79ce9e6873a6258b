"""Training recipes: TOML files, typed, unknown keys refused; the resolved recipe is saved with each run."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from melascope.domain.diagnosis import ISIC2018_CLASSES, Diagnosis
from melascope.errors import RecipeError, UsageError
from melascope.imaging.preprocess import PreprocessSpec

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Range = tuple[Positive, Positive]
Zoom = Annotated[float, Field(ge=0.25, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def _distinct(values: tuple[object, ...]) -> tuple[object, ...]:
    if repeated := [value for n, value in enumerate(values) if value in values[:n]]:
        raise ValueError(f"{repeated[0]!r} is named twice")
    return values


class ModelPart(_Part):
    """The network."""

    backbone: str = "mobilenetv2_100"
    """`simple_cnn`, or any timm model whose last feature map has the shape (n, channels, height, width)."""
    weights: str = "timm"
    """First weights: `none` (random), `timm` (ImageNet, downloaded by timm), or the path of a safetensors file."""
    start_from: tuple[str, ...] = ()
    """Folder of an earlier run of the same split, whose network this one goes on from; in place of `weights`. Of
    several that came from the same first weights, their mean is taken (Wortsman et al., ICML 2022)."""
    classes: tuple[Diagnosis, ...] = ISIC2018_CLASSES
    """What the softmax head tells apart, in this order; must hold MEL."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout before the last layer."""
    drop_path: Fraction = 0.0
    """Stochastic depth of the backbone, where timm offers it."""
    keep_stages: int | None = Field(default=None, ge=1)
    """Cut a staged backbone (resnetv2_*) after this many stages; none keeps all."""

    mirrors: Literal[1, 2, 4] = 1
    """Mirror images that the network looks at when it is not training, and averages: itself alone, with the one across,
    or with those across, upside down and both. Costs as many times the work; a lesion has no left or right."""
    zooms: tuple[Zoom, ...] = Field(default=(1.0,), min_length=1, max_length=4)
    """Middle shares of the input's sides that the network looks at when it is not training, and averages: no two
    dermatoscopes frame alike. Each is brought to the size of the smallest, and costs as much work as all mirrors."""
    stem_norm: bool = False
    """Batch norm and ReLU between the stem's convolution and pooling, as the ONNX Model Zoo's ResNet v2 has them."""

    @field_validator("start_from", mode="before")
    @classmethod
    def _one_folder_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("start_from", "zooms")
    @classmethod
    def _each_once(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        return _distinct(value)

    @model_validator(mode="after")
    def _our_own_network_is_plain(self) -> ModelPart:
        if self.backbone == "simple_cnn":
            for name, plain in (
                ("weights", "none"),
                ("keep_stages", None),
                ("drop_path", 0),
                ("stem_norm", False),
            ):
                if (value := getattr(self, name)) != plain:
                    raise ValueError(
                        f"model.{name} is {value!r}, which simple_cnn does not have"
                        + ('; say model.weights = "none"' if name == "weights" else "")
                    )
        return self


class AugmentPart(_Part):
    """Random changes of a training image. Dermoscopy has no up or down, and no two dermatoscopes frame alike."""

    rotate: bool = True
    """Any rotation and mirror image."""
    zoom: Range = (0.6, 1.2)
    """Side of the part that is seen, as a share of the image's short side, log-uniform; above 1 shows borders."""
    stretch: Annotated[float, Field(ge=1, le=3)] = 1.15
    """Largest change of aspect, as a factor."""
    shift: Fraction = 1.0
    """How far the part seen may leave the centre, as a share of the room there is."""
    brightness: Fraction = 0.2
    """Largest relative change of brightness, and of each colour channel's gain by half of it."""
    contrast: Fraction = 0.2
    """Largest relative change of contrast."""
    saturation: Fraction = 0.25
    """Largest relative change of saturation."""
    hue_degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Largest rotation of hue."""
    gamma: Annotated[float, Field(ge=1, le=3)] = 1.2
    """Largest exponent, or its inverse, of the tone curve."""
    illumination: Fraction = 0.15
    """Largest relative change of brightness from one side of the image to the other."""
    blur: Fraction = 0.3
    """Share of images that are blurred."""
    noise: Fraction = 0.2
    """Share of images that get sensor noise, of a standard deviation up to 0.04."""
    vignette: Fraction = 0.1
    """Share of images that get the black corners of a round field of view."""
    occlude: Fraction = 0.2
    """Share of images of which a rectangle, up to a third of each side, is hidden."""
    hair: Fraction = 0.0
    """Share of images over which dark hairs are drawn."""
    mixup_alpha: Annotated[float, Field(ge=0)] = 0.0
    """Beta parameter of mixup; 0 is off. Zhang et al., ICLR 2018."""
    cutmix_alpha: Annotated[float, Field(ge=0)] = 0.0
    """Beta parameter of cutmix; 0 is off; where both are on, a coin decides. Yun et al., ICCV 2019."""


class LossPart(_Part):
    """The loss, and what it does about class imbalance."""

    imbalance: Literal["none", "sampling", "class-weights", "logit-adjustment"] = "logit-adjustment"
    """`sampling`: classes drawn at the power below; `class-weights`: inverse frequency to that power;
    `logit-adjustment`: the log of the class frequency, times that power, is added to the logits while training
    (Menon et al., ICLR 2021), so that the raw logits stand on equal class frequencies."""
    power: Fraction = 1.0
    """How much of the imbalance is undone."""
    by_source: bool = True
    """With `logit-adjustment`: class frequencies of each dataset apart, so that nothing is gained by recognising
    from which hospital an image comes."""
    focal_gamma: Annotated[float, Field(ge=0)] = 0.0
    """Focal loss (Lin et al., ICCV 2017); 0 is cross-entropy."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all classes."""


class DistillationPart(_Part):
    """What earlier runs teach this one, besides the labels."""

    teachers: tuple[str, ...] = ()
    """Folders of earlier runs that have not learnt from what this one is judged by; a case is taught by those of them
    that have not learnt from its lesion, or by all if every one has. None: labels alone. Without mixup and cutmix."""

    @field_validator("teachers")
    @classmethod
    def _each_once(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        return _distinct(value)

    weight: Fraction = 0.5
    """Share of the teachers in the loss; the rest is the labels'."""
    temperature: Positive = 2.0
    """By which the logits of both are divided when they are compared."""


class OptimPart(_Part):
    """Optimiser and schedule."""

    lr: Positive = 1e-3
    """Highest learning rate, of the head."""
    backbone_lr_factor: Annotated[float, Field(ge=0)] = 0.3
    """Learning rate of the backbone as a share of the head's; 0 keeps it frozen."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each block below the last learns at this share of the rate of the one above it."""
    freeze_epochs: int = Field(default=0, ge=0)
    """Epochs at the start in which only the head learns."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    """Of AdamW; never on norms and biases."""
    schedule: Literal["cosine", "one-cycle", "constant"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.5
    """Linear rise at the start, for `cosine` and `constant`."""
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    """Largest gradient norm; 0 does not clip."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are summed before a step."""


class TrainPart(_Part):
    """The course of training."""

    epochs: int = Field(default=12, ge=0)
    """0: learn nothing, only judge the network of `model.start_from` anew, with other views or another size."""
    batch_size: int = Field(default=64, ge=2)
    size_px: int | None = Field(default=None, ge=28, le=600)
    """Side of training images; none is preprocess.size_px. A smaller one trains faster, and the larger evaluation
    size makes up for the zoom of augmentation (Touvron et al., NeurIPS 2019)."""
    first_size_px: int | None = Field(default=None, ge=28, le=600)
    """Side of training images in the first epoch, from which it grows evenly to that of the last, in steps of 16 px:
    coarse forms are learnt from small images, and those cost little (Tan and Le, ICML 2021). None: one side."""
    cache_px: int = Field(default=256, ge=28, le=600)
    """Side at which training images are cached, whole, before augmentation takes a part of them."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """auto: bf16-mixed where the processor or GPU computes in bfloat16, else 32-true: a CPU that only imitates it is
    many times slower in it. A GPU without it may be faster in 16-mixed."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Exponential moving average of the weights, which is what is evaluated and kept; 0 is off."""
    monitor: Literal["val_mean_auroc", "val_auroc", "val_balanced_accuracy", "val_loss", "val_accuracy"] = (
        "val_mean_auroc"
    )
    """What the best checkpoint and early stopping go by."""
    patience: int = Field(default=5, ge=1)
    """Epochs without improvement after which training stops."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    compile: bool = False
    """`torch.compile` the network."""


class Recipe(_Part):
    """A whole training recipe."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Of the run and of the bundle made from it."""
    purpose: str = ""
    """What it is for, one sentence."""
    model: ModelPart = ModelPart()
    preprocess: PreprocessSpec = PreprocessSpec()
    augment: AugmentPart = AugmentPart()
    loss: LossPart = LossPart()
    distillation: DistillationPart = DistillationPart()
    optim: OptimPart = OptimPart()
    train: TrainPart = TrainPart()

    @model_validator(mode="after")
    def _is_possible(self) -> Recipe:
        classes = self.model.classes
        if Diagnosis.MEL not in classes or Diagnosis.UNK in classes or len(set(classes)) != len(classes):
            raise ValueError("model.classes must be distinct, hold MEL and not UNK")
        if len(classes) < 2:
            raise ValueError("model.classes must hold another class beside MEL")
        if self.train.epochs == 0 and not self.model.start_from:
            raise ValueError("train.epochs is 0, but model.start_from names no network to judge")
        if self.train.cache_px < self.train_size_px:
            raise ValueError(
                f"train.cache_px is {self.train.cache_px}, below the {self.train_size_px} px of training images"
            )
        if self.train.first_size_px is not None and self.train.first_size_px > self.train_size_px:
            raise ValueError(
                f"train.first_size_px is {self.train.first_size_px}, above the last epoch's {self.train_size_px} px"
            )
        if self.distillation.teachers and (self.augment.mixup_alpha or self.augment.cutmix_alpha):
            raise ValueError(
                "augment.mixup_alpha and augment.cutmix_alpha must be 0 with distillation.teachers: of two cases in "
                "one view a teacher may have learnt one"
            )
        if self.augment.zoom[0] > self.augment.zoom[1]:
            raise ValueError("augment.zoom must be (smallest, largest)")
        if self.train.epochs and self.optim.freeze_epochs >= self.train.epochs:
            raise ValueError(
                f"optim.freeze_epochs is {self.optim.freeze_epochs} of {self.train.epochs} epochs; to learn the head "
                "alone, say optim.backbone_lr_factor = 0"
            )
        if self.train.epochs and self.optim.warmup_epochs >= self.train.epochs:
            raise ValueError(
                f"optim.warmup_epochs is {self.optim.warmup_epochs} of {self.train.epochs} epochs"
            )
        if self.distillation.teachers and not (self.train.epochs and self.distillation.weight):
            raise ValueError("distillation.teachers teach nothing with train.epochs or distillation.weight 0")
        return self

    @property
    def train_size_px(self) -> int:
        """Side of training images, in the last epoch where it grows."""
        return self.train.size_px or self.preprocess.size_px

    def train_size_px_at(self, epoch: int) -> int:
        """Side of training images in an epoch, the first being 0."""
        first, last, epochs = self.train.first_size_px, self.train_size_px, self.train.epochs
        if first is None or epoch >= epochs - 1:
            return last
        return min(last, first + round((last - first) * epoch / (epochs - 1) / 16) * 16)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; each override is `part.key=value`, the value as in TOML (a bare word is a string).

    Raises
    ------
    RecipeError
        An unreadable file, an unknown key, an impossible value; the message names the key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise RecipeError(
            f"{path}: the recipe cannot be read ({fault}).", remedy="Name a TOML file."
        ) from fault
    for override in overrides:
        _apply(values, override)
    return parse_recipe(
        values, name=f"{path} with {' '.join(f'--set {o}' for o in overrides)}" if overrides else str(path)
    )


def parse_recipe(values: dict[str, object], *, name: str) -> Recipe:
    """Check a recipe's values; `name` is for messages."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as fault:
        found = "; ".join(_told(error) for error in fault.errors() if not _follows(error, fault.errors()))
        raise RecipeError(
            f"{name}: {found}.", remedy="`melascope train --help-recipe` lists every key."
        ) from None
    except UsageError as fault:
        raise RecipeError(f"{name}: {fault.message}", remedy=fault.remedy) from None


def _follows(error: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """A list is "too short" where items of it are wrong; these are what is to be told."""
    where = error["loc"]
    return error["type"] == "too_short" and any(
        other["loc"][: len(where)] == where and len(other["loc"]) > len(where) for other in errors
    )


def _told(error: ErrorDetails) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "value_error":  # our own sentences
        sentence = error["msg"].removeprefix("Value error, ")
        return f"{key}: {sentence}" if len(error["loc"]) > 1 else sentence
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        near = get_close_matches(key, [known for known, _, _ in describe_keys()], n=1)
        return f"there is no key {key}" + (f"; is {near[0]} meant?" if near else "")
    return f"{key} is {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _apply(values: dict[str, object], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override!r} is not key=value.", remedy="For example --set train.epochs=5")
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parts, last = key.strip().split(".")
    place = values
    for part in parts:
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {override!r}: {part!r} is no table.", remedy="Use part.key=value.")
        place = inner
    place[last] = value


def describe_keys() -> list[tuple[str, str, str]]:
    """Every key of a recipe as (key, default, sentence), for the command's help and the docs."""
    rows: list[tuple[str, str, str]] = []
    for part_name, part in Recipe.model_fields.items():
        if isinstance(part.annotation, type) and issubclass(part.annotation, _Part):
            for name, field in part.annotation.model_fields.items():
                rows.append((f"{part_name}.{name}", repr(field.default), field.description or ""))
        elif part.annotation is PreprocessSpec:
            defaults = PreprocessSpec()
            rows += [
                (f"{part_name}.{name}", repr(getattr(defaults, name)), "")
                for name in PreprocessSpec.__dataclass_fields__
            ]
        else:
            rows.append(
                (part_name, "required" if part.is_required() else repr(part.default), part.description or "")
            )
    return rows
