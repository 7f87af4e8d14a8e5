"""How the files of 3D cases are read: skewed axes made perpendicular, a label's place taken from its image, a turn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from nnunet_shapekd.dataset_conversion.target import ConversionError, Options, option
from nnunet_shapekd.files.images import Image, read_space
from nnunet_shapekd.files.nifti import is_orthonormal
from nnunet_shapekd.files.orientation import TURNS, turned

ImageOrLabels = TypeVar("ImageOrLabels", bound=Image)


@dataclass(frozen=True, kw_only=True)
class Reading(Options):
    """How all files of a dataset are read: options of whatever converts volumes."""

    max_repair_deg: float = option(
        "--max-repair",
        type=float,
        default=1.0,
        metavar="DEGREES",
        help="degrees by which axes that are not perpendicular may be turned (default: %(default)s); more is refused",
    )
    label_header: str = option(
        "--label-header",
        choices=("own", "image"),
        default="own",
        help="image: a label lies where its image does, whatever its header says, if both have the same size "
        "(default: %(default)s)",
    )
    turn: str = option(
        "--turn",
        choices=list(TURNS),
        default="none",
        help="turn images and labels in their slices, so that they lie as another set does (default: %(default)s)",
    )

    def check(self) -> None:
        """Raises ConversionError, naming the option that is out of range."""
        if not 0 <= self.max_repair_deg <= 10:
            raise ConversionError(f"--max-repair: expected 0 to 10 degrees, got {self.max_repair_deg}")
        self.chosen("turn")
        self.chosen("label_header")

    def read(self, path: Path, read: Callable[[Path], ImageOrLabels]) -> tuple[ImageOrLabels, float]:
        """What a file holds, not yet turned, and the degrees by which its most tilted axis was, mostly 0.

        Raises:
            ValueError: as ``read`` does, and if an axis would have to be turned by more than allowed.
        """
        image = read(path)
        if len(image.shape) != 3 or is_orthonormal(image.direction):
            return image, 0.0
        axes, angle = nearest_allowed(path, np.reshape(image.direction, (3, 3)), self.max_repair_deg)
        return replace(image, direction=tuple(axes.ravel().tolist())), angle

    def changes(self, path: Path, is_label: bool = False) -> bool:
        """Whether a file is to be written anew."""
        if self.turn != "none" or (is_label and self.label_header == "image"):
            return True
        return not is_orthonormal(read_space(path).direction)

    def final(self, image: ImageOrLabels, of_image: Image | None = None) -> ImageOrLabels:
        """What is written: turned, in the place of its image where that is given."""
        if of_image is not None and self.label_header == "image":
            space = {name: getattr(of_image, name) for name in ("spacing", "origin", "direction", "unit")}
            image = replace(image, **space)
        return turned(image, self.turn)


def repair_remark(degrees: Mapping[str, float]) -> list[str]:
    """What to say of whose axes were turned, by how much, if anybody's were."""
    shown = [f"{name} ({angle:.3f})" for name, angle in degrees.items() if angle]
    axes = "Headers without perpendicular axes, turned to the nearest rotation (degrees)"
    return [f"{axes}: {', '.join(shown)}"] if shown else []


def nearest_allowed(path: Path, axes: np.ndarray, max_repair_deg: float) -> tuple[np.ndarray, float]:
    """As :func:`nearest_rotation`; raises ValueError if that is further away than allowed."""
    nearest, angle = nearest_rotation(axes)
    if not angle <= max_repair_deg:
        raise ValueError(
            f"{path}: its axes are not perpendicular, the nearest that are lie {angle:.2f} degrees away, allowed are "
            f"{max_repair_deg:g}; correct its header, remove the patient, or allow more with --max-repair"
        )
    return nearest, angle


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
