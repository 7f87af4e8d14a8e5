"""Rows of pictures in one PNG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_shapekd.drawing import drawing, outline
from nnunet_shapekd.files.output import new_file


@dataclass(frozen=True)
class Panel:
    """One picture of the figure.

    Attributes:
        title: above it.
        picture: ``(rows, columns)`` float, or ``(rows, columns, 3)`` float colours from 0 to 1.
        note: below it.
        brightest: the value drawn brightest, 0 being darkest, of a picture without colours.
        outlines: masks ``(rows, columns)`` bool to draw around, each with its colour and line style.
    """

    title: str
    picture: np.ndarray
    note: str = ""
    brightest: float = 1.0
    outlines: Sequence[tuple[np.ndarray, tuple[str, str]]] = ()


def draw(
    rows: Sequence[Sequence[Panel | None]],
    path: Path,
    aspect: float = 1.0,
    legend: Sequence[tuple[str, tuple[str, str]]] = (),
    caption: str = "",
) -> None:
    """Draw rows of panels into a PNG, which is written whole or not at all.

    Args:
        rows: equally many panels each, all of one size; ``None`` leaves a place empty.
        path: the file to write or replace.
        aspect: height of a pixel over its width.
        legend: names, each with its colour and line style.
        caption: lines below the panels; long ones are wrapped.
    """
    height, width = rows[0][0].picture.shape[:2]
    columns = len(rows[0])
    panel_inches = float(np.clip(3 * aspect * height / width, 1.2, 5))
    lines = [line for text in caption.splitlines() for line in textwrap.wrap(text, 51 * columns)]
    size = 3.1 * columns, (panel_inches + 0.5) * len(rows) + 0.16 * len(lines) + 0.4
    with drawing():
        figure = Figure(figsize=size, layout="constrained")
        for row, axes in zip(rows, figure.subplots(len(rows), columns, squeeze=False), strict=True):
            for panel, ax in zip(row, axes, strict=True):
                if panel is None:
                    ax.axis("off")
                else:
                    _draw_panel(ax, panel, aspect)
        if legend:
            figure.legend(
                handles=[Line2D([], [], color=c, linestyle=d, linewidth=4, label=name) for name, (c, d) in legend],
                loc="outside upper center",
                ncols=min(len(legend), 6),
            )
        if lines:
            figure.supxlabel("\n".join(lines), fontsize=7.5, x=0.01, ha="left")
        with new_file(path) as unfinished:
            figure.savefig(unfinished, dpi=150, format="png")


def _draw_panel(ax: Axes, panel: Panel, aspect: float) -> None:
    ax.imshow(panel.picture, cmap="inferno", vmin=0, vmax=panel.brightest, aspect=aspect, interpolation="nearest")
    for mask, (colour, dashes) in panel.outlines:
        outline(ax, mask, colour, dashes, width=1.4)
    height, width = panel.picture.shape[:2]
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[], title=panel.title)
    ax.spines[:].set_visible(False)
    ax.set_xlabel(panel.note, fontsize=8)
