"""How the report's plots are drawn: as SVG that takes the page's text colour and asks no host for anything."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#010203"  #: becomes currentColor: dark on a light page, light on a dark one
#: Told apart by the colour-blind too, and on either page.
MELANOMA, OTHER, POINT, PALE = "#c2573a", "#4a86c5", "#8a6fc0", "#8b959e"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def svg(name: str, draw: Callable[[Figure], None], *, width_in: float = 5.0, height_in: float = 4.6) -> str:
    """An `<svg>` element; `name` describes it and keeps its inner ids apart from those of the page's others."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    element = buffer.getvalue()
    element = element[element.index("<svg") :].replace(INK, "currentColor")
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'(<svg [^>]*?)width="[^"]*" |height="[^"]*" (?=[^>]*viewBox)', r"\1", element, count=2)
    return element.replace("<svg ", f'<svg role="img" aria-label="{name}" class="plot" ', 1)
