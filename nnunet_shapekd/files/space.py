"""Where the voxels of an image lie, and in what two such spaces differ."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

# Headers are rounded to 32 bits, and a prediction's may have gone through another library.
SPACING_TOLERANCE = 1e-4  # relative
ORIGIN_TOLERANCE_MM = 1e-2
DIRECTION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Space:
    """What an image file says before its voxels.

    Attributes:
        shape: voxels along each axis of space, (z, y, x) or (y, x).
        spacing: size of a voxel along these axes, in ``unit``.
        origin: position of the first voxel in the file's axes (x, y[, z]), in ``unit``.
        direction: the file's direction matrix, row by row.
        unit: "mm", or "px" where the file says no spacing.
        channels: how many.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    unit: str
    channels: int = 1


class HasSpace(Protocol):
    """A :class:`Space`, or an image that has these attributes."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


def of_itk(
    size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float], components: int
) -> Space:
    """A space from what SimpleITK says; a fourth axis is that of the channels, as for nnU-Net."""
    n = min(len(size), 3)
    matrix = np.reshape(direction, (len(size), len(size)))[:n, :n] + 0.0  # no -0
    channels = components * math.prod(size[3:])
    return Space(
        tuple(size[:n][::-1]),
        tuple(spacing[:n][::-1]),
        tuple(origin[:n]),
        tuple(matrix.ravel().tolist()),
        "mm",
        channels,
    )


def without_a_space(shape: Sequence[int], spacing: Sequence[float] | None = None, channels: int = 1) -> Space:
    """Of a file that says no spacing, or one without a place: pixels are the unit, as for nnU-Net."""
    n = len(shape)
    given = (1.0,) * n if spacing is None else tuple(spacing)
    return Space(
        tuple(shape), given, (0.0,) * n, tuple(np.eye(n).ravel().tolist()), "px" if spacing is None else "mm", channels
    )


def spacing_file(path: Path) -> Path | None:
    """The JSON in which nnU-Net keeps the spacing of a volume in TIFF, if there is one.

    It is called like a label map, and like an image without its channel: CASE.json for CASE_0000.tif.
    """
    named = re.sub(r"_\d{4}$", "", path.stem)
    found = (path.with_name(f"{stem}.json") for stem in dict.fromkeys((path.stem, named)))
    return next((file for file in found if file.is_file()), None)


def read_spacing(path: Path) -> tuple[float, ...]:
    """The spacing along the axes (z, y, x) in such a file; raises ValueError, naming it."""
    try:
        spacing = json.loads(path.read_text(encoding="utf-8"))["spacing"]
        if len(spacing) == 3 and all(type(one) in (int, float) and 0 < one < math.inf for one in spacing):
            return tuple(map(float, spacing))
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise ValueError(f'{path}: expected {{"spacing": [Z, Y, X]}}, three sizes of a voxel in mm') from None


def differing(
    reference: HasSpace,
    other: HasSpace,
    called: str = "the reference",
    spacing_tolerance: float = SPACING_TOLERANCE,
    origin_tolerance_mm: float = ORIGIN_TOLERANCE_MM,
) -> dict[str, str]:
    """In what the two spaces differ: "shape", "spacing", "origin" or "orientation" -> in words. Empty: not at all.

    A volume of one slice and an image of two axes have no place in common; only shape and spacing are compared.

    Args:
        reference: the space that is right.
        other: the one that is compared.
        called: what the first one is called.
        spacing_tolerance: relative.
        origin_tolerance_mm: of each coordinate.
    """
    shapes, spacings = _slices(reference, other)
    if shapes[0] != shapes[1]:
        return {"shape": f"shape {other.shape} differs from {called}'s {reference.shape}"}
    checks = [("spacing", *spacings, {"rtol": spacing_tolerance, "atol": 0})]
    if len(reference.shape) == len(other.shape):
        checks += [
            ("origin", reference.origin, other.origin, {"rtol": 0, "atol": origin_tolerance_mm}),
            ("orientation", reference.direction, other.direction, {"rtol": 0, "atol": DIRECTION_TOLERANCE}),
        ]
    return {
        what: f"{what} {_rounded(theirs)} differs from {called}'s {_rounded(ours)}"
        for what, ours, theirs, tolerance in checks
        if not np.allclose(theirs, ours, **tolerance)
    }


def _slices(*spaces: HasSpace) -> tuple[list[tuple[int, ...]], list[tuple[float, ...]]]:
    """Shapes and spacings of the same number of axes: of more of them, one of a single voxel is left out."""
    shapes, spacings = [one.shape for one in spaces], [one.spacing for one in spaces]
    flat = min(shapes, key=len)
    for i, shape in enumerate(shapes):
        if len(shape) != len(flat) + 1:
            continue
        for axis in (axis for axis, n in enumerate(shape) if n == 1):
            rest = tuple(n for other, n in enumerate(shape) if other != axis)
            if rest == flat:
                shapes[i] = rest
                spacings[i] = tuple(s for other, s in enumerate(spacings[i]) if other != axis)
                break
    return shapes, spacings


def _rounded(numbers: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{number:.6g}" for number in numbers) + ")"
