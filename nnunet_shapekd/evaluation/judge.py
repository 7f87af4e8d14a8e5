"""One case: every metric of every class, sizes, and whether it could be anatomy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nnunet_shapekd.evaluation import plausibility
from nnunet_shapekd.evaluation.cases import Labels
from nnunet_shapekd.evaluation.metrics import METRICS, Pair
from nnunet_shapekd.evaluation.record import PREDICTION, REFERENCE, RINGS, SIDES, SIZES
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
    maps = dict(zip(SIDES, (prediction.values, reference.values), strict=True))
    if len(shape) == 3 and 1 in shape and math.prod(shape) > max(shape):
        # one slice: its outline is the surface, and what it encloses is a hole
        spacing = tuple(s for n, s in zip(shape, spacing, strict=True) if n > 1)
        maps = {side: values.squeeze() for side, values in maps.items()}
    if labels.ignore is not None:
        maps[PREDICTION] = np.where(maps[REFERENCE] == labels.ignore, 0, maps[PREDICTION])
    box = _box((maps[REFERENCE] != 0) | (maps[PREDICTION] != 0))
    maps = {side: values[box] for side, values in maps.items()}
    known = [value for values in labels.classes.values() for value in values]
    foregrounds = {side: np.isin(values, known) for side, values in maps.items()}
    masks, rows = {}, []
    for name, values in labels.classes.items():
        masks[name] = {side: _mask(label_map, values) for side, label_map in maps.items()}
        box = _box(masks[name][REFERENCE] | masks[name][PREDICTION])
        cut = {side: mask[box] for side, mask in masks[name].items()}
        pair = Pair(cut[REFERENCE], cut[PREDICTION], spacing, tolerance, diagonal)
        row: dict[str, Any] = {"class": name, "empty": pair.empty}
        row |= {key: metric.of(pair) for key, metric in METRICS.items()}
        row |= dict(zip(SIZES, (size * voxel for size in pair.sizes), strict=True))
        for side, mask in cut.items():
            own = _box(mask)
            for key, count in plausibility.COUNTS.items():
                row[side + key] = float(count(mask[own], foregrounds[side][box][own]))
        rows.append(row | dict.fromkeys(RINGS, math.nan))
    if "myo" in cardiac:
        (row,) = (row for row in rows if row["class"] == cardiac["myo"])
        axis = plausibility.slice_axis(maps[REFERENCE].shape, spacing)
        for side in SIDES:
            blood, muscle = (masks[cardiac[role]][side] for role in ("lv", "myo"))
            n_slices, n_open = plausibility.open_rings(blood, muscle, axis)
            row[f"{side}ring_slices"], row[f"{side}open_ring_slices"] = float(n_slices), float(n_open)
    return rows


def _mask(label_map: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    return label_map == values[0] if len(values) == 1 else np.isin(label_map, values)


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds the mask; a single voxel's where it is empty."""
    found = []
    for axis in range(mask.ndim):
        (filled,) = mask.any(tuple(a for a in range(mask.ndim) if a != axis)).nonzero()
        found.append(slice(filled[0], filled[-1] + 1) if len(filled) else slice(0, 1))
    return tuple(found)
