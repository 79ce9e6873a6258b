"""A bundle's network as torch would run it, with random weights: for speed to be compared with."""

from __future__ import annotations

from melascope.bundle.manifest import Manifest
from melascope.learning.backbones import Classifier, build_network, side_by_side
from melascope.learning.recipe import ModelPart


def torch_network(manifest: Manifest) -> Classifier:
    """Of the same backbones and views, in evaluation mode."""
    architecture, spec = manifest.architecture, manifest.preprocess
    networks = [
        build_network(
            ModelPart(
                backbone=backbone,
                weights="none",
                classes=manifest.classes,
                mirrors=architecture.mirrors,
                zooms=architecture.zooms,
            ),
            in_chans=spec.channels,
        ).eval()
        for backbone in architecture.backbone.split(" + ")
    ]
    return side_by_side(networks, [spec] * len(networks))
