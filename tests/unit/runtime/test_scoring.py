"""Many images: in order, in bounded memory, bad ones refused alone, equal after an interruption."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from melascope.bundle.store import Bundle
from melascope.domain.image import RgbImage
from melascope.errors import EmptyImageError
from melascope.runtime.assessor import Assessor
from melascope.runtime.scoring import score

BAD = (3, 4, 10)


def load(seed: int) -> RgbImage:
    if seed in BAD:
        raise EmptyImageError(f"{seed} is empty.")
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return RgbImage(pixels_HWC=pixels, name=str(seed), format="PNG", sha256="0" * 64)


def loaders(n: int) -> list[Callable[[], RgbImage]]:
    return [partial(load, seed) for seed in range(n)]


@pytest.fixture
def assessor(tiny_bundle: Bundle) -> Assessor:
    return Assessor(tiny_bundle, threads=1, batch_size=4)


def test_every_input_is_answered_once_in_order(assessor: Assessor) -> None:
    batches = list(score(assessor, loaders(14)))
    assert [batch.stop for batch in batches] == [4, 8, 12, 14]
    assert [n for batch in batches for n in batch.scored] == [n for n in range(14) if n not in BAD]
    assert [(n, fault.message) for batch in batches for n, fault in batch.refused] == [
        (n, f"{n} is empty.") for n in BAD
    ]
    together = np.stack([seen.logits_C for batch in batches for seen in batch.seen])
    assert [image.name for batch in batches for image in batch.prepared] == [
        str(n) for n in range(14) if n not in BAD
    ]
    alone = assessor.logits([load(n) for n in range(14) if n not in BAD])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_work_taken_up_equals_uninterrupted_work_bit_for_bit(assessor: Assessor) -> None:
    whole = list(score(assessor, loaders(14)))
    rest = list(score(assessor, loaders(14), start=8))
    logits = [[seen.logits_C.tolist() for batch in run for seen in batch.seen] for run in (whole[2:], rest)]
    assert logits[0] == logits[1]


def test_a_batch_of_bad_images_alone_is_empty(tiny_bundle: Bundle) -> None:
    (batch,) = score(Assessor(tiny_bundle, batch_size=2), [partial(load, 3), partial(load, 4)])
    assert batch.scored == ()
    assert batch.seen == ()


def test_no_more_images_are_decoded_at_once_than_asked_nor_too_far_ahead(assessor: Assessor) -> None:
    lock, busy, most, started = threading.Lock(), 0, 0, 0

    def counted(seed: int) -> RgbImage:
        nonlocal busy, most, started
        with lock:
            busy, started = busy + 1, started + 1
            most = max(most, busy)
        image = load(seed + 100)
        with lock:
            busy -= 1
        return image

    batches = score(assessor, [partial(counted, seed) for seed in range(100)], decoders=2)
    next(batches)
    assert started <= 12  # the batch and two ahead
    batches.close()  # type: ignore[attr-defined]
    assert started <= 12
    assert most <= 2


def test_a_fault_that_is_no_refusal_ends_the_work(assessor: Assessor) -> None:
    def broken() -> RgbImage:
        raise RuntimeError("a defect of the program")

    with pytest.raises(RuntimeError, match="a defect"):
        list(score(assessor, [*loaders(2), broken]))
