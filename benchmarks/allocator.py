"""What keeping freed memory is worth in training: steps of MobileNetV2 with and without `keep_freed_memory`.

Run on an otherwise idle machine: `.venv/bin/python benchmarks/allocator.py`. Each way runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import time

BATCH, SIZE_PX, STEPS = 64, 192, 12


def images_per_second(*, keep: bool) -> float:
    """Of forward, backward and optimiser step in bf16 on random pixels."""
    import torch

    from melascope.learning.backbones import build_network
    from melascope.learning.fit import keep_freed_memory
    from melascope.learning.recipe import ModelPart

    if keep:
        keep_freed_memory()
    network = build_network(ModelPart(backbone="mobilenetv2_100", weights="none"), in_chans=3)
    network = network.to(memory_format=torch.channels_last).train()
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


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(images_per_second(keep=sys.argv[1] == "keep"))
    else:
        rates = {
            way: float(
                subprocess.run(
                    [sys.executable, __file__, way], capture_output=True, text=True, check=True
                ).stdout
            )
            for way in ("give-back", "keep", "give-back", "keep")
        }
        print(", ".join(f"{way}: {rate:.1f} images/s" for way, rate in rates.items()))
        print(f"ratio {rates['keep'] / rates['give-back']:.2f}")
