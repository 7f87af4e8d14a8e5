"""How the files of 3D cases are read: skewed axes made perpendicular, a label's place taken from its image, a turn."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nnunet_shapekd.dataset_conversion.target import ConversionError, option
from nnunet_shapekd.files.images import Image, read_space
from nnunet_shapekd.files.nifti import is_orthonormal
from nnunet_shapekd.files.orientation import TURNS, turned

HEADERS = ("own", "image")
_OPTIONS = {
    "max_repair_deg": dict(
        flags=("--max-repair",),
        type=float,
        default=1.0,
        metavar="DEGREES",
        help="degrees by which axes that are not perpendicular may be turned (default: %(default)s); more is refused",
    ),
    "label_header": dict(
        flags=("--label-header",),
        choices=HEADERS,
        default="own",
        help="image: a label lies where its image does, whatever its header says, if both have the same size "
        "(default: %(default)s)",
    ),
    "turn": dict(
        flags=("--turn",),
        choices=list(TURNS),
        default="none",
        help="turn images and labels in their slices, so that they lie as another set does (default: %(default)s)",
    ),
}
ImageOrLabels = TypeVar("ImageOrLabels", bound=Image)


def reading_option(name: str) -> Any:
    """A field of an options class, called as the one of :class:`Reading`."""
    argument = dict(_OPTIONS[name])
    return option(*argument.pop("flags"), **argument)


@dataclass(frozen=True)
class Reading:
    """How all files of a dataset are read.

    Attributes:
        max_repair_deg: degrees by which axes that are not perpendicular may be turned.
        label_header: "own", or "image" if a label lies where its image does, whatever its header says.
        turn: of :data:`~nnunet_shapekd.files.orientation.TURNS`.
    """

    max_repair_deg: float = 1.0
    label_header: str = "own"
    turn: str = "none"

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


def reading_of(options: Any) -> Reading:
    """What the options say; raises ConversionError, naming the one that is out of range."""
    if not 0 <= options.max_repair_deg <= 10:
        raise ConversionError(f"--max-repair: expected 0 to 10 degrees, got {options.max_repair_deg}")
    for flag, value, allowed in (
        ("--turn", options.turn, TURNS),
        ("--label-header", options.label_header, HEADERS),
    ):
        if value not in allowed:
            raise ConversionError(f"{flag}: expected {', '.join(allowed)}, got {value}")
    return Reading(options.max_repair_deg, options.label_header, options.turn)


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
