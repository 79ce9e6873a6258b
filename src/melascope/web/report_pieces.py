"""What reportlab lacks for the reports: pages that know how many they are, framed pictures, lines cut to their room."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from reportlab.lib.colors import HexColor, black, white
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Image as Picture

_EDGE = HexColor("#8a9599")


class NumberedCanvas(Canvas):  # type: ignore[misc]  # reportlab has no types
    """Keeps its pages until all are drawn, then has each finished by `at_end(canvas, number, of how many)`."""

    def __init__(self, *arguments: Any, at_end: Callable[[Canvas, int, int], None], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._at_end = at_end
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:
        """End a page."""
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Finish the pages and write them."""
        for n, page in enumerate(self._pages, start=1):
            self.__dict__.update(page)
            self._at_end(self, n, len(self._pages))
            super().showPage()
        super().save()


class FramedPicture(Picture):  # type: ignore[misc]
    """A picture within a thin line, so that a white one is seen too, and a dashed frame on it where there is one.

    Parameters
    ----------
    frame
        Left, top, width, height in points from the picture's upper left corner.
    """

    def __init__(
        self, data: bytes, *, width: float, height: float, frame: tuple[float, float, float, float] | None
    ) -> None:
        super().__init__(io.BytesIO(data), width=width, height=height, hAlign="LEFT")
        self._frame = frame

    def draw(self) -> None:
        super().draw()
        canvas: Canvas = self.canv
        canvas.setLineWidth(0.5)
        canvas.setStrokeColor(_EDGE)
        canvas.rect(0, 0, self.drawWidth, self.drawHeight)
        if self._frame is None:
            return
        left, top, width, height = self._frame
        canvas.setLineWidth(0.9)
        for colour, dashes in ((black, ()), (white, (3, 3))):  # seen on light skin and on dark
            canvas.setStrokeColor(colour)
            canvas.setDash(*dashes)
            canvas.rect(left, self.drawHeight - top - height, width, height)
        canvas.setDash()


def shortened(text: str, font: str, size: float, width: float) -> str:
    """As much of a line as there is room for, in points."""
    if stringWidth(text, font, size) <= width:
        return text
    room = width - stringWidth("\N{HORIZONTAL ELLIPSIS}", font, size)
    kept = bisect_right(range(1, len(text)), room, key=lambda n: stringWidth(text[:n], font, size))
    return f"{text[:kept]}\N{HORIZONTAL ELLIPSIS}"
