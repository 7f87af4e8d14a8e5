"""4D cine MRI in a NIfTI file, with axes that are not perpendicular repaired within bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.files.nifti import is_orthonormal, read_nifti


def read_cine(path: Path, max_repair_deg: float) -> tuple[sitk.Image, float]:
    """The 4D image and by how many degrees its most tilted axis had to be turned for ITK, mostly 0.

    ITK refuses a NIfTI file whose axes (sform) are not perpendicular and that has no qform to use instead. Such axes
    are replaced by the nearest perpendicular ones; spacing, origin and voxels stay.

    Raises:
        ValueError: if it cannot be read, is no 4D image, or an axis would have to be turned by more than allowed.
    """
    image = read_nifti(path)
    if image.GetDimension() != 4 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(f"{path}: expected a 4D cine, got {'x'.join(map(str, image.GetSize()))}")
    direction = np.reshape(image.GetDirection(), (4, 4))
    if is_orthonormal(image.GetDirection()):
        return image, 0.0
    direction[:3, :3], angle = nearest_rotation(direction[:3, :3])
    if not angle <= max_repair_deg:
        raise ValueError(
            f"{path}: its axes are not perpendicular, the nearest that are lie {angle:.2f} degrees away, allowed "
            f"are {max_repair_deg:g}; correct its header, remove the patient, or allow more with --max-repair"
        )
    image.SetDirection(direction.ravel().tolist())
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
