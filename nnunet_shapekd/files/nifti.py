"""Reading and writing NIfTI as nnU-Net does, without being told less than the file says.

nnU-Net reads it with SimpleITK, and where that fails with nibabel: ITK refuses directions that are not orthonormal.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.files.lengths import check_file, check_gzip, check_length

if TYPE_CHECKING:
    import nibabel

#: nibabel's axes point to the right, front and head, ITK's to the left, back and head
_TO_ITK = np.array([-1.0, -1.0, 1.0])
_ORTHONORMAL_TOLERANCE = 1e-4
#: said of a file
NOT_FINITE = "has NaN or infinite values, or such as are infinite in 32 bits; replace them"
#: the libraries that read NIfTI for nnU-Net, and its order where the plans name no reader
ITK, NIBABEL = "SimpleITK", "nibabel"
EITHER = (ITK, NIBABEL)
_ONE_HEADER_AT_A_TIME = threading.Lock()
_LARGEST = float(np.finfo(np.float32).max)


class Header(NamedTuple):
    """What an image file says before its voxels, in ITK's axes and order."""

    size: Sequence[int]
    spacing: Sequence[float]
    origin: Sequence[float]
    direction: Sequence[float]
    components: int = 1


class NibabelHeader(Header):
    """The header of a file that was read by nibabel."""


def nifti_header(path: Path, libraries: Sequence[str] = EITHER) -> Header:
    """What a NIfTI file says before its voxels, for which it is long enough, by the first library that can read it.

    Raises:
        ValueError: if none can, or the file is shorter than its header says.
    """
    check_file(path)
    for library in libraries:
        try:
            return _by_itk(path) if library == ITK else _nibabel_header(path)
        except RuntimeError as error:  # ITK's; nibabel reads more, and says why where it does not
            if library == libraries[-1]:
                check_gzip(path)
                raise ValueError(f"{path}: cannot be read ({reason_of(error)}); download it again") from None
    raise AssertionError("no library was named")


def read_nifti(path: Path, finite: bool = True, libraries: Sequence[str] = (ITK,)) -> sitk.Image:
    """The image in a NIfTI file, which is whole.

    Args:
        path: the file.
        finite: whether NaN and infinite values are an error.
        libraries: as of :func:`nifti_header`; by default ITK alone.

    Raises:
        ValueError: if the file cannot be read, is cut short, or has values that are not finite.
    """
    header, image = nifti_header(path, libraries), None
    if not isinstance(header, NibabelHeader):
        try:
            # Naming the format saves a tenth of the time: SimpleITK would try every other one first.
            image = sitk.ReadImage(str(path), imageIO="NiftiImageIO")
        except RuntimeError as error:
            check_gzip(path)
            raise ValueError(f"{path}: cannot be read ({reason_of(error)}); download it again") from None
        if "float" not in image.GetPixelIDTypeAsString():
            return image
    # ITK 5.4 reads NaN and infinity of floating-point files as 0
    try:
        values = np.asanyarray(_by_nibabel(path).dataobj)
    except Exception as error:  # nibabel, zlib and gzip have an exception class each for a broken file
        raise ValueError(f"{path}: cannot be read whole ({reason_of(error)}); download it again") from None
    whole = all_finite(values)
    if finite and not whole:
        raise ValueError(f"{path}: {NOT_FINITE}")
    if image is None or not whole:
        image = sitk.GetImageFromArray(values.T, isVector=False)
        image.SetSpacing(header.spacing)
        image.SetOrigin(header.origin)
        image.SetDirection(header.direction)
    return image


def all_finite(values: np.ndarray) -> bool:
    """Whether all values are numbers in 32 bits, in which nnU-Net reads every image."""
    return bool(values.min() >= -_LARGEST and values.max() <= _LARGEST)  # NaN is neither


def is_orthonormal(direction: tuple[float, ...]) -> bool:
    """Whether ITK can write a direction matrix, row by row, into NIfTI: it would change any other without a word."""
    matrix = np.reshape(direction, (round(len(direction) ** 0.5), -1))
    return np.allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=_ORTHONORMAL_TOLERANCE)


def write_by_nibabel(
    values: np.ndarray, spacing: tuple[float, ...], origin: tuple[float, ...], direction: tuple[float, ...], path: Path
) -> None:
    """Write (z, y, x) values with directions that are not orthonormal; spacing along these axes, the rest as in ITK."""
    import nibabel

    affine = np.eye(4)
    affine[:3, :3] = _TO_ITK[:, None] * np.reshape(direction, (3, 3)) * spacing[::-1]
    affine[:3, 3] = _TO_ITK * origin
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(values.T), affine), path)


def itk_header(path: Path, image_io: str = "") -> sitk.ImageFileReader:
    """What an image file says before its voxels, by SimpleITK; raises RuntimeError where it cannot be read.

    Two threads that read headers at once damage the process's memory (SimpleITK 2.5): one waits for the other.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    with _ONE_HEADER_AT_A_TIME:
        reader.ReadImageInformation()
    return reader


def header_of(reader: sitk.ImageFileReader) -> Header:
    """What it read."""
    geometry = reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
    return Header(*geometry, reader.GetNumberOfComponents())


def _by_itk(path: Path) -> Header:
    reader = itk_header(path, "NiftiImageIO")
    start, bits = (int(float(reader.GetMetaData(key))) for key in ("vox_offset", "bitpix"))
    _check_size(path, start, reader.GetSize(), bits)
    return header_of(reader)


def _nibabel_header(path: Path) -> NibabelHeader:
    image = _by_nibabel(path)
    n, columns = image.ndim, image.affine[:3, :3]
    lengths, zooms = np.linalg.norm(columns, axis=0), [float(zoom) for zoom in image.header.get_zooms()]
    if not (np.isfinite(image.affine).all() and lengths.all() and all(zooms)):
        raise ValueError(f"{path}: an axis of its voxels has no length; correct its header")
    direction, origin = np.eye(max(n, 3)), np.zeros(max(n, 3))
    direction[:3, :3], origin[:3] = _TO_ITK[:, None] * columns / lengths, _TO_ITK * image.affine[:3, 3]
    return NibabelHeader(image.shape, zooms, origin[:n].tolist(), direction[:n, :n].ravel().tolist())


def _by_nibabel(path: Path) -> "nibabel.Nifti1Image":
    import nibabel  # only here: importing it costs as much as reading twenty cases

    try:
        image = nibabel.load(path)
    except Exception as error:  # likewise
        check_gzip(path)  # whose fault nibabel does not tell
        raise ValueError(f"{path}: cannot be read ({reason_of(error)}); download it again") from None
    _check_size(path, image.header.get_data_offset(), image.shape, int(image.header["bitpix"]))
    return image


def _check_size(path: Path, start: int, shape: Sequence[int], bits: int) -> None:
    check_length(path, start, shape, bits)
    if 0 in shape:
        raise ValueError(f"{path}: has no voxels, its shape is {tuple(shape)}; make it again")
    if not 2 <= len(shape) <= 4:
        raise ValueError(f"{path}: expected an image of two or three axes, and one of channels, got shape {shape}")


def reason_of(error: Exception) -> str:
    """The last line of a library's message, which says what is wrong."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
