"""Whether a NIfTI header says one thing about a volume's geometry, and what nnU-Net's reader makes of it."""

from pathlib import Path

import numpy as np

from nnunet_shapekd.files.images import Image
from nnunet_shapekd.files.nifti import is_orthonormal

#: between the two places of a header that hold the voxel size, each rounded to 32 bits; relative
SIZE_TOLERANCE = 1e-2
#: what no scanner makes; 999 is nnU-Net's own for a single slice
SMALLEST_MM, LARGEST_MM = 1e-4, 1000.0


def header_problems(path: Path, image: Image) -> list[str]:
    """What is wrong with the geometry within a NIfTI file, of which readers make something without a word.

    ITK 5.4 takes 1 mm for a voxel size that is 0 or no number, and the size of the voxels from ``pixdim`` where the
    affine (``sform``), which other programs go by, says another.

    Args:
        path: the file.
        image: what was read of it, as nnU-Net does.
    """
    import nibabel  # only here, see nifti.py

    with nibabel.openers.Opener(path) as file:
        start = file.read(540)
    kind = nibabel.Nifti2Header if nibabel.Nifti2Header.may_contain_header(start) else nibabel.Nifti1Header
    header = kind(start[: kind.sizeof_hdr], check=False)  # nibabel's own check would put things right
    sizes = header["pixdim"][1:4].astype(float)
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        return [f"{path}: its header has the voxel size {_row(sizes)}, read as {_row(image.spacing[::-1])}; correct it"]
    affine = np.stack([header["srow_x"], header["srow_y"], header["srow_z"]]).astype(float)
    by_affine = np.linalg.norm(affine[:, :3], axis=0)
    if header["sform_code"] > 0 and not np.allclose(by_affine, sizes, rtol=SIZE_TOLERANCE, atol=0):
        return [
            f"{path}: its header contradicts itself: the voxel size is {_row(sizes)} by pixdim, {_row(by_affine)} by "
            "the affine (sform); correct it"
        ]
    problems = []
    if np.isinf([float(header["scl_slope"]), float(header["scl_inter"])]).any():
        problems.append(f"{path}: its header scales the values by something infinite; correct it")
    if not all(SMALLEST_MM <= size < LARGEST_MM for size in image.spacing):
        problems.append(f"{path}: voxels of {_row(image.spacing[::-1])} mm are no image's; correct size or unit")
    if not np.isfinite([*image.origin, *image.direction]).all():
        problems.append(f"{path}: its header has an origin or axes that are no numbers; correct it")
    elif not is_orthonormal(image.direction):
        problems.append(
            f"{path}: its axes are not perpendicular, at which ITK, nnU-Net's first reader, ends; correct it"
        )
    return problems


def _row(numbers: np.ndarray | tuple[float, ...]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
