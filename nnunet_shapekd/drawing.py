"""What every picture of this package shares: colours, line styles, matplotlib's settings, names in lines, PNG bytes."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from contourpy import contour_generator
from matplotlib import patheffects, style
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

#: Okabe and Ito's palette, distinguishable by colour-blind readers; light ones first: they are drawn over images
COLOURS = ("#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
DPI = 130
MOST_INCHES = 60000 / DPI  # matplotlib draws less than 2 ** 16 pixels
LINE_STYLES = ("solid", "dashed", "dotted", "dashdot")
_SETTINGS = {
    "font.size": 10,
    "figure.titlesize": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "text.parse_math": False,  # a "$" in a name is a dollar
}


@contextmanager
def drawing() -> Iterator[None]:
    """Settings all figures are made and rendered with, whatever the process has set (nnU-Net's own plots do)."""
    with style.context(["default", _SETTINGS]), warnings.catch_warnings():
        # matplotlib's own font lacks some scripts: boxes stand for their letters
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        yield


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file, without empty margins."""
    buffer = io.BytesIO()
    with drawing():
        figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.05)
    return buffer.getvalue()


def class_styles(classes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Class -> (colour, line style), the same everywhere; beyond seven classes the line style tells them apart."""
    n = len(COLOURS)
    return {name: (COLOURS[i % n], LINE_STYLES[i // n % len(LINE_STYLES)]) for i, name in enumerate(classes)}


def outline(ax: Axes, mask: np.ndarray, colour: str, dashes: str, width: float = 1.6) -> None:
    """Draw around a mask (rows, columns) of the image that ``ax`` shows; closed where it meets the image's edge."""
    if not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)
    y, x = (np.arange(length) - 1 for length in padded.shape)
    # what ax.contour does, without its colour maps, which take most of the time where there are many classes
    around = contour_generator(x, y, padded, line_type="Separate").lines(0.5)
    lines = LineCollection(around, colors=[colour], linewidths=width, linestyles=dashes)
    # a dark seam, so that light lines are seen on bright tissue, too
    lines.set_path_effects([patheffects.withStroke(linewidth=1.75 * width, foreground="black", alpha=0.55)])
    ax.add_collection(lines, autolim=False)  # the image has set the limits


def words(name: str) -> list[str]:
    """The pieces of a name between which it may be broken: after ``_ - . /``, blanks, and at camelCase."""
    return [piece for piece in re.split(r"(?<=[_\-./\s])|(?<=[a-z0-9])(?=[A-Z])", name) if piece]


def wrapped(name: str, width: int = 20) -> str:
    """``name`` in lines of at most ``width`` characters, broken where its words end if it can be."""
    lines = [""]
    for word in words(name):
        for part in textwrap.wrap(word, width, drop_whitespace=False):
            if lines[-1] and len(lines[-1]) + len(part) > width:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.strip() for line in lines)
