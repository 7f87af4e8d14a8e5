"""Reading an image file. Which library reads which kind of file is said here alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.files.nifti import read_nifti, reason_of

#: Endings of pictures, which have no spacing that means something: pixels are the unit, as for nnU-Net.
PICTURE_ENDINGS = (".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Image:
    """What an image file holds.

    Attributes:
        values: shape (z, y, x) or (y, x), with a last axis of channels where there are several; in the file's type,
            bool for a picture of one bit.
        spacing: size of a voxel along each axis of space of ``values``, in ``unit``.
        origin: position of the first voxel in the file's axes (x, y[, z]), in ``unit``.
        direction: the file's direction matrix, row by row.
        unit: "mm", or "px" for pictures.
        channels: how many.
    """

    values: np.ndarray
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    unit: str
    channels: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis of space."""
        return self.values.shape[: len(self.spacing)]

    @property
    def is_picture(self) -> bool:
        """Whether it has no spacing, and its axes are rows and columns."""
        return self.unit == "px"


def read_image(path: Path, finite: bool = True) -> Image:
    """Read an image from NIfTI, PNG, BMP, TIFF, or what else SimpleITK reads.

    Args:
        path: the file.
        finite: whether NaN and infinite values are an error.

    Raises:
        ValueError: naming the file, if it cannot be read, is cut short, or has values that are not finite; or is a
            picture of several pages.
    """
    if not path.is_file():
        raise ValueError(f"{path}: is not there any more")
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return of_sitk(read_nifti(path, finite))
    try:
        image = _read_picture(path) if name.endswith(PICTURE_ENDINGS) else of_sitk(sitk.ReadImage(str(path)))
    except Exception as error:  # each reader of pictures has its own for a broken file
        raise ValueError(f"{path}: cannot be read ({reason_of(error)}); make it again") from None
    if image.is_picture and image.values.ndim != 2 + (image.channels > 1):
        raise ValueError(f"{path}: is a volume without a spacing; save it as NIfTI or NRRD, which hold one")
    if finite and image.values.dtype.kind == "f" and not np.isfinite(image.values).all():
        raise ValueError(f"{path}: has NaN or infinite values; replace them")
    return image


def _read_picture(path: Path) -> Image:
    """As nnU-Net's NaturalImage2DIO reads it: SimpleITK takes a grey BMP for colours, and one bit for 0 and 255."""
    from skimage.io import imread  # takes as long to import as SimpleITK, and most data sets have none

    values = np.asarray(imread(path))
    channels = values.shape[2] if values.ndim == 3 and values.shape[2] in (2, 3, 4) else 1
    return Image(values, (1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0), "px", channels)


def of_sitk(image: sitk.Image) -> Image:
    """SimpleITK's image, copied."""
    space = image.GetSpacing()[::-1], image.GetOrigin(), image.GetDirection()
    return Image(sitk.GetArrayFromImage(image), *space, "mm", image.GetNumberOfComponentsPerPixel())


def write_image(values: np.ndarray, like: Image, path: Path, compress: bool = True) -> None:
    """Write values, shape (z, y, x) or (y, x), in another image's geometry, by SimpleITK."""
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(like.spacing[::-1])
    image.SetOrigin(like.origin)
    image.SetDirection(like.direction)
    sitk.WriteImage(image, str(path), useCompression=compress)
