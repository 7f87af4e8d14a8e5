"""Label maps on the disk: what one says, which of its values nobody knows, whether two lie in the same space."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from nnunet_shapekd.files.images import Image, read_image

# Headers are rounded to 32 bits, and a prediction's may have gone through another library.
SPACING_TOLERANCE = 1e-4  # relative
ORIGIN_TOLERANCE_MM = 1e-2
DIRECTION_TOLERANCE = 1e-3
#: values below this are counted, which is faster than sorting them
_COUNTED = 2**16


class LabelMap(Image):
    """Integer labels of one image, shape (z, y, x) or (y, x)."""


def read_label_map(path: Path) -> LabelMap:
    """Read a label map, as :func:`~.images.read_image` reads images.

    Raises:
        ValueError: if the file cannot be read, is cut short, has several channels, or values that are no integers.
    """
    image = read_image(path)
    if image.channels != 1:
        raise ValueError(f"{path}: expected one channel of class indices, got {image.channels}; save it as one")
    values = image.values
    if values.size == 0:
        raise ValueError(f"{path}: has no voxels, its shape is {values.shape}; make it again")
    if values.dtype.kind == "f":
        if (values != np.rint(values)).any():
            raise ValueError(f"{path}: expected integer labels, got NaN, infinite or fractional values; correct it")
        values = values.astype(np.int64)
    elif values.dtype.kind == "b":
        values = values.astype(np.uint8)
    return LabelMap(values, image.spacing, image.origin, image.direction, image.unit)


def values_in(values: np.ndarray) -> list[int]:
    """The different integers in an array, ascending."""
    if values.min() < 0 or values.max() >= _COUNTED:
        return np.unique(values).tolist()
    return np.flatnonzero(np.bincount(values.ravel().astype(np.int64, copy=False))).tolist()


def unknown_labels(path: Path, values: np.ndarray, known: Collection[int], advice: str) -> list[str]:
    """What is wrong with a file's label values, in one line with the advice; nothing where all of them are known."""
    unknown = [value for value in values_in(values) if value not in known]
    if not unknown:
        return []
    shown = ", ".join(map(str, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
    return [
        f"{path}: unknown label value{'s' * (len(unknown) > 1)} {shown}; known are "
        f"{', '.join(map(str, sorted(known)))}; {advice}"
    ]


def relabel(values: np.ndarray, new_of: Mapping[int, int]) -> np.ndarray:
    """Every value's new one, in the smallest unsigned type; what is not in the mapping becomes 0."""
    table = np.zeros(max([*new_of, int(values.max())]) + 1, np.uint8 if max(new_of.values()) < 256 else np.uint16)
    table[list(new_of)] = list(new_of.values())
    return table[values]


def differences(reference: Image, other: Image) -> list[str]:
    """In what the two spaces differ; an empty list is the same space."""
    if reference.shape != other.shape:
        return [f"shape {other.shape} differs from the reference's {reference.shape}"]
    checks = (
        ("spacing", reference.spacing, other.spacing, {"rtol": SPACING_TOLERANCE, "atol": 0}),
        ("origin", reference.origin, other.origin, {"rtol": 0, "atol": ORIGIN_TOLERANCE_MM}),
        ("orientation", reference.direction, other.direction, {"rtol": 0, "atol": DIRECTION_TOLERANCE}),
    )
    return [
        f"{what} {_rounded(theirs)} differs from the reference's {_rounded(ours)}"
        for what, ours, theirs, tolerance in checks
        if not np.allclose(theirs, ours, **tolerance)
    ]


def _rounded(numbers: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{number:.6g}" for number in numbers) + ")"
