"""A small drawn dataset that a network can learn: dark blots are melanomas, reddish ones nevi, gray ones keratoses."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from melascope.domain.case import Case
from melascope.domain.diagnosis import Diagnosis
from melascope.learning.recipe import Recipe, parse_recipe

COLOURS = {Diagnosis.MEL: (70, 40, 35), Diagnosis.NV: (170, 90, 70), Diagnosis.BKL: (140, 130, 125)}
CLASSES = tuple(COLOURS)


def drawn_cases(folder: Path, n: int = 300) -> list[Case]:
    """n cases in lesions of two images; every tenth nevus says only that it is no melanoma."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    cases = []
    for i in range(n):
        diagnosis = CLASSES[(i // 2) % 3]
        pixels = np.full((48, 64, 3), (215, 175, 155)) + rng.normal(0, 6, (48, 64, 3))
        y, x = np.mgrid[:48, :64]
        inside = np.hypot(x - rng.uniform(22, 42), y - rng.uniform(18, 30)) < rng.uniform(10, 16)
        pixels[inside] = np.array(COLOURS[diagnosis]) + rng.normal(0, 10, (int(inside.sum()), 3))
        path = folder / f"drawn_{i:03}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
        coarse = diagnosis is Diagnosis.NV and i % 10 == 2
        cases.append(
            Case(
                image_id=path.stem,
                path=str(path),
                diagnosis=Diagnosis.UNK if coarse else diagnosis,
                melanoma=diagnosis is Diagnosis.MEL,
                lesion_id=f"lesion_{i // 2}",
                source="drawn",
                split=("train", "train", "train", "val", "test")[(i // 2) // 3 % 5],
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            )
        )
    return cases


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return drawn_cases(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return parse_recipe(
        {
            "name": "tiny",
            "model": {
                "backbone": "simple_cnn",
                "weights": "none",
                "classes": [str(c) for c in CLASSES],
                "dropout": 0.1,
            },
            "preprocess": {"size_px": 28, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)},
            "augment": {"mixup_alpha": 0.2, "cutmix_alpha": 0.5},
            "optim": {"lr": 0.003, "backbone_lr_factor": 1.0},
            "train": {
                "epochs": 4,
                "batch_size": 16,
                "cache_px": 32,
                "precision": "32-true",
                "ema_decay": 0.5,
                "monitor": "val_loss",
            },
        },
        name="tiny",
    )
