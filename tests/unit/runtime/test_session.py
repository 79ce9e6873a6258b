"""The door to ONNX Runtime: shared sessions, the contract, faults."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from melascope.bundle.store import Bundle
from melascope.errors import BundleError, UsageError
from melascope.runtime.session import session_for

Make = Callable[..., Bundle]


def pixels(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3, 32, 32)).astype(np.float32)


def test_one_session_a_bundle_and_thread_count(
    tiny_bundle: Bundle, tmp_path: Path, make_bundle: Make
) -> None:
    with ThreadPoolExecutor(4) as pool:
        sessions = set(pool.map(lambda _: session_for(tiny_bundle, threads=1), range(20)))
    assert len(sessions) == 1
    assert session_for(make_bundle(tmp_path / "again.zip"), threads=1) in sessions
    assert session_for(tiny_bundle, threads=2) not in sessions
    assert session_for(make_bundle(tmp_path / "other.zip", licence="MIT"), threads=1) not in sessions


def test_many_threads_get_the_answers_that_one_gets(tiny_bundle: Bundle) -> None:
    session = session_for(tiny_bundle, threads=2)
    alone = [session.run(pixels(3, seed), ("logits",))[0] for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seed: session.run(pixels(3, seed), ("logits",))[0], range(40)))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_senseless_numbers_of_threads_are_refused(tiny_bundle: Bundle, threads: int) -> None:
    with pytest.raises(UsageError, match=f"threads is {threads}"):
        session_for(tiny_bundle, threads=threads)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rename": {"pixels": "image"}}, r"has the inputs \['image'\]"),
        ({"rename": {"embedding": "emb"}}, "'embedding' is missing"),
        ({"rename": {"features": "embedding", "embedding": "features"}}, "gives embedding of shape"),
        ({"size_px": 64}, r"reads images of shape \[3, 64, 64\], the manifest makes \(3, 32, 32\)"),
        ({"weight": np.zeros((3, 6), np.float32), "bias": np.zeros(3, np.float32)}, "gives logits of shape"),
    ],
)
def test_a_network_that_breaks_the_contract_is_refused(
    tmp_path: Path, make_bundle: Make, tiny_network: Callable[..., bytes], options: dict, message: str
) -> None:
    bundle = make_bundle(tmp_path / "b.zip", files={"model.onnx": tiny_network(**options)})
    with pytest.raises(BundleError, match=message):
        session_for(bundle)


def test_a_network_that_cannot_be_loaded_is_a_bundle_error(
    tmp_path: Path, make_bundle: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BundleError, match="cannot load the network"):
        session_for(make_bundle(tmp_path / "b.zip", files={"model.onnx": b"\x08\x09junk"}))
    assert capfd.readouterr().err == ""


def test_a_batch_that_fails_is_a_bundle_error(tiny_bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BundleError, match="failed on a batch of shape"):
        session_for(tiny_bundle).run(np.zeros((1, 3, 8, 8), np.float32), ("logits",))
    assert capfd.readouterr().err == ""
