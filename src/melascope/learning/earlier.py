"""What a run takes from earlier runs, which must not know what it is judged by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import timm

from melascope.domain.case import Case
from melascope.errors import LeakError, RecipeError, UsageError
from melascope.learning.backbones import weights_source
from melascope.learning.parts import Parts
from melascope.learning.recipe import ModelPart, Recipe
from melascope.learning.run import Run, known_of, load_run


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What a run has from runs before it."""

    pretrained: str  #: where its first weights came from
    teachers: tuple[str, ...]  #: the runs that taught it, or taught one that it came from
    known: tuple[Case, ...]  #: what these runs learnt from, as `train`, and were chosen by, as `val`

    @classmethod
    def of(cls, recipe: Recipe, starts: Sequence[Run], teachers: Sequence[Run]) -> Origin:
        """Of a run of this recipe that goes on from `starts` and is taught by `teachers`."""
        runs = [*starts, *teachers]
        inherited = (name for run in runs for name in run.facts["training"]["teachers"])
        return cls(
            pretrained=_then(starts) if starts else _first(recipe.model),
            teachers=tuple(dict.fromkeys((*(run.name for run in teachers), *inherited))),
            known=known_of(runs),
        )


def starts_of(recipe: Recipe, parts: Parts) -> list[Run]:
    """The runs that `model.start_from` names.

    Raises
    ------
    RecipeError
        No finished run is there, its network is another one, several came from other first weights, or they are to be
        judged anew without having learnt `train`.
    LeakError
        An earlier run knows a lesion or file that this one is judged by.
    """
    key = "model.start_from"
    runs = [_earlier_run(key, name, parts) for name in recipe.model.start_from]
    shape = ("model.backbone", "model.classes", "model.keep_stages", "model.stem_norm", "preprocess.channels")
    for run in runs:
        _check_alike(key, run, recipe, shape)
        if _root(run) != _root(runs[0]):
            raise RecipeError(
                f"{key}: {runs[0].name} came from {_root(runs[0])}, {run.name} from {_root(run)}: the mean of their "
                "weights is no network.",
                remedy="Name one run, or runs that came from the same first weights.",
            )
    learnt = set[str]().union(*(marks(run.learnt) for run in runs))
    if recipe.train.epochs == 0 and not marks(parts.train) <= learnt:
        raise RecipeError(
            f"train.epochs is 0, but {', '.join(recipe.model.start_from)} has not learnt all of `train` here.",
            remedy="Judge it anew on the split that it was trained on.",
        )
    return runs


def teachers_of(recipe: Recipe, parts: Parts) -> list[Run]:
    """The runs that `distillation.teachers` names.

    Raises
    ------
    RecipeError
        A teacher is no finished run, tells other classes apart, sees colour in another way, or stands on other class
        frequencies.
    LeakError
        A teacher knows a lesion or file that this run is judged by.
    """
    key = "distillation.teachers"
    runs = [_earlier_run(key, name, parts) for name in recipe.distillation.teachers]
    for run in runs:
        _check_alike(key, run, recipe, ("model.classes", "preprocess.colour", "loss.imbalance", "loss.power"))
    return runs


def differences(theirs: Recipe, ours: Recipe, keys: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Those of these keys in which two recipes differ, with both values."""
    for key in keys:
        value, own = (attrgetter(key)(recipe) for recipe in (theirs, ours))
        if value != own:
            yield key, _shown(value), _shown(own)


def _check_alike(what: str, run: Run, recipe: Recipe, keys: Sequence[str]) -> None:
    for key, theirs, ours in differences(run.recipe, recipe, keys):
        raise RecipeError(
            f"{what}: {run.name} has {key} {theirs}, this run {ours}.",
            remedy=f"Take a run of the same {key}.",
        )


def marks(cases: Sequence[Case]) -> set[str]:
    """Lesions, groups, files and ids of the ISIC archive, by which cases are told to be the same in any dataset."""
    return {mark for case in cases for mark in (case.vote, case.group, case.sha256, case.archive_id) if mark}


def _earlier_run(key: str, name: str, parts: Parts) -> Run:
    try:
        run = load_run(Path(name))
    except UsageError as fault:
        raise RecipeError(
            f"{key}: {fault.message}", remedy="Name the folder of a run that has ended."
        ) from fault
    learnt, chosen_by = marks(run.learnt), marks(run.chosen_by)
    validated = {case.image_id for case in parts.val}
    known = [
        case.image_id
        for case in parts.evaluate
        if marks([case]) & (learnt if case.image_id in validated else learnt | chosen_by)
    ]
    if known:
        raise LeakError(
            f"{key}: {name} learnt from, or was chosen by, lesions of {len(known)} images that this run is judged by, "
            f"the first is {known[0]}.",
            remedy="Take a run of the same split.",
        )
    return run


_THEN = ", then "


def _then(starts: Sequence[Run]) -> str:
    if len(starts) == 1:
        return f"{starts[0].facts['pretrained']}{_THEN}the run {starts[0].name}"
    return f"{_root(starts[0])}{_THEN}the mean of the runs {', '.join(run.name for run in starts)}"


def _root(run: Run) -> str:
    """Where the first weights of the first run came from; random ones are told apart by their seed."""
    root = str(run.facts["pretrained"]).partition(_THEN)[0]
    return f"none, seed {run.recipe.train.seed}" if root == "none" else root


def _first(part: ModelPart) -> str:
    if part.weights == "none":
        return "none"
    if part.weights == "timm":
        weights = timm.get_pretrained_cfg(part.backbone)
        return f"timm {weights.hf_hub_id if weights and weights.hf_hub_id else part.backbone}"
    source = weights_source(part.weights)
    return Path(part.weights).name + (f" ({source})" if source else "")


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
