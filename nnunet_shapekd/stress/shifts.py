"""Graded shifts of an image's appearance: what another scanner, protocol or camera may do to it.

Of a shift and severity the *size* is fixed, in the table ``SHIFTS``; only the *pattern* (which noise, which bias field,
along which axis) is drawn, from a seed that the case and the shift determine. It is the same for every severity and
every model, in any process and in any order.

nnU-Net trains with some of these shifts itself. Severity 1 of those is the end of the range it draws from, for images
whose channels it normalises by their own mean and standard deviation; severities 2 to 4 lie beyond. The other
shifts (``trained=None``) are none of its default augmentation.

Intensities: every file is scaled so that its 0.5th percentile is 0 and its 99.5th is 1 (a picture's colours together,
but noise and contrast are by each colour's own mean and standard deviation and gamma by its own percentiles, as nnU-Net
treats them), shifted, scaled back and clipped to the range it had. nnU-Net's z-score takes back whatever is linear in
an image: a contrast shift is felt by what it clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nnunet_shapekd.stress.acquisition import (
    bias_field,
    blur,
    contrast,
    ends,
    gamma,
    ghosting,
    low_resolution,
    noise,
)
from nnunet_shapekd.stress.scene import Scene
from nnunet_shapekd.stress.structures import class_contrast, class_spread


@dataclass(frozen=True)
class Shift:
    """One kind of shift.

    Attributes:
        title: for pictures.
        parameter: what its values mean.
        values: of the severities 1, 2, 3 and 4.
        trained: nnU-Net's range of the parameter in training (2.8, default augmentation); None: it has no such shift.
        apply: (channels, x, y, z) scaled intensities, value, scene -> shifted intensities.
        classes: the option that names the classes it changes, by the reference; None: it knows no labels.
    """

    title: str
    parameter: str
    values: tuple[float, float, float, float]
    trained: str | None
    apply: Callable[[np.ndarray, float, Scene], np.ndarray]
    classes: str | None = None


#: Every shift, its sizes, and whether nnU-Net trains with it.
SHIFTS = {
    "gamma-dark": Shift("gamma, darker", "exponent", (1.5, 2, 3, 4), "0.7 to 1.5", gamma),
    "gamma-bright": Shift("gamma, brighter", "exponent", (0.7, 0.5, 0.35, 0.25), "0.7 to 1.5", gamma),
    "contrast": Shift("contrast, clipped", "factor", (1.25, 2, 3, 5), "0.75 to 1.25", contrast),
    "noise": Shift("Gaussian noise", "sd / image's sd", (0.1, 0.25, 0.5, 1), "0 to 0.1", noise),
    "blur": Shift("blur", "sigma in pixels", (1, 2, 3, 4), "0.5 to 1", blur),
    "low-resolution": Shift("low resolution", "scale", (0.5, 0.33, 0.25, 0.17), "0.5 to 1", low_resolution),
    "bias-field": Shift("bias field", "bright / dark", (1.5, 2.5, 5, 10), None, bias_field),
    "ghosting": Shift("ghosting", "lines weakened by", (0.25, 0.5, 0.75, 1), None, ghosting),
    "class-contrast": Shift("contrast of classes", "factor", (0.75, 0.5, 0.35, 0.2), None, class_contrast, "--classes"),
    "class-spread": Shift("spread within classes", "factor", (1.5, 2, 3, 4), None, class_spread, "--classes"),
    "inversion": Shift(
        "inversion of a structure", "contrast to around", (0.5, 0, -0.5, -1), None, class_contrast, "--invert"
    ),
}
SEVERITIES = (0, 1, 2, 3, 4)
#: name of what severity 0 is, which all shifts share
UNSHIFTED = "none"


def size_of(shift: str, severity: int) -> float | None:
    """The shift's parameter; None for the image itself."""
    return SHIFTS[shift].values[severity - 1] if severity else None


def seed_of(case: str, shift: str, seed: int = 0) -> int:
    """The seed of a shift's pattern in a case, below 2**32; Python's own hash differs between processes."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{case}\n{shift}".encode()).digest()[:4], "little")


def shifted(values: np.ndarray, shift: str, severity: int, scene: Scene) -> np.ndarray:
    """An image's intensities after a shift.

    Args:
        values: (channels, x, y, z) of any type.
        shift: a name in ``SHIFTS``.
        severity: 0 (the image itself) to 4.
        scene: what the shift may know besides.

    Returns:
        (channels, x, y, z) float32, or float64 where the type has more digits than float32, within the range of
        ``values``; an image of one value stays what it is.

    Raises:
        ValueError: if the shift changes classes and the scene has none.
    """
    if severity and (option := SHIFTS[shift].classes) and scene.classes is None:
        raise ValueError(f"the shift {shift} needs to know the classes it changes: name them with {option}")
    original = values.astype(np.result_type(values, np.float32))
    low, high = ends(original)
    if severity == 0 or high <= low:
        return original
    scaled = ((original - low) / (high - low)).astype(np.float32)
    changed = np.asarray(SHIFTS[shift].apply(scaled, size_of(shift, severity), scene), dtype=original.dtype)
    return np.clip(changed * (high - low) + low, float(original.min()), float(original.max()))
