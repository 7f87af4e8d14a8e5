"""Reading an image file, as wide as nnU-Net does. Which library reads which kind of file is said here alone."""

import errno
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.files.lengths import check_claim, check_file
from nnunet_shapekd.files.nifti import (
    EITHER,
    NIBABEL,
    NOT_FINITE,
    all_finite,
    header_of,
    is_orthonormal,
    itk_header,
    nifti_header,
    read_nifti,
    reason_of,
    write_by_nibabel,
)
from nnunet_shapekd.files.space import Space, of_itk, read_spacing, spacing_file, without_a_space

NIFTI_ENDINGS, TIFF_ENDINGS = (".nii", ".nii.gz"), (".tif", ".tiff")
#: Endings of pictures, which have no spacing that means something: pixels are the unit, as for nnU-Net.
PICTURE_ENDINGS = (".png", ".bmp", *TIFF_ENDINGS)
#: nnU-Net's readers that tell a file's meaning where its ending does not: ``image_reader_writer`` in plans.json
NIBABEL_READERS, TIFF_VOLUMES, PICTURES = ("NibabelIO", "NibabelIOWithReorient"), "Tiff3DIO", "NaturalImage2DIO"


@dataclass(frozen=True)
class Image:
    """What an image file holds.

    Attributes:
        values: shape (z, y, x) or (y, x), with a last axis of channels where there are several; in the file's type,
            bool for a picture of one bit.
        spacing: size of a voxel along each axis of space of ``values``, in ``unit``.
        origin: position of the first voxel in the file's axes (x, y[, z]), in ``unit``.
        direction: the file's direction matrix, row by row.
        unit: "mm", or "px" for pictures and volumes without a spacing.
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
    def space(self) -> Space:
        """Where the voxels lie."""
        return Space(self.shape, self.spacing, self.origin, self.direction, self.unit, self.channels)

    @property
    def is_picture(self) -> bool:
        """Whether it has no spacing, and its axes are rows and columns."""
        return self.unit == "px" and len(self.spacing) == 2


def read_image(path: Path, finite: bool = True, reader: str | None = None) -> Image:
    """Read an image from NIfTI, PNG, BMP, TIFF, or what else SimpleITK reads.

    Args:
        path: the file.
        finite: whether NaN and infinite values are an error.
        reader: nnU-Net's, by its name in the plans; by default what nnU-Net would take for the file.

    Raises:
        ValueError: naming the file and what is the matter with it, if it cannot be read, is cut short, or has values
            that are not finite.
    """
    if path.name.lower().endswith(NIFTI_ENDINGS):
        return _channels_last(of_sitk(read_nifti(path, finite, _libraries(reader))))
    space = read_space(path, reader)
    try:
        picture = path.name.lower().endswith(PICTURE_ENDINGS)
        image = _of_pixels(path, space) if picture else _channels_last(of_sitk(sitk.ReadImage(str(path))))
    except Exception as error:  # each reader of pictures has its own for a broken file
        raise ValueError(f"{path}: cannot be read ({reason_of(error)}); make it again") from None
    if finite and image.values.dtype.kind == "f" and not all_finite(image.values):
        raise ValueError(f"{path}: {NOT_FINITE}")
    return image


def read_space(path: Path, reader: str | None = None) -> Space:
    """What an image file says before its voxels, which are not read; arguments and errors as of :func:`read_image`."""
    check_file(path)
    name = path.name.lower()
    if name.endswith(NIFTI_ENDINGS):
        return of_itk(*nifti_header(path, _libraries(reader)))
    try:
        if name.endswith(TIFF_ENDINGS):
            shape, n_bytes = _tiff(path)
        elif name.endswith(PICTURE_ENDINGS):
            space, n_bytes = _picture(path)
        else:
            header = itk_header(path)
            space = of_itk(*header_of(header))
            bits = int(re.search(r"(\d+)-bit", sitk.GetPixelIDValueAsString(header.GetPixelID()))[1])
            n_bytes = math.prod(space.shape) * space.channels * bits // 8
    except Exception as error:  # likewise
        raise ValueError(f"{path}: cannot be read ({reason_of(error)}); make it again") from None
    check_claim(path, n_bytes)
    return _space_of_tiff(path, shape, reader) if name.endswith(TIFF_ENDINGS) else space


def _picture(path: Path) -> tuple[Space, int]:
    """As nnU-Net's NaturalImage2DIO has it, and the bytes of its pixels at least."""
    from PIL import Image as Pillow

    with Pillow.open(path) as picture:
        bands = 3 if picture.mode == "P" else len(picture.getbands())  # a palette's colours
        return without_a_space(picture.size[::-1], channels=bands), math.prod(picture.size) * bands // 8


def _tiff(path: Path) -> tuple[tuple[int, ...], int]:
    """Shape, and bytes of the pixels."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        return tuple(series.shape), series.nbytes


def _space_of_tiff(path: Path, shape: tuple[int, ...], reader: str | None) -> Space:
    """Of a picture, or of a volume as nnU-Net's Tiff3DIO has it: which, the plans' reader or a spacing beside it says.

    Else it is a picture where it can be one, as nnU-Net asks NaturalImage2DIO first; scikit-image takes three or four
    slices for colours.
    """
    said = spacing_file(path)
    colours = next((axis for axis in (2, 0) if len(shape) == 3 and shape[axis] in (3, 4)), None)
    if len(shape) == 3 and (reader == TIFF_VOLUMES or reader != PICTURES and (said or colours is None)):
        return without_a_space(shape, read_spacing(said) if said else None)
    if reader != TIFF_VOLUMES and (len(shape) == 2 or colours is not None):
        rest = tuple(n for axis, n in enumerate(shape) if axis != colours)
        return without_a_space(rest, channels=1 if colours is None else shape[colours])
    expected = {TIFF_VOLUMES: "three axes", PICTURES: "two axes and colours"}.get(reader, "two or three axes")
    raise ValueError(f"{path}: expected an image of {expected}, got shape {shape}")


def _of_pixels(path: Path, space: Space) -> Image:
    """As nnU-Net reads them: SimpleITK takes a grey BMP for colours, and one bit for 0 and 255."""
    if len(space.shape) == 3:
        import tifffile

        values = tifffile.imread(path)
    else:
        from skimage.io import imread  # takes as long to import as SimpleITK, and most data sets have none

        values = np.asarray(imread(path))
    channels = values.shape[-1] if values.ndim > len(space.shape) else 1  # a palette's may be three or four
    return Image(values, space.spacing, space.origin, space.direction, space.unit, channels)


def of_sitk(image: sitk.Image) -> Image:
    """SimpleITK's image, copied."""
    space = image.GetSpacing()[::-1], image.GetOrigin(), image.GetDirection()
    return Image(sitk.GetArrayFromImage(image), *space, "mm", image.GetNumberOfComponentsPerPixel())


def _channels_last(image: Image) -> Image:
    """A fourth axis, the file's last, is that of the channels, as for nnU-Net."""
    if len(image.spacing) != 4:
        return image
    space = of_itk(image.shape[::-1], image.spacing[::-1], image.origin, image.direction, image.channels)
    values = np.moveaxis(image.values, 0, -1) if space.channels > 1 else image.values[0]
    return Image(values, space.spacing, space.origin, space.direction, space.unit, space.channels)


def _libraries(reader: str | None) -> Sequence[str]:
    return (NIBABEL,) if reader in NIBABEL_READERS else EITHER


def write_image(values: np.ndarray, like: Image, path: Path, compress: bool = True) -> None:
    """Write values, shape (z, y, x) or (y, x), in another image's geometry, as nnU-Net's readers read them."""
    name = path.name.lower()
    if name.endswith(TIFF_ENDINGS) and values.ndim == 3:
        import tifffile

        tifffile.imwrite(path, values, compression="zlib" if compress else None, photometric="minisblack")
        if like.unit == "mm":
            path.with_name(f"{path.stem}.json").write_text(json.dumps({"spacing": like.spacing}), encoding="utf-8")
        return
    if name.endswith(NIFTI_ENDINGS) and not is_orthonormal(like.direction):
        write_by_nibabel(values, like.spacing, like.origin, like.direction, path)
        return
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(like.spacing[::-1])
    image.SetOrigin(like.origin)
    image.SetDirection(like.direction)
    write_by_itk(image, path, compress)


def write_by_itk(image: sitk.Image, path: Path, compress: bool = True) -> None:
    """Write SimpleITK's image.

    Raises:
        OSError: naming the file, if it is not whole: ITK 5.4 does not notice that a disk is full.
    """
    sitk.WriteImage(image, str(path), useCompression=compress)
    try:
        read_space(path)
    except ValueError:
        raise OSError(errno.EIO, "was not written whole, is the disk full?", str(path)) from None
