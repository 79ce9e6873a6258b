"""What the remedies of `learning.cpu` are worth: training steps on this CPU without them and with them.

Run on an otherwise idle machine: `.venv/bin/python benchmarks/training.py`, about five minutes. Each way runs twice, in
a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import time

BATCH, SIZE_PX, STEPS = 64, 192, 12
NETWORKS = ("mobilenetv2_100", "tf_efficientnet_lite2")
WAYS = ("plain", "freed memory kept", "and slow depthwise in float32")


def images_per_second(backbone: str, way: str) -> float:
    """Of forward, backward and optimiser step in bf16 on random pixels."""
    import torch

    from melascope.learning.backbones import build_network
    from melascope.learning.cpu import keep_freed_memory, widen_slow_depthwise
    from melascope.learning.recipe import ModelPart

    if WAYS.index(way) > 0:
        keep_freed_memory()
    network = build_network(ModelPart(backbone=backbone, weights="none"), in_chans=3)
    network = network.to(memory_format=torch.channels_last).train()
    if WAYS.index(way) > 1:
        widen_slow_depthwise(network)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    target = torch.randint(0, 7, (BATCH,))
    began = 0.0
    for step in range(STEPS + 3):
        if step == 3:  # the first steps warm up
            began = time.perf_counter()
        pixels = torch.randn(BATCH, 3, SIZE_PX, SIZE_PX).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(network(pixels).logits.float(), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return STEPS * BATCH / (time.perf_counter() - began)


def main() -> None:
    """Measure all ways in turn, twice; print rates and ratios."""
    for backbone in NETWORKS:
        rates = dict.fromkeys(WAYS, 0.0)
        for way in WAYS * 2:
            command = [sys.executable, __file__, backbone, way]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            rates[way] = max(rates[way], float(told))
        for way, rate in rates.items():
            print(f"{backbone:22} {way:30} {rate:6.1f} images/s, ratio {rate / rates['plain']:.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(images_per_second(*sys.argv[1:]))
    else:
        main()
