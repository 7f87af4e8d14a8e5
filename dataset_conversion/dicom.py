"""A volume from the DICOM files of its slices, ordered by where they lie and not by their names or numbers."""

import contextlib
import locale
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.dataset_conversion.target import ConversionError
from nnunet_shapekd.files.nifti import reason_of

#: gaps between slices may differ by this share
_UNEVEN = 0.02


@contextlib.contextmanager
def same_locale() -> Iterator[None]:
    """DICOM's library sets the process's locale to C, in which Python would write and read text as ASCII."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def read_series(paths: Sequence[Path]) -> tuple[sitk.Image, list[Path]]:
    """The volume of slices, and their files in its order.

    The unique numbers in the files are not looked at: anonymised sets have one of its own in each file.

    Args:
        paths: a file a slice, two or more.

    Raises:
        ConversionError: listing what is wrong: files that cannot be read, slices of different size, spacing or
            direction, two in one place, or a gap.
    """
    slices, problems = [], []
    for path in paths:
        try:
            with same_locale():
                image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
        except RuntimeError as error:
            problems.append(f"{path}: cannot be read ({reason_of(error)}); restore it from the download")
            continue
        slices.append((image, path))
    if problems:
        raise ConversionError(problems)
    first = slices[0][0]
    for image, path in slices:
        same = image.GetSize() == first.GetSize() and image.GetNumberOfComponentsPerPixel() == 1
        space = [(*one.GetSpacing()[:2], *one.GetDirection()) for one in (image, first)]
        if not same or image.GetSize()[2] != 1 or not np.allclose(*space, atol=1e-4):
            problems.append(f"{path}: size, spacing or direction differ from {paths[0].name}'s; restore the slice")
    if problems:
        raise ConversionError(problems)
    normal = np.array(first.GetDirection()).reshape(3, 3)[:, 2]
    places = [float(normal @ np.array(image.GetOrigin())) for image, _ in slices]
    order = np.argsort(places, kind="stable")
    gaps = np.diff(np.array(places)[order])
    around = paths[0].parent
    if len(slices) < 2:
        raise ConversionError(f"{around}: expected several slices, got one; restore the others from the download")
    typical = float(np.median(gaps))
    if (gaps < 1e-3).any():
        at = int(np.argmin(gaps))
        twins = " and ".join(slices[order[i]][1].name for i in (at, at + 1))
        raise ConversionError(f"{around}: {twins} lie in the same place; remove one of the two")
    if (np.abs(gaps - typical) > _UNEVEN * typical).any():
        at = int(np.argmax(np.abs(gaps - typical)))
        between = " and ".join(slices[order[i]][1].name for i in (at, at + 1))
        raise ConversionError(
            f"{around}: {between} are {gaps[at]:.2f} mm apart, the others {typical:.2f} mm; restore what is missing"
        )
    volume = sitk.GetImageFromArray(np.concatenate([sitk.GetArrayViewFromImage(slices[i][0]) for i in order]))
    volume.SetSpacing((*first.GetSpacing()[:2], typical))
    volume.SetDirection(first.GetDirection())
    volume.SetOrigin(slices[order[0]][0].GetOrigin())
    return volume, [slices[i][1] for i in order]
