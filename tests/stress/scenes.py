"""An image to shift, and what the shift is told of it."""

from __future__ import annotations

import numpy as np

from nnunet_shapekd.stress.scene import Scene
from nnunet_shapekd.stress.shifts import seed_of

STACK = (1.5, 1.5, 10.0)


def heart(shape: tuple[int, int, int] = (64, 56, 7)) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball on a darker ramp with some texture, and the ball's classes."""
    x, y, z = np.indices(shape)
    classes = ((x - 30) ** 2 + (y - 30) ** 2 < 81).astype(np.int32)
    values = 100 + 2 * x + 5 * z + np.random.default_rng(0).normal(0, 5, shape)
    return (values + 200 * classes).astype(np.int16)[None], classes


def scene(
    shift: str, classes: np.ndarray | None = None, spacing=STACK, case: str = "someone", channel: int = 0
) -> Scene:
    return Scene(spacing, seed_of(case, shift), channel, classes)
