"""Fewer bits than float32: eight-bit integers, which an ordinary CPU computes faster, or weights of sixteen bits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from melascope.datasets.files import open_case_bytes
from melascope.domain.case import Case
from melascope.imaging.decode import decode_image
from melascope.imaging.preprocess import PreprocessSpec, preprocess
from melascope.runtime.session import INPUT

#: Convolutions that stay float32: near the pixels the ranges of channels differ so widely that one scale for all of
#: them loses what the quiet ones say (docs/experiments.md).
N_FIRST_LEFT = 4
_OPERATORS = ["Conv", "Add", "Clip"]
_N_SAMPLE, _BATCH = 128, 4


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterable[NDArray[np.float32]]) -> None:
        self._batches: Iterator[NDArray[np.float32]] = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def halve(graph: bytes) -> bytes:
    """The graph with the weights of its convolutions in sixteen bits: half the size, computed in float32 as before.

    A node of the graph widens them; runtimes do so once, when they load it.
    """
    model = onnx.load_from_string(graph)
    weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    widening = []
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            half = onnx.numpy_helper.from_array(
                onnx.numpy_helper.to_array(tensor).astype(np.float16), f"{tensor.name}.float16"
            )
            widening.append(
                onnx.helper.make_node("Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT)
            )
            tensor.CopyFrom(half)
    nodes = [*widening, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    halved: bytes = model.SerializeToString()
    return halved


def quantise(graph: bytes, batches: Iterable[NDArray[np.float32]]) -> bytes:
    """The graph with its convolutions in eight bits.

    Weights get a scale for each output channel, activations one for each tensor: from its least to its greatest value
    over the batches. Weights use seven of the eight bits: with all of them, processors without VNNI instructions
    saturate where they add two products, and would answer otherwise than the one that measured.

    Parameters
    ----------
    batches
        Pixels of photographs as the network reads them, each of shape (n, channels, size_px, size_px).
    """
    with tempfile.TemporaryDirectory() as name:
        plain, prepared, quantised = (
            Path(name) / f"{stage}.onnx" for stage in ("plain", "prepared", "quantised")
        )
        plain.write_bytes(graph)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            _Batches(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=_OPERATORS,
            nodes_to_exclude=_left_as_they_are(onnx.load(prepared).graph),
        )
        return quantised.read_bytes()


def _left_as_they_are(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes before any convolution, and of the first `N_FIRST_LEFT` of these in each network."""
    passed: dict[str, int] = {}  # convolutions before a tensor; the nodes of a graph stand in order
    left = []
    for node in graph.node:
        n_before = max((passed.get(name, 0) for name in node.input), default=0)
        is_convolution = node.op_type == "Conv"
        if n_before == 0 or (is_convolution and n_before < N_FIRST_LEFT):
            left.append(node.name)
        passed.update(dict.fromkeys(node.output, n_before + is_convolution))
    return left


def sample_pixels(cases: Sequence[Case], spec: PreprocessSpec) -> Iterator[NDArray[np.float32]]:
    """Batches of photographs evenly spread over the cases, as the network reads them."""
    chosen = [cases[row] for row in np.unique(np.linspace(0, len(cases) - 1, _N_SAMPLE).astype(int))]
    for start in range(0, len(chosen), _BATCH):
        images = [
            decode_image(open_case_bytes(case.path), name=case.image_id).pixels_HWC
            for case in chosen[start : start + _BATCH]
        ]
        yield preprocess(images, spec)
