"""4D cine MRI in a NIfTI file."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.dataset_conversion.reading import nearest_allowed
from nnunet_shapekd.files.nifti import EITHER, is_orthonormal, read_nifti


def read_cine(path: Path, max_repair_deg: float) -> tuple[sitk.Image, float]:
    """The 4D image and by how many degrees its most tilted axis had to be turned, mostly 0.

    Raises:
        ValueError: if it cannot be read, is no 4D image, or an axis would have to be turned by more than allowed.
    """
    image = read_nifti(path, libraries=EITHER)
    if image.GetDimension() != 4 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(f"{path}: expected a 4D cine, got {'x'.join(map(str, image.GetSize()))}")
    direction, angle = np.reshape(image.GetDirection(), (4, 4)), 0.0
    if not is_orthonormal(tuple(direction[:3, :3].ravel())):
        direction[:3, :3], angle = nearest_allowed(path, direction[:3, :3], max_repair_deg)
        image.SetDirection(direction.ravel().tolist())
    return image, angle
