"""The heatmap's weights are the network's, or the bundle does not verify."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from melascope.bundle.store import CAM_WEIGHT, Bundle, reference_bytes
from melascope.errors import BundleError
from melascope.runtime.verify import check_head


def test_the_weights_of_the_last_layer_verify(tiny_bundle: Bundle) -> None:
    check_head(tiny_bundle)


@settings(deadline=None, max_examples=20)
@given(row=st.integers(0, 6), column=st.integers(0, 5), change=st.sampled_from([-0.5, 0.1, 3.0]))
def test_another_weight_does_not(  # type: ignore[no-untyped-def]
    tmp_path_factory, make_bundle, tiny_weights, row: int, column: int, change: float
) -> None:
    other_KF = tiny_weights["weight"].copy()
    other_KF[row, column] += change
    files = {"reference.npz": reference_bytes({CAM_WEIGHT: other_KF})}
    with pytest.raises(
        BundleError, match=r"reference\.npz are not those .*embedding times the weights vary by"
    ):
        check_head(make_bundle(tmp_path_factory.mktemp("b") / "b.zip", files=files))


def test_another_bias_is_of_no_matter(
    make_bundle: Callable[..., Bundle], tiny_network: Callable[..., bytes], tmp_path: Path
) -> None:
    network = tiny_network(bias=np.arange(7, dtype=np.float32))
    check_head(make_bundle(tmp_path / "b.zip", files={"model.onnx": network}))


def test_a_map_that_is_not_what_the_network_pools_does_not_verify(
    make_bundle: Callable[..., Bundle], tiny_network: Callable[..., bytes], tmp_path: Path
) -> None:
    model = onnx.load_from_string(tiny_network())
    for node in model.graph.node:  # the heatmap's map is squared, what is pooled is not
        node.output[:] = ["relu" if name == "features" else name for name in node.output]
        node.input[:] = ["relu" if name == "features" else name for name in node.input]
    model.graph.node.append(helper.make_node("Mul", ["relu", "relu"], ["features"]))
    files = {"model.onnx": model.SerializeToString()}
    with pytest.raises(BundleError, match="features times the weights vary"):
        check_head(make_bundle(tmp_path / "b.zip", files=files))
