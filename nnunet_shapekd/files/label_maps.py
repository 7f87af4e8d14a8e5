"""Label maps on the disk: what one says, which of its values nobody knows, whether two lie in the same space."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from nnunet_shapekd.files.images import Image, read_image

#: values below this are counted, which is faster than sorting them
_COUNTED = 2**16


class LabelMap(Image):
    """Integer labels of one image, shape (z, y, x) or (y, x)."""


def read_label_map(path: Path, reader: str | None = None) -> LabelMap:
    """Read a label map, as :func:`~.images.read_image` reads images.

    Raises:
        ValueError: if the file cannot be read, is cut short, has several channels, or values that are no integers.
    """
    return as_label_map(read_image(path, finite=False, reader=reader), path)


def as_label_map(image: Image, path: Path) -> LabelMap:
    """An image's values as integer labels; raises ValueError, naming the file, as :func:`read_label_map`."""
    if image.channels != 1:
        raise ValueError(f"{path}: expected one channel of class indices, got {image.channels}; save it as one")
    values = image.values
    if values.size == 0:
        raise ValueError(f"{path}: has no voxels, its shape is {values.shape}; make it again")
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())  # NaN where one is
        small = low >= 0 and high < _COUNTED
        kind = np.uint8 if small and high < 256 else np.uint16 if small else np.int64
        with np.errstate(invalid="ignore"):
            integers = values.astype(kind)
        if not (np.isfinite([low, high]).all() and np.array_equal(integers, values)):
            raise ValueError(f"{path}: expected integer labels, got NaN, infinite or fractional values; correct it")
        values = integers
    elif values.dtype.kind == "b":
        values = values.astype(np.uint8)
    elif values.dtype.kind not in "iu":
        raise ValueError(f"{path}: expected integer labels, got {values.dtype}; correct it")
    return LabelMap(values, image.spacing, image.origin, image.direction, image.unit)


def values_in(values: np.ndarray) -> list[int]:
    """The different integers in an array, ascending."""
    if values.min() < 0 or values.max() >= _COUNTED:
        return np.unique(values).tolist()
    found = np.zeros(_COUNTED, bool)
    for part in values.reshape(len(values), -1):  # one at a time: as an index each value takes eight bytes
        found[part] = True
    return np.flatnonzero(found).tolist()


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
