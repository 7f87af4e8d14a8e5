"""Label maps on the disk: what one says, and whether two lie in the same space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.files.nifti import read_nifti

#: Endings without a spacing that means something: pixels are the unit (nnU-Net's NaturalImage2DIO, and TIFF).
PIXEL_ENDINGS = (".png", ".bmp", ".tif", ".tiff")
# Headers are rounded to 32 bits, and a prediction's may have gone through another library.
SPACING_TOLERANCE = 1e-4  # relative
ORIGIN_TOLERANCE_MM = 1e-2
DIRECTION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class LabelMap:
    """Integer labels of one image.

    Attributes:
        values: integers, shape (z, y, x) or (y, x).
        spacing: size of a voxel along each axis of ``values``, in ``unit``.
        origin: position of the first voxel in the file's axes (x, y[, z]), in ``unit``.
        direction: the file's direction matrix, row by row.
        unit: "mm", or "px" for files that hold no spacing.
    """

    values: np.ndarray
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    unit: str


def read_label_map(path: Path) -> LabelMap:
    """Read a label map from NIfTI, NRRD, MHA, PNG or what else SimpleITK reads.

    Raises:
        ValueError: if the file cannot be read, is cut short, has several channels, or values that are no integers.
    """
    if not path.is_file():
        raise ValueError(f"{path}: is not there any more")
    if path.name.endswith((".nii", ".nii.gz")):
        image = read_nifti(path)
    else:
        try:
            image = sitk.ReadImage(str(path))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ValueError(f"{path}: cannot be read ({reason}); make it again") from None
    channels = image.GetNumberOfComponentsPerPixel()
    if channels != 1:
        raise ValueError(f"{path}: expected one channel of class indices, got {channels}; save it as one")
    values = sitk.GetArrayFromImage(image)
    if values.size == 0:
        raise ValueError(f"{path}: has no voxels, its shape is {values.shape}; make it again")
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.rint(values)).any():
            raise ValueError(f"{path}: expected integer labels, got NaN, infinite or fractional values; correct it")
        values = values.astype(np.int64)
    if path.name.lower().endswith(PIXEL_ENDINGS):
        size = image.GetDimension()
        if size != 2:
            raise ValueError(f"{path}: is a volume without a spacing; save it as NIfTI or NRRD, which hold one")
        if set(np.unique(values).tolist()) == {0, 255} and _is_one_bit(path):
            values = values // 255
        return LabelMap(values, (1.0,) * size, (0.0,) * size, tuple(np.eye(size).ravel()), "px")
    return LabelMap(values, image.GetSpacing()[::-1], image.GetOrigin(), image.GetDirection(), "mm")


def _is_one_bit(path: Path) -> bool:
    """Whether a picture has one bit a pixel, which nnU-Net reads as 0 and 1, and SimpleITK as 0 and 255."""
    from PIL import Image

    with Image.open(path) as picture:
        return picture.mode == "1"


def differences(reference: LabelMap, prediction: LabelMap) -> list[str]:
    """In what the two spaces differ; an empty list is the same space."""
    if reference.values.shape != prediction.values.shape:
        return [f"shape {prediction.values.shape} differs from the reference's {reference.values.shape}"]
    checks = (
        ("spacing", reference.spacing, prediction.spacing, {"rtol": SPACING_TOLERANCE, "atol": 0}),
        ("origin", reference.origin, prediction.origin, {"rtol": 0, "atol": ORIGIN_TOLERANCE_MM}),
        ("orientation", reference.direction, prediction.direction, {"rtol": 0, "atol": DIRECTION_TOLERANCE}),
    )
    return [
        f"{what} {_rounded(theirs)} differs from the reference's {_rounded(ours)}"
        for what, ours, theirs, tolerance in checks
        if not np.allclose(theirs, ours, **tolerance)
    ]


def _rounded(numbers: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{number:.6g}" for number in numbers) + ")"
