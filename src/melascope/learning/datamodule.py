"""Cases and cached pixels as batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from melascope.datasets.cache import PixelCache, Progress, open_cache
from melascope.domain.case import Case
from melascope.learning.augment import augment, mix, normalise
from melascope.learning.losses import allowed_classes, sampling_weights
from melascope.learning.recipe import Recipe


class Batch(NamedTuple):
    """One batch, as the dataset gives it and as it reaches the network (there with `pixels` NCHW, float)."""

    pixels: Tensor  #: uint8 NHWC from the cache, then float NCHW
    aspect_N: Tensor
    allowed_NC: Tensor  #: classes that each label allows
    source_N: Tensor  #: index of the source
    row_N: Tensor  #: index of the case
    partner_N: Tensor  #: whose label takes the rest of the share
    share_N: Tensor  #: of the case's own label; 1 without mixup


class CaseDataset(Dataset[Batch]):
    """Cases with their pixels; an item is a whole batch, given the indices of its cases."""

    def __init__(
        self, cases: Sequence[Case], cache: PixelCache, recipe: Recipe, sources: Sequence[str]
    ) -> None:
        self.cases = tuple(cases)
        self.cache = cache
        self.rows_N = cache.rows(cases)
        self.allowed_NC = allowed_classes(cases, recipe.model.classes)
        self.source_N = np.array([sources.index(case.source or "") for case in cases], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        index_N = np.asarray(indices, dtype=np.int64)
        n = len(index_N)
        rows_N = self.rows_N[index_N]
        return Batch(
            pixels=torch.from_numpy(np.stack([self.cache.pixels_NHWC[row] for row in rows_N])),
            aspect_N=torch.from_numpy(self.cache.aspect_N[rows_N]),
            allowed_NC=torch.from_numpy(self.allowed_NC[index_N]),
            source_N=torch.from_numpy(self.source_N[index_N]),
            row_N=torch.from_numpy(index_N),
            partner_N=torch.arange(n),
            share_N=torch.ones(n),
        )


class EpochSampler(Sampler[list[int]]):
    """Batches in an order that depends on seed and epoch alone, so that a resumed run goes the same way.

    With `weight_N` cases are drawn with replacement in proportion to it; else each comes once. The last batch is
    left out where it is short: batch norm wants full ones.
    """

    def __init__(
        self,
        n_cases: int,
        batch_size: int,
        *,
        seed: int,
        weight_N: NDArray[np.float64] | None = None,
        rank: int = 0,
        world_size: int = 1,
        first_epoch: int = 0,
    ) -> None:
        self.n_cases, self.batch_size, self.seed, self.weight_N = (
            n_cases,
            min(batch_size, n_cases),
            seed,
            weight_N,
        )
        self.rank, self.world_size = rank, world_size
        self.epoch = first_epoch  # loaders with processes of their own begin before `set_epoch` is called

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, self.n_cases // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        if self.weight_N is None:
            order = generator.permutation(self.n_cases)
        else:
            order = generator.choice(self.n_cases, self.n_cases, p=self.weight_N / self.weight_N.sum())
        own = order[self.rank :: self.world_size]
        for start in range(len(self)):
            yield own[start * self.batch_size : (start + 1) * self.batch_size].tolist()


class CaseData(L.LightningDataModule):
    """Training, validation and prediction batches of one case table.

    Parameters
    ----------
    train, evaluate
        Cases to learn from, and all others that the network is to be judged on. `val` are those of `evaluate`
        whose split is "val".
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        train: Sequence[Case],
        val: Sequence[Case],
        evaluate: Sequence[Case],
        cache_folder: Path,
        progress: Progress | None = None,
        workers: int = 0,
        first_epoch: int = 0,
    ) -> None:
        super().__init__()
        self.recipe, self.workers, self.first_epoch = recipe, workers, first_epoch
        self.sources = sorted({case.source or "" for case in (*train, *val, *evaluate)})
        whole = replace(recipe.preprocess, size_px=recipe.train.cache_px, resize="squash", zoom=1.0)
        self.train_set = CaseDataset(
            train, open_cache(train, whole, cache_folder, progress=progress), recipe, self.sources
        )
        seen = [*val, *evaluate]
        judged = open_cache(seen, recipe.preprocess, cache_folder, progress=progress)
        self.val_set = CaseDataset(val, judged, recipe, self.sources)
        self.evaluate_set = CaseDataset(evaluate, judged, recipe, self.sources)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled (or drawn) batches; augmentation happens after the transfer to the device."""
        drawn = self.recipe.loss.imbalance == "sampling"
        weight_N = sampling_weights(self.train_set.allowed_NC, self.recipe.loss.power) if drawn else None
        trainer = self.trainer
        sampler = EpochSampler(
            len(self.train_set),
            self.recipe.train.batch_size,
            seed=self.recipe.train.seed,
            weight_N=weight_N,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            first_epoch=self.first_epoch,
        )
        return self._loader(self.train_set, sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation cases in order."""
        return self._loader(self.val_set, self._in_order(self.val_set))

    def predict_dataloader(self) -> DataLoader[Batch]:
        """All cases to be judged, in order."""
        return self._loader(self.evaluate_set, self._in_order(self.evaluate_set))

    def _in_order(self, dataset: CaseDataset) -> list[list[int]]:
        size = self.recipe.train.batch_size
        return [list(range(start, min(start + size, len(dataset)))) for start in range(0, len(dataset), size)]

    def _loader(
        self, dataset: CaseDataset, batches: Sampler[list[int]] | list[list[int]]
    ) -> DataLoader[Batch]:
        # `sampler` rather than `batch_sampler`: an item of the dataset is already a batch. A generator of its own:
        # beginning an epoch must draw nothing from the global one, which a resumed run begins at another moment.
        return DataLoader(
            dataset,
            sampler=batches,
            batch_size=None,
            num_workers=self.workers,
            generator=torch.Generator().manual_seed(self.recipe.train.seed),
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: augment while training, normalise always."""
        if self.trainer is None or not self.trainer.training:
            return self.prepare(batch, training=False)
        return self.prepare(batch, training=True, epoch=self.trainer.current_epoch)

    def prepare(self, batch: Batch, *, training: bool, epoch: int = 0) -> Batch:
        """Cached pixels to a network's input; `epoch` is that of training, the first being 0."""
        spec = self.recipe.preprocess
        if training:
            views = augment(
                batch.pixels,
                batch.aspect_N,
                self.recipe.augment,
                size_px=self.recipe.train_size_px_at(epoch),
                resize=spec.resize,
            )
            pixels, partner_N, share_N = mix(normalise(views, spec.mean, spec.std), self.recipe.augment)
            batch = batch._replace(partner_N=partner_N, share_N=share_N)
        else:
            pixels = normalise(batch.pixels.permute(0, 3, 1, 2).float() / 255.0, spec.mean, spec.std)
        return batch._replace(pixels=pixels.contiguous(memory_format=torch.channels_last))
