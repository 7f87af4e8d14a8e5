"""Image files of nnU-Net's, read to be shifted and written as they were."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_shapekd.files import images
from nnunet_shapekd.files.images import Image


@dataclass(frozen=True)
class ImageFile:
    """An image file of nnU-Net's: one channel, or a picture's colours.

    Attributes:
        values: (channels, x, y, z) in the file's type; of a picture (colours, rows, columns, 1).
        spacing: of the last three axes.
        file: as it was read, with the geometry, and the opacity of a picture that has one.
    """

    values: np.ndarray
    spacing: tuple[float, float, float]
    file: Image


def as_volume(image: Image) -> np.ndarray:
    """A file's axes (z, y, x), (y, x) or, of a picture, (rows, columns) as (x, y, z); of its first channel."""
    array = image.values if image.channels == 1 else image.values[..., 0]
    array = array if image.is_picture else array.T
    return array[..., None] if array.ndim == 2 else array


def read_image(path: Path, reader: str | None = None) -> ImageFile:
    """Read an image file.

    Raises:
        ValueError: if it cannot be read, is no image of two or three axes, holds values that are not finite, or is a
            picture of one bit.
    """
    image = images.read_image(path, reader=reader)
    if image.values.dtype == bool:  # would be written as 0 and 255, where nnU-Net reads 0 and 1
        raise ValueError(f"{path}: expected grey or colours, got a picture of one bit; save it in 8 bits")
    if image.channels not in ((1, 3, 4) if image.is_picture else (1,)) or len(image.shape) not in (2, 3):
        raise ValueError(
            f"{path}: expected two or three axes and one channel, or a picture in grey, RGB or RGBA, got "
            f"{len(image.shape)} axes and {image.channels} channels"
        )
    if image.channels == 1:
        return ImageFile(as_volume(image)[None], (*image.spacing[::-1], 1.0)[:3], image)
    return ImageFile(np.moveaxis(image.values[..., :3], -1, 0)[..., None], (1.0, 1.0, 1.0), image)


def write_image(values: np.ndarray, like: ImageFile, path: Path) -> None:
    """Write intensities in another image's type and geometry.

    Args:
        values: (channels, x, y, z), within the range of ``like``.
        like: the image they were made of.
        path: the file.
    """
    kind = like.values.dtype
    values = (np.rint(values) if kind.kind in "iub" else values).astype(kind)
    if like.file.is_picture:
        from skimage.io import imsave

        array = np.moveaxis(values[..., 0], 0, -1)
        array = array[..., 0] if array.shape[-1] == 1 else array
        array = np.dstack([array, like.file.values[..., 3]]) if like.file.channels == 4 else array
        imsave(path, array, check_contrast=False)
        return
    array = values[0] if len(like.file.shape) == 3 else values[0, ..., 0]
    images.write_image(np.ascontiguousarray(array.T), like.file, path, compress=path.name.endswith(".gz"))
