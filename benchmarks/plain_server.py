"""What one would write in an afternoon: FastAPI, torch and timm, the same network and its class activation map.

For `benchmarks/serve.py` to compare with; random weights, as what it answers does not matter there.
"""

from __future__ import annotations

import io
import socket
import sys

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request
from PIL import Image
from torch_network import torch_network

from melascope.bundle.manifest import Manifest
from melascope.runtime.session import default_threads

manifest = Manifest.model_validate_json(sys.argv[1])
spec = manifest.preprocess
torch.set_num_threads(default_threads())
network = torch_network(manifest)
mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (spec.mean, spec.std))
app = FastAPI()


@app.get("/api/v1/ready")
def ready() -> str:
    """It is up."""
    return "ready"


@app.post("/api/v1/assess")
async def assess(request: Request) -> dict[str, object]:
    """Decode, run, answer."""
    image = Image.open(io.BytesIO(await request.body())).convert("RGB").resize((spec.size_px, spec.size_px))
    pixels = (torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255 - mean) / std
    with torch.inference_mode():
        outputs = network(pixels[None])
        heatmap = outputs.features[0].mean(0).relu()
    return {"probabilities": outputs.logits.softmax(1)[0].tolist(), "heatmap": heatmap.tolist()}


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listening])
