"""One case: every metric of every class, sizes, and whether it could be anatomy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from nnunet_shapekd.evaluation import plausibility
from nnunet_shapekd.evaluation.metrics import METRICS, Pair
from nnunet_shapekd.evaluation.record import PREDICTION, REFERENCE, RINGS, SIDES, SIZES
from nnunet_shapekd.files.dataset_json import Labels
from nnunet_shapekd.files.label_maps import LabelMap


def judge(
    reference: LabelMap, prediction: LabelMap, labels: Labels, tolerance: float, cardiac: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The row of every class, but for case, patient and phase, of two label maps in the same space.

    Voxels whose reference is the ignore label belong to no class in either.

    Args:
        tolerance: of the NSD, in the unit of the spacing.
        cardiac: of "lv", "myo" and "rv" those known -> class.
    """
    spacing, shape = reference.spacing, reference.values.shape
    voxel = math.prod(spacing) / (1000 if reference.unit == "mm" and len(shape) == 3 else 1)  # mm³ -> ml
    diagonal = math.hypot(*(n * s for n, s in zip(shape, spacing, strict=True)))
    # a slice has two axes or three, of which one is a single voxel
    maps = {PREDICTION: prediction.values.reshape(shape), REFERENCE: reference.values}
    if len(shape) == 3 and 1 in shape and math.prod(shape) > max(shape):
        # one slice: its outline is the surface, and what it encloses is a hole
        spacing = tuple(s for n, s in zip(shape, spacing, strict=True) if n > 1)
        maps = {side: values.squeeze() for side, values in maps.items()}
    if labels.ignore is not None:
        maps[PREDICTION] = np.where(maps[REFERENCE] == labels.ignore, 0, maps[PREDICTION])
    known = {value for values in labels.classes.values() for value in values}
    others = [value for value in labels.values - known - {0}]
    boxes = {side: _boxes(values, max(known)) for side, values in maps.items()}
    whole = tuple(slice(0, n) for n in maps[REFERENCE].shape)

    def cut(values: tuple[int, ...], sides: Sequence[str] = SIDES) -> tuple[slice, ...]:
        """The smallest box that holds these values on these sides; a single voxel's where there is none."""
        found = [boxes[side][value] for side in sides for value in values if value in boxes[side]]
        return whole if 0 in values else _around(found) if found else tuple(slice(0, 1) for _ in whole)

    # one class at a time, within its box: with many classes the masks of all would not fit into memory
    rows = []
    for name, values in labels.classes.items():
        box = cut(values)
        masks = {side: _mask(label_map[box], values) for side, label_map in maps.items()}
        pair = Pair(masks[REFERENCE], masks[PREDICTION], spacing, tolerance, diagonal)
        row: dict[str, Any] = {"class": name, "empty": pair.empty}
        row |= {key: metric.of(pair) for key, metric in METRICS.items()}
        row |= dict(zip(SIZES, (size * voxel for size in pair.sizes), strict=True))
        for side in SIDES:
            own = maps[side][cut(values, [side])]
            mask, foreground = _mask(own, values), own != 0
            if others:
                foreground &= ~np.isin(own, others)
            for key, count in plausibility.COUNTS.items():
                row[side + key] = float(count(mask, foreground))
        rows.append(row | dict.fromkeys(RINGS, math.nan))
    if "myo" in cardiac:
        (row,) = (row for row in rows if row["class"] == cardiac["myo"])
        axis = plausibility.slice_axis(maps[REFERENCE].shape, spacing)
        structures = [labels.classes[cardiac[role]] for role in ("lv", "myo")]
        for side in SIDES:
            own = maps[side][cut(sum(structures, ()), [side])]
            blood, muscle = (_mask(own, values) for values in structures)
            n_slices, n_open = plausibility.open_rings(blood, muscle, axis)
            row[f"{side}ring_slices"], row[f"{side}open_ring_slices"] = float(n_slices), float(n_open)
    return rows


def _mask(label_map: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    return label_map == values[0] if len(values) == 1 else np.isin(label_map, values)


def _boxes(label_map: np.ndarray, largest: int) -> dict[int, tuple[slice, ...]]:
    """Value -> the smallest box that holds it, of all values above 0 that occur, in one pass."""
    return {value: box for value, box in enumerate(find_objects(label_map, largest), start=1) if box is not None}


def _around(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The smallest box that holds all of these."""
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
