"""What an evaluation is, in memory: one model's predictions, judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_shapekd.evaluation.metrics import DISTANCE, METRICS
from nnunet_shapekd.evaluation.plausibility import COUNTS

#: how the keys begin that say of one of the two what is counted
SIDES = PREDICTION, REFERENCE = "", "reference_"
SIZES = ("reference_size", "prediction_size")
RINGS = tuple(side + key for side in SIDES for key in ("ring_slices", "open_ring_slices"))
#: columns of text
TEXTS = ("case", "patient", "phase", "class", "empty")
#: the row of the mean over classes
MEAN = "mean"


def counts() -> tuple[str, ...]:
    """The keys of what is counted for plausibility, but for the rings."""
    return tuple(side + key for side in SIDES for key in COUNTS)


def columns() -> tuple[str, ...]:
    """The keys of an evaluation's rows, in the files' order."""
    return ("case", "patient", "phase", "class", *METRICS, *SIZES, "empty", *counts(), *RINGS)


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
        rows: one a case and class, with the keys :func:`columns`; NaN is undefined.
        dataset_json: the file that named the labels, if one did.
        unknown_patients: cases of which nothing said whose they are: each counts as a patient of its own.
        groups: column -> case -> value, "" where that is not known: by what the cases are summed up apart.
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
    unknown_patients: int = 0
    groups: dict[str, dict[str, str]] = field(default_factory=dict)

    def header(self, key: str) -> str:
        """A column's name with its unit: "hd95" -> "hd95_mm"."""
        if key in METRICS and METRICS[key].unit == DISTANCE:
            return f"{key}_{self.distance_unit}"
        return key.replace("_size", f"_{self.size_unit}") if key in SIZES else key

    def values(self, key: str) -> dict[str, dict[str, Any]]:
        """Class -> case -> value of a column."""
        table: dict[str, dict[str, Any]] = {name: {} for name in self.classes}
        for row in self.rows:
            table[row["class"]][row["case"]] = row[key]
        return table

    @property
    def patients(self) -> dict[str, str]:
        """Case -> patient."""
        return {row["case"]: row["patient"] for row in self.rows}
