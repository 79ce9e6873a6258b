"""Our own small CNN: the baseline, from 28x28 grayscale up."""

from __future__ import annotations

from torch import Tensor, nn


class SimpleCnn(nn.Module):
    """Four stages of two 3x3 convolutions with batch norm and ReLU, each stage half as large and twice as wide.

    Three poolings leave a 3x3 feature map of 28x28; the head averages over the map, so any size goes. 1.2 million
    parameters at width 32.

    Parameters
    ----------
    in_chans
        1 for grayscale, 3 for colour.
    width
        Channels of the first stage.
    """

    def __init__(self, in_chans: int = 3, width: int = 32) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.num_features = widths[-1]
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(before, after), _conv(after, after))
            for before, after in zip([in_chans, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        """Features, shape (n, 8 * width, height / 8, width / 8); 28 gives 3x3."""
        x: Tensor = self.stages[0](pixels_NCHW)
        for stage in list(self.stages)[1:]:
            x = stage(self.pool(x))
        return x


def _conv(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )
