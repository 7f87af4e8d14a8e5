"""The metrics: one table of what each is called, measured in and computed by, and of what it is where a mask is empty.

A new metric is a function of a :class:`Pair` and a row of ``METRICS``, which every command's files, tables and pictures
read.

Empty masks: where reference and prediction are both empty nothing can be judged, and every metric is NaN, as nnU-Net's
Dice is. Where one of them is, the row says what the metric is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nnunet_shapekd.evaluation.surface import surface_distances

#: units: a fraction in files and percent for people; mm or pixels; a number of something
PERCENT, DISTANCE, COUNT = "%", "distance", ""
#: of the image: the largest distance there could be
DIAGONAL = "diagonal"


@dataclass(frozen=True, eq=False)
class Pair:
    """A class's masks, and what several metrics need of them, computed once.

    Attributes:
        reference: bool, any number of axes.
        prediction: bool, the same shape.
        spacing: size of a voxel along each axis.
        tolerance: of the NSD, in the unit of ``spacing``.
        diagonal: of the image, in the unit of ``spacing``.
    """

    reference: np.ndarray
    prediction: np.ndarray
    spacing: Sequence[float]
    tolerance: float
    diagonal: float

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Voxels of the reference and of the prediction."""
        return int(np.count_nonzero(self.reference)), int(np.count_nonzero(self.prediction))

    @cached_property
    def common(self) -> int:
        """Voxels of both."""
        return int(np.count_nonzero(self.reference & self.prediction))

    @property
    def empty(self) -> str:
        """Which of them is empty: "reference", "prediction", "both" or "" (none)."""
        reference, prediction = self.sizes
        return "" if reference and prediction else "prediction" if reference else "reference" if prediction else "both"

    @cached_property
    def directed_distances(self) -> tuple[np.ndarray, np.ndarray]:
        """:func:`~.surface.surface_distances`: of the reference's border and of the prediction's."""
        return surface_distances(self.reference, self.prediction, self.spacing)

    @cached_property
    def distances(self) -> np.ndarray:
        """Those of both borders in one array, (n + m,)."""
        return np.concatenate(self.directed_distances)


def dice(pair: Pair) -> float:
    """2 |A ∩ B| / (|A| + |B|)."""
    return 2 * pair.common / sum(pair.sizes)


def iou(pair: Pair) -> float:
    """|A ∩ B| / |A ∪ B|."""
    return pair.common / (sum(pair.sizes) - pair.common)


def nsd(pair: Pair) -> float:
    """Normalised surface Dice: the fraction of both borders that is within the tolerance of the other border.

    Source: S. Nikolov et al., arXiv:1809.04430, 2021, there over surface elements.
    """
    # spacings are rounded to 32 bits: n voxels are n voxels
    return (pair.distances <= pair.tolerance * (1 + 1e-6)).mean()


def hd95(pair: Pair) -> float:
    """The larger of the two directed 95th percentiles of the distances between the borders."""
    return max(np.percentile(distances, 95) for distances in pair.directed_distances)


def hd(pair: Pair) -> float:
    """Hausdorff distance: the largest distance between the borders."""
    return pair.distances.max()


def assd(pair: Pair) -> float:
    """Average symmetric surface distance: the mean of the distances over both borders."""
    return pair.distances.mean()


@dataclass(frozen=True)
class Metric:
    """A row of ``METRICS``.

    Attributes:
        key: in rows; in files, too, followed by the unit of distances.
        name: for people.
        function: of a pair of masks that both have a voxel.
        unit: PERCENT, DISTANCE or COUNT.
        higher_is_better: its direction.
        if_one_is_empty: its value where one of the masks is empty; or DIAGONAL.
        headline: it is in cross' and stress' tables and the report's first lines, where there is no room for all.
        drawn: the report has a picture of it.
        at_tolerance: it depends on the tolerance, which is said beside its name.
    """

    key: str
    name: str
    function: Callable[[Pair], float]
    unit: str
    higher_is_better: bool
    if_one_is_empty: float | str
    headline: bool = False
    drawn: bool = False
    at_tolerance: bool = False

    def of(self, pair: Pair) -> float:
        """Its value, NaN where both masks are empty."""
        if not pair.empty:
            return float(self.function(pair))
        if pair.empty == "both":
            return math.nan
        return pair.diagonal if self.if_one_is_empty == DIAGONAL else self.if_one_is_empty

    @property
    def factor(self) -> int:
        """What its values are multiplied with for people."""
        return 100 if self.unit == PERCENT else 1

    @property
    def better(self) -> str:
        return "higher" if self.higher_is_better else "lower"

    def shown_unit(self, distance_unit: str) -> str:
        return distance_unit if self.unit == DISTANCE else self.unit

    def label(self, distance_unit: str, tolerance: float | None = None) -> str:
        """Name and unit: "NSD at 1 mm (%)"; without the tolerance where that is None."""
        at = f" at {tolerance:g} {distance_unit}" if self.at_tolerance and tolerance is not None else ""
        unit = self.shown_unit(distance_unit)
        return f"{self.name}{at}" + (f" ({unit})" if unit else "")


METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric("dice", "Dice", dice, PERCENT, True, 0.0, headline=True, drawn=True),
        Metric("iou", "IoU", iou, PERCENT, True, 0.0),
        Metric("nsd", "NSD", nsd, PERCENT, True, 0.0, drawn=True, at_tolerance=True),
        Metric("hd95", "HD95", hd95, DISTANCE, False, DIAGONAL, headline=True, drawn=True),
        Metric("hd", "HD", hd, DISTANCE, False, DIAGONAL),
        Metric("assd", "ASSD", assd, DISTANCE, False, DIAGONAL, drawn=True),
    )
}


def headlines() -> list[Metric]:
    """The metrics that short tables show."""
    return [metric for metric in METRICS.values() if metric.headline]


def empty_rule() -> str:
    """What the metrics are where one mask is empty: "Dice, IoU, NSD 0; distances the image's diagonal"."""
    values: dict[str, list[str]] = {}
    for metric in METRICS.values():
        if metric.if_one_is_empty == DIAGONAL:
            values["the image's diagonal"] = ["distances"]
        else:
            values.setdefault(f"{metric.if_one_is_empty:g}", []).append(metric.name)
    return "; ".join(f"{', '.join(names)} {value}" for value, names in values.items())
