"""What all pictures share: their colours, and how they become files."""

from __future__ import annotations

import io
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, PALE, GRID = "#30363d", "#8a929b", "#b8bec6", "#e6e8eb"
BLUE, RED, ORANGE, GREEN = "#1f6f9f", "#d1495b", "#d98a29", "#2a9d5c"


def to_png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file, without a date or a version in it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def draw_grid(axes: Axes, direction: Literal["both", "x", "y"] = "both") -> None:
    """Thin lines behind the data, along x, along y or both."""
    axes.grid(axis=direction, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
