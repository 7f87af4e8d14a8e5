"""Label maps on the disk: what one says, which of its values nobody knows, whether two lie in the same space."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
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
    return as_label_map(read_image(path), path)


def as_label_map(image: Image, path: Path) -> LabelMap:
    """An image's values as integer labels; raises ValueError, naming the file, as :func:`read_label_map`."""
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


def unknown_labels(
    path: Path, found: Iterable[int], known: Collection[int], advice: str, shown_as: Callable[[int], str] = str
) -> list[str]:
    """What is wrong with the label values found in a file: one line, or none where all of them are known.

    Args:
        path: the file.
        found: as of :func:`values_in`.
        known: values that a label may have.
        advice: what to do; VALUE in it stands for the first of the unknown ones.
        shown_as: how a value is written.
    """
    unknown = [value for value in found if value not in known]
    if not unknown:
        return []
    shown = ", ".join(map(shown_as, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
    return [
        f"{path}: unknown label value{'s' * (len(unknown) > 1)} {shown}; known are "
        f"{', '.join(map(shown_as, sorted(known)))}; {advice.replace('VALUE', shown_as(unknown[0]))}"
    ]


def relabel(values: np.ndarray, new_of: Mapping[int, int]) -> np.ndarray:
    """Every value's new one, in the smallest unsigned type; what is not in the mapping becomes 0."""
    table = np.zeros(max([*new_of, int(values.max())]) + 1, np.uint8 if max(new_of.values()) < 256 else np.uint16)
    table[list(new_of)] = list(new_of.values())
    return table[values]


def differences(
    reference: Image,
    other: Image,
    called: str = "the reference",
    spacing_tolerance: float = SPACING_TOLERANCE,
    origin_tolerance_mm: float = ORIGIN_TOLERANCE_MM,
) -> list[str]:
    """In what the two spaces differ; an empty list is the same space.

    Args:
        reference: the space that is right.
        other: the one that is compared.
        called: what the first one is called.
        spacing_tolerance: relative.
        origin_tolerance_mm: of each coordinate.
    """
    if reference.shape != other.shape:
        return [f"shape {other.shape} differs from {called}'s {reference.shape}"]
    checks = (
        ("spacing", reference.spacing, other.spacing, {"rtol": spacing_tolerance, "atol": 0}),
        ("origin", reference.origin, other.origin, {"rtol": 0, "atol": origin_tolerance_mm}),
        ("orientation", reference.direction, other.direction, {"rtol": 0, "atol": DIRECTION_TOLERANCE}),
    )
    return [
        f"{what} {_rounded(theirs)} differs from {called}'s {_rounded(ours)}"
        for what, ours, theirs, tolerance in checks
        if not np.allclose(theirs, ours, **tolerance)
    ]


def _rounded(numbers: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{number:.6g}" for number in numbers) + ")"
