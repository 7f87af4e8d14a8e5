"""4D cine MRI in a NIfTI file, with a header that ITK refuses repaired within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.files.nifti import read_nifti

_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"
_SPACING_TOLERANCE = 0.01


def read_cine(path: Path, max_repair_deg: float) -> tuple[sitk.Image, float]:
    """The 4D image and by how many degrees its most tilted axis had to be turned for ITK, mostly 0.

    ITK refuses a NIfTI file whose axes (sform) are not perpendicular and that has no qform to use instead. Such axes
    are replaced by the nearest perpendicular ones; spacing, origin and voxels stay.

    Raises:
        ValueError: if it cannot be read, is no 4D image, or an axis would have to be turned by more than allowed.
    """
    angle = 0.0
    try:
        image = read_nifti(path)
    except ValueError as error:
        if "orthonormal" not in str(error):
            raise
        image, angle = _read_repaired(path)
        if not angle <= max_repair_deg:
            raise ValueError(
                f"{path}: its axes are not perpendicular, the nearest that are lie {angle:.2f} degrees away, allowed "
                f"are {max_repair_deg:g}; correct its header, remove the patient, or allow more with --max-repair"
            ) from None
    if image.GetDimension() != 4 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(f"{path}: expected a 4D cine, got {'x'.join(map(str, image.GetSize()))}")
    return image, angle


def nearest_rotation(axes: np.ndarray) -> tuple[np.ndarray, float]:
    """The perpendicular unit axes nearest to given ones, mirrored if those are, and the largest turn in degrees.

    Args:
        axes: 3 x 3, an axis a column, of unit length.
    """
    left, _, right = np.linalg.svd(axes)
    nearest = left @ right
    # arctan2, because arccos has no precision at small angles
    sines, cosines = np.linalg.norm(np.cross(axes.T, nearest.T), axis=1), (axes * nearest).sum(axis=0)
    return nearest, float(np.degrees(np.arctan2(sines, cosines)).max())


def _read_repaired(path: Path) -> tuple[sitk.Image, float]:
    image = _read_permissively(path)
    import nibabel  # only here, see nifti.py

    affine = np.diag([-1, -1, 1, 1]) @ nibabel.load(path).affine  # ITK's x and y are NIfTI's reversed
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    n = image.GetDimension()
    spacing = image.GetSpacing()[:3]
    if n < 3 or not np.allclose(lengths, spacing, rtol=_SPACING_TOLERANCE):
        shown = ", ".join(f"{length:g}" for length in lengths)
        raise ValueError(f"{path}: its axes have the spacing {shown}, its header says {spacing}; correct the header")
    axes, angle = nearest_rotation(affine[:3, :3] / lengths)
    # Not ITK's own direction: its permissive mode gives the transposed rotation (ITK 5.4.0; see its issue 4839)
    direction = np.eye(n)
    direction[:3, :3] = axes
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin([*affine[:3, 3].tolist(), *image.GetOrigin()[3:]])
    return image, angle


def _read_permissively(path: Path) -> sitk.Image:
    before = os.environ.get(_PERMISSIVE)
    warnings = sitk.ProcessObject.GetGlobalWarningDisplay()
    os.environ[_PERMISSIVE] = "YES"  # ITK looks at it with every file
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what it would warn of is the caller's business
    try:
        return read_nifti(path)
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warnings)
        if before is None:
            del os.environ[_PERMISSIVE]
        else:
            os.environ[_PERMISSIVE] = before
