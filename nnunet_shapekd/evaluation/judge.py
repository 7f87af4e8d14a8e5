"""One case: every metric of every class.

Empty masks, one rule for every metric: where reference and prediction of a class are both empty, nothing can be
judged, and all metrics are NaN, as nnU-Net's Dice is. Where one of them is, Dice, IoU and NSD are 0 and the distances
are the length of the image's diagonal, the largest distance there could be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_shapekd.evaluation import plausibility
from nnunet_shapekd.evaluation.cases import Labels
from nnunet_shapekd.evaluation.record import DISTANCES, RINGS
from nnunet_shapekd.evaluation.surface import surface_metrics
from nnunet_shapekd.files.label_maps import LabelMap


def judge(
    reference: LabelMap, prediction: LabelMap, labels: Labels, tolerance: float, cardiac: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The row of every class, but for case, patient and phase.

    Args:
        reference: the reference.
        prediction: in the same space.
        labels: what the values mean; voxels whose reference is the ignore label belong to no class in either.
        tolerance: of the NSD, in the unit of the spacing.
        cardiac: of "lv", "myo" and "rv" those known -> class.
    """
    spacing, shape = reference.spacing, reference.values.shape
    voxel = math.prod(spacing) / (1000 if reference.unit == "mm" and len(shape) == 3 else 1)  # mm³ -> ml
    diagonal = math.hypot(*(n * s for n, s in zip(shape, spacing, strict=True)))
    ours, theirs = reference.values, prediction.values
    if len(shape) == 3 and 1 in shape and math.prod(shape) > max(shape):
        # one slice: its outline is the surface, and what it encloses is a hole
        spacing = tuple(s for n, s in zip(shape, spacing, strict=True) if n > 1)
        ours, theirs = ours.squeeze(), theirs.squeeze()
    if labels.ignore is not None:
        theirs = np.where(ours == labels.ignore, 0, theirs)
    box = _box((ours != 0) | (theirs != 0))
    ours, theirs = ours[box], theirs[box]
    known = [value for values in labels.classes.values() for value in values]
    foregrounds = [np.isin(values, known) for values in (ours, theirs)]
    axis = plausibility.slice_axis(ours.shape, spacing)
    masks, rows = {}, []
    for name, values in labels.classes.items():
        masks[name] = pair = [_mask(ours, values), _mask(theirs, values)]
        sizes = [int(np.count_nonzero(mask)) for mask in pair]
        row: dict[str, Any] = {"class": name, **_overlap(pair, sizes)}
        if all(sizes):
            box = _box(pair[0] | pair[1])
            row.update(surface_metrics(pair[0][box], pair[1][box], spacing, tolerance))
        else:
            row.update(dict.fromkeys(DISTANCES, diagonal if any(sizes) else math.nan))
            row["nsd"] = 0.0 if any(sizes) else math.nan
        row["reference_size"], row["prediction_size"] = (size * voxel for size in sizes)
        row["empty"] = "" if all(sizes) else "both" if not any(sizes) else "prediction" if sizes[0] else "reference"
        for prefix, mask, foreground in zip(("reference_", ""), pair, foregrounds, strict=True):
            box = _box(mask)
            row[f"{prefix}extra_components"] = float(plausibility.extra_components(mask[box]))
            row[f"{prefix}holes"] = float(plausibility.holes(mask[box], foreground[box]))
        row.update(dict.fromkeys(RINGS, math.nan))
        rows.append(row)
    if "myo" in cardiac:
        (row,) = (row for row in rows if row["class"] == cardiac["myo"])
        for prefix, blood, muscle in zip(("reference_", ""), masks[cardiac["lv"]], masks[cardiac["myo"]], strict=True):
            n_slices, n_open = plausibility.open_rings(blood, muscle, axis)
            row[f"{prefix}ring_slices"], row[f"{prefix}open_ring_slices"] = float(n_slices), float(n_open)
    return rows


def _mask(label_map: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    return label_map == values[0] if len(values) == 1 else np.isin(label_map, values)


def _overlap(pair: Sequence[np.ndarray], sizes: Sequence[int]) -> dict[str, float]:
    if not any(sizes):
        return {"dice": math.nan, "iou": math.nan}
    common = int(np.count_nonzero(pair[0] & pair[1]))
    return {"dice": 2 * common / sum(sizes), "iou": common / (sum(sizes) - common)}


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds the mask; a single voxel's where it is empty."""
    found = []
    for axis in range(mask.ndim):
        (filled,) = mask.any(tuple(a for a in range(mask.ndim) if a != axis)).nonzero()
        found.append(slice(filled[0], filled[-1] + 1) if len(filled) else slice(0, 1))
    return tuple(found)
