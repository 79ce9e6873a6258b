"""A tiny real bundle, so that what serves can be tested without training anything."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from melascope.bundle.store import CAM_WEIGHT, Bundle, read_bundle, reference_bytes, write_bundle
from melascope.cli.main import run
from melascope.domain.diagnosis import ISIC2018_CLASSES

SIZE_PX, N_FEATURES, N_CLASSES = 32, 6, len(ISIC2018_CLASSES)


def _tiny_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {
        "kernel": rng.normal(0, 0.3, (N_FEATURES, 3, 4, 4)).astype(np.float32),
        "kernel_bias": rng.normal(0, 0.1, N_FEATURES).astype(np.float32),
        "weight": rng.normal(0, 1.0, (N_CLASSES, N_FEATURES)).astype(np.float32),
        "bias": rng.normal(0, 0.1, N_CLASSES).astype(np.float32),
    }


def _tiny_network(
    *, size_px: int = SIZE_PX, rename: dict[str, str] | None = None, **weights: np.ndarray
) -> bytes:
    """conv -> relu (features) -> global average pool (embedding) -> gemm (logits)."""
    arrays = {**_tiny_weights(), **weights}
    n_classes, n_features = arrays["weight"].shape
    side = size_px // 4
    nodes = [
        helper.make_node("Conv", ["pixels", "kernel", "kernel_bias"], ["conv"], strides=[4, 4]),
        helper.make_node("Relu", ["conv"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "weight", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, size_px, size_px])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", n_classes]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", n_features]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", n_features, side, side]),
        ],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    renamed = rename or {}
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = renamed.get(value.name, value.name)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _tiny_fields(**changes: Any) -> dict[str, Any]:
    point = {
        "target": "sensitivity",
        "confidence": 0.9,
        "lower_bound": 0.95,
        "sensitivity_interval": (0.9, 0.99),
        "specificity_interval": (0.6, 0.85),
        "n_melanoma": 120,
        "n_other": 880,
    }
    fields: dict[str, Any] = {
        "name": "tiny",
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "classes": ISIC2018_CLASSES,
        "architecture": {"backbone": "tiny_cnn", "parameters": 343, "pretrained": "none"},
        "preprocess": {"size_px": SIZE_PX},
        "calibration": {
            "method": "bias-corrected-temperature",
            "scale_C": (0.8,) * 7,
            "bias_C": (0.1, -0.2, 0.0, 0.05, 0.0, 0.3, -0.1),
            "prevalence_C": (0.12, 0.6, 0.06, 0.04, 0.14, 0.02, 0.02),
            "n_cases": 1000,
            "n_groups": 900,
        },
        "operating_points": (
            point | {"name": "sensitivity-95", "target_value": 0.95, "threshold": 0.09, "sensitivity": 0.95,
                     "specificity": 0.65},
            point | {"name": "sensitivity-90", "target_value": 0.9, "threshold": 0.2, "sensitivity": 0.9,
                     "specificity": 0.8},
        ),
        "default_operating_point": "sensitivity-95",
        "training": {
            "sources": {"drawn": 10},
            "n_images": 10,
            "n_groups": 10,
            "class_counts": {"MEL": 5, "NV": 5},
            "fingerprint": "0" * 64,
        },
        "measurements": (
            {
                "name": "drawn, held out",
                "n_images": 4,
                "n_groups": 4,
                "n_melanoma": 2,
                "figures": {"AUROC": {"value": 0.75, "low": 0.5, "high": 0.9}, "F1": {"value": None}},
                "command": "melascope evaluate predictions.csv",
            },
        ),
        "licence": "CC0-1.0",
        "attributions": ("nobody",),
        "intended_use": "For tests; it knows nothing of skin.",
        "library_versions": {"numpy": np.__version__},
    }  # fmt: skip
    return fields | changes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The browser's tests come last: playwright keeps an event loop running, in which no other can be started."""
    items.sort(key=lambda item: "e2e" in item.path.parts)


@pytest.fixture(scope="session")
def tiny_network() -> Callable[..., bytes]:
    """Makes the tiny ONNX file; options change its size, the names of its tensors or its weights."""
    return _tiny_network


@pytest.fixture(scope="session")
def tiny_weights() -> dict[str, np.ndarray]:
    """The tiny network's weights: kernel, kernel_bias, weight, bias."""
    return _tiny_weights()


@pytest.fixture(scope="session")
def tiny_files() -> dict[str, bytes]:
    """The files of the tiny bundle, short of its manifest."""
    reference = reference_bytes({CAM_WEIGHT: _tiny_weights()["weight"]})
    return {
        "model.onnx": _tiny_network(),
        "reference.npz": reference,
        "MODEL_CARD.md": b"# Tiny\n\nFor tests.\n",
    }


@pytest.fixture(scope="session")
def tiny_fields() -> Callable[..., dict[str, Any]]:
    """Makes the tiny bundle's manifest fields; keywords replace some."""
    return _tiny_fields


@pytest.fixture(scope="session")
def make_bundle(
    tiny_files: dict[str, bytes],
) -> Callable[..., Bundle]:
    """Writes a tiny bundle: `make_bundle(path, files={...}, **manifest_fields)`."""

    def make(path: Path, *, files: dict[str, bytes] | None = None, **fields: Any) -> Bundle:
        return write_bundle(path, _tiny_fields(**fields), tiny_files | (files or {}))

    return make


@pytest.fixture(scope="session")
def tiny_bundle_path(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Bundle]) -> Path:
    """The tiny bundle as a zip."""
    path = tmp_path_factory.mktemp("bundle") / "tiny.zip"
    make_bundle(path)
    return path


@pytest.fixture(scope="session")
def tiny_bundle(tiny_bundle_path: Path) -> Bundle:
    """A bundle of seven classes whose network reads 32 x 32 pixels and has random weights."""
    return read_bundle(tiny_bundle_path)


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """What a command line left: its exit status and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def melascope_cli(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny_bundle_path: Path,
    tmp_path: Path,
) -> Callable[..., CommandResult]:
    """Runs a command line in this process, with the tiny bundle active and no other."""
    monkeypatch.setenv("MELASCOPE_BUNDLES", str(tmp_path / "bundles"))
    monkeypatch.setenv("MELASCOPE_BUNDLE", str(tiny_bundle_path))

    def run_line(*arguments: object) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["melascope", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run()
        captured = capsys.readouterr()
        return CommandResult(status=int(ended.value.code or 0), out=captured.out, err=captured.err)

    return run_line
