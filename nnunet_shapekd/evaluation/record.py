"""What an evaluation is, in memory: one model's predictions, judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HIGHER_IS_BETTER = {"dice": True, "iou": True, "nsd": True, "hd95": False, "hd": False, "assd": False}
METRICS = tuple(HIGHER_IS_BETTER)
DISTANCES = ("hd95", "hd", "assd")
SIZES = ("reference_size", "prediction_size")
COUNTS = ("extra_components", "holes", "reference_extra_components", "reference_holes")
RINGS = ("ring_slices", "open_ring_slices", "reference_ring_slices", "reference_open_ring_slices")
#: the row of the mean over classes
MEAN = "mean"
COLUMNS = ("case", "patient", "phase", "class", *METRICS, *SIZES, "empty", *COUNTS, *RINGS)


@dataclass(frozen=True)
class Evaluation:
    """One model's predictions, judged.

    Attributes:
        name: of the model, in tables.
        reference: folder of the references.
        prediction: folder of the predictions.
        file_ending: of the files in both.
        classes: foreground class or region -> its label values.
        ignore_label: value of the reference's voxels that were not judged.
        left_out: values that counted as background.
        cardiac: of "lv", "myo" and "rv" those known -> class.
        distance_unit: "mm" or "px".
        size_unit: "ml" (volumes), "mm2" (single slices with a spacing) or "px".
        tolerance: of the NSD, in ``distance_unit``.
        rows: one a case and class, with the keys ``COLUMNS``; Dice, IoU and NSD are fractions, NaN is undefined.
        dataset_json: the file that named the labels, if one did.
    """

    name: str
    reference: Path
    prediction: Path
    file_ending: str
    classes: dict[str, tuple[int, ...]]
    ignore_label: int | None
    left_out: tuple[int, ...]
    cardiac: dict[str, str]
    distance_unit: str
    size_unit: str
    tolerance: float
    rows: list[dict[str, Any]] = field(repr=False)
    dataset_json: Path | None = None

    def header(self, key: str) -> str:
        """A column's name with its unit: "hd95" -> "hd95_mm"."""
        if key in DISTANCES:
            return f"{key}_{self.distance_unit}"
        return key.replace("_size", f"_{self.size_unit}") if key in SIZES else key
