"""What an answer costs: decoding, preprocessing, the network, the whole assessment, beside torch on the same network.

Run on an otherwise idle machine: `make bench`. Prints milliseconds an image and ratios to the bare network in ONNX
Runtime, all from one run; writes benchmarks/results/assess.json.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch_network import torch_network

from melascope.bundle.catalogue import load_bundle
from melascope.imaging.appearance import appearance
from melascope.imaging.decode import decode_image
from melascope.imaging.preprocess import preprocess
from melascope.imaging.quality import examine
from melascope.runtime.assessor import Assessor
from melascope.runtime.novelty import novelty_model
from melascope.runtime.session import default_threads

ROOT = Path(__file__).parents[1]
ROUNDS = 60


def milliseconds(call: Callable[[], object]) -> float:
    """Median of many calls, after a few that do not count."""
    for _ in range(5):
        call()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    reference = sys.argv[1] if len(sys.argv) > 1 else None
    bundle = load_bundle(reference)
    assessor = Assessor(bundle)
    spec = bundle.manifest.preprocess
    data = (ROOT / "examples" / "drawn-lesion.png").read_bytes()
    image = decode_image(data, name="drawn-lesion.png")
    pixels = preprocess([image.pixels_HWC], spec)
    torch.set_num_threads(default_threads())
    network = torch_network(bundle.manifest)
    tensor = torch.from_numpy(np.array(pixels))

    def by_torch() -> object:
        with torch.inference_mode():
            return network(tensor).logits

    prepared, terms = assessor.prepare(image), assessor.terms()
    (seen,) = assessor.look([prepared])
    (embedding,) = assessor.session.run(pixels, ("embedding",))
    novelty = novelty_model(bundle)
    measured = {
        "network (ONNX Runtime)": milliseconds(lambda: assessor.session.run(pixels, ("logits",))),
        "network (torch, same architecture)": milliseconds(by_torch),
        "decode": milliseconds(lambda: decode_image(data, name="drawn-lesion.png")),
        "preprocess": milliseconds(lambda: preprocess([image.pixels_HWC], spec)),
        "quality of the photograph": milliseconds(lambda: examine(image.pixels_HWC)),
        "novelty": milliseconds(
            lambda: novelty and novelty.score(embedding, appearance(prepared.pixels_HWC)[None])
        ),
        "decision and its reasons": milliseconds(lambda: assessor.conclude(prepared, seen, terms)),
        "assess": milliseconds(lambda: assessor.assess([image])),
        "decode and assess, with heatmap": milliseconds(
            lambda: assessor.assess([decode_image(data, name="drawn-lesion.png")], heatmap=True)
        ),
    }
    base = measured["network (ONNX Runtime)"]
    print(f"{bundle.id}, {default_threads()} threads, {image.width_px}x{image.height_px} PNG")
    for name, value in measured.items():
        print(f"{name:38} {value:8.2f} ms   {value / base:6.2f} x")
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    record = {
        "bundle": bundle.id,
        "threads": default_threads(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "torch": str(torch.__version__),
        "milliseconds": {name: round(value, 3) for name, value in measured.items()},
        "ratio_to_network": {name: round(value / base, 3) for name, value in measured.items()},
    }
    (results / "assess.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
