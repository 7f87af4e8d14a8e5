"""Cases as pictures: the contours of reference and models over the image, in true proportions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_shapekd.drawing import class_styles, drawing, outline, wrapped
from nnunet_shapekd.evaluation import plausibility
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.files import images
from nnunet_shapekd.files.dataset_json import reader_of
from nnunet_shapekd.files.label_maps import read_label_map, relabel

#: least room around the structures, as a part of their larger extent
MARGIN = 0.2


def chosen_cases(mean_dice: Mapping[str, float]) -> dict[str, str]:
    """ "worst", "median" and "best" -> case; of equal ones the first by name. Fewer than three cases: as many."""
    ranked = sorted(mean_dice, key=lambda case: (mean_dice[case], case))
    if len(ranked) < 2:
        return {"only": ranked[0]} if ranked else {}
    chosen = {"worst": ranked[0]}
    if len(ranked) > 2:
        chosen["median"] = ranked[(len(ranked) - 1) // 2]
    chosen["best"] = min(ranked[1:], key=lambda case: (-mean_dice[case], case))
    return chosen


def read_labels(path: Path, reader: str | None = None) -> tuple[np.ndarray, tuple[float, float, float]]:
    """A label map as (d, h, w), d = 1 of a 2D file, and its spacing along these axes."""
    label_map = read_label_map(path, reader)
    if label_map.values.ndim == 2:
        return label_map.values[np.newaxis], (1.0, *label_map.spacing)
    return label_map.values, label_map.spacing


def read_image(path: Path, reader: str | None = None) -> np.ndarray:
    """An image as (d, h, w), or (d, h, w, 3) of a colour image; d = 1 of a 2D file.

    Raises:
        ValueError: if it cannot be read.
    """
    image = images.read_image(path, finite=False, reader=reader)
    array = image.values
    if image.channels > 1:
        array = array[..., :3] if image.channels > 2 else array[..., 0]
    return array[np.newaxis] if len(image.shape) == 2 else array


@dataclass(frozen=True)
class Case:
    """One case's arrays, cut across ``axis``.

    Label maps (d, h, w) hold kinds: which classes a voxel is in, 0 in none; ``classes`` says the kinds of each.
    """

    classes: dict[str, tuple[int, ...]]
    image: np.ndarray | None
    reference: np.ndarray
    models: dict[str, np.ndarray]
    #: voxels that count (not of the ignore label), (d, h, w)
    counts: np.ndarray
    spacing: tuple[float, float, float]

    @property
    def axis(self) -> int:
        return plausibility.cut_axis(self.reference.shape, self.spacing)

    @property
    def aspect(self) -> float:
        """Height over width of a pixel in the pictures."""
        high, wide = (s for axis, s in enumerate(self.spacing) if axis != self.axis)
        return high / wide

    def plane(self, array: np.ndarray, index: int) -> np.ndarray:
        """Slice ``index`` of (d, h, w, ...), the first axis upwards (towards the head, mostly) where it is in it."""
        plane = np.take(array, index, axis=self.axis)
        return plane if self.axis == 0 else plane[::-1]

    def slices(self) -> dict[int, str]:
        """The slices to show -> why."""
        others = tuple(axis for axis in range(3) if axis != self.axis)
        area = ((self.reference != 0) & self.counts).sum(axis=others)
        wrong = sum(((kinds != self.reference) & self.counts).sum(axis=others) for kinds in self.models.values())
        largest, worst = int(np.argmax(area)), int(np.argmax(wrong))
        if not area[largest]:
            return {worst: "most pixels wrong"} if wrong[worst] else {len(area) // 2: "in the middle"}
        if worst == largest or not wrong[worst]:
            return {largest: "largest reference area" + (", most pixels wrong" if wrong[worst] else "")}
        return {largest: "largest reference area", worst: "most pixels wrong"}

    def box(self, slices: Sequence[int]) -> tuple[slice, slice]:
        """What of the plane to show: all structures in these slices, of reference and models, with a margin."""
        maps = [self.reference, *self.models.values()]
        seen = np.any([self.plane(kinds, i) != 0 for kinds in maps for i in slices], axis=0)
        if not seen.any():
            return slice(0, seen.shape[0]), slice(0, seen.shape[1])
        ends = [(int(line.argmax()), len(line) - int(line[::-1].argmax())) for line in (seen.any(1), seen.any(0))]
        pixel = np.array([self.aspect, 1.0])  # height and width in units of the width
        extent = np.array([stop - start for start, stop in ends]) * pixel
        wanted = np.maximum(extent + 2 * MARGIN * extent.max(), 0.75 * (1 + 2 * MARGIN) * extent.max()) / pixel
        box = []
        for (start, stop), length, size in zip(ends, wanted, seen.shape, strict=True):
            more = max(4, math.ceil((length - (stop - start)) / 2))
            box.append(slice(max(0, start - more), min(size, stop + more)))
        return box[0], box[1]


def read_case(case: str, evaluations: Sequence[Evaluation], image: Path | None) -> tuple[Case, str]:
    """One case's files.

    Args:
        case: its name.
        evaluations: of one reference folder.
        image: the first channel's file, or ``None``.

    Returns:
        The case, and what is to be said about its image ("" if nothing).

    Raises:
        ValueError: if a label map is not there any more, or cannot be read.
    """
    first = evaluations[0]
    reference = first.reference / f"{case}{first.file_ending}"
    predictions = {e.name: e.prediction / f"{case}{e.file_ending}" for e in evaluations}
    if gone := [str(path) for path in (reference, *predictions.values()) if not path.is_file()]:
        raise ValueError(f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} not there any more")
    reader = reader_of(first.dataset_json) if first.dataset_json else None
    labels, spacing = read_labels(reference, reader)
    counts = np.ones(labels.shape, bool) if first.ignore_label is None else labels != first.ignore_label
    kind_of, classes = _kinds(first.classes)
    models = {}
    for name, path in predictions.items():
        kinds = _like(relabel(read_labels(path, reader)[0], kind_of), labels.shape, f"the prediction of {name}")
        models[name] = np.where(counts, kinds, 0)
    array, remark = None, ""
    if image is not None:
        try:
            array = _like(read_image(image, reader), labels.shape, image.name)
        except ValueError as error:
            remark = f"Contours on black: {error}."
    return Case(classes, array, relabel(labels, kind_of), models, counts, spacing), remark


def _kinds(classes: Mapping[str, Sequence[int]]) -> tuple[dict[int, int], dict[str, tuple[int, ...]]]:
    """Label value -> its kind, by the classes it is in, and class -> its kinds: regions may overlap."""
    kind_of: dict[int, int] = {0: 0}
    known: dict[frozenset[str], int] = {}
    for value in sorted({value for values in classes.values() for value in values}):
        within = frozenset(name for name, values in classes.items() if value in values)
        kind_of[value] = known.setdefault(within, len(known) + 1)
    return kind_of, {name: tuple(sorted({kind_of[value] for value in values})) for name, values in classes.items()}


def _like(array: np.ndarray, shape: tuple[int, ...], called: str) -> np.ndarray:
    """An array in the shape of the reference, (d, h, w), whichever of one slice's axes has a single voxel."""
    if array.shape[:3] == shape:
        return array
    flat, wanted = ([n for n in sizes if n > 1] for sizes in (array.shape[:3], shape))
    if flat != wanted:
        raise ValueError(f"{called} has shape {array.shape[:3]}, the reference {shape}")
    return array.reshape(*shape, *array.shape[3:])


def grey_or_colour(pixels: np.ndarray) -> np.ndarray:
    """Pixels for display, 0..1: 8-bit colour as it is, anything else from its 0.5th to its 99.5th percentile.

    Args:
        pixels: (h, w) or (h, w, 3); what is not finite becomes black.
    """
    if pixels.dtype == np.uint8 and pixels.ndim == 3:
        return pixels / 255
    pixels = pixels.astype(np.float64)
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return np.zeros_like(pixels)
    low, high = np.percentile(finite, (0.5, 99.5))
    scaled = (pixels - low) / (high - low if high > low else 1.0)
    return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0), 0, 1)


def overlay(case: Case, remarks: Mapping[str, str] | None = None) -> Figure:
    """Rows: the chosen slices; columns: image, reference, each model.

    Args:
        case: what to draw.
        remarks: model -> a line below its name.
    """
    slices = case.slices()
    box = case.box(list(slices))
    styles = class_styles(list(case.classes))
    columns: dict[str, np.ndarray | None] = {"image": None, "reference": case.reference, **case.models}
    height, width = ((s.stop - s.start) for s in box)
    wide = max(1.7, min(2.5, 11.0 / len(columns)))
    high = wide * float(np.clip(height * case.aspect / width, 0.4, 1.6))
    titles = [
        wrapped(name, int(wide * 9)) + (f"\n{remarks[name]}" if remarks and name in remarks else "") for name in columns
    ]
    with drawing():
        legend_columns = max(1, min(len(styles), int(wide * len(columns) / 1.4)))
        above = 0.22 * (math.ceil(len(styles) / legend_columns) + max(t.count("\n") + 1 for t in titles)) + 0.15
        figure = Figure(figsize=(wide * len(columns) + 0.5, high * len(slices) + above), layout="constrained")
        axes = figure.subplots(len(slices), len(columns), squeeze=False)
        for line, (index, why) in zip(axes, slices.items(), strict=True):
            image = None if case.image is None else case.plane(case.image, index)[box]
            pixels = np.zeros((height, width)) if image is None else grey_or_colour(image)
            for ax, kinds in zip(line, columns.values(), strict=True):
                ax.imshow(pixels, cmap="gray", vmin=0, vmax=1, aspect=case.aspect, interpolation="bilinear")
                ax.set_xticks([], [])
                ax.set_yticks([], [])
                ax.spines[:].set_visible(False)
                if kinds is not None:
                    plane = case.plane(kinds, index)[box]
                    for of_class, (colour, dashes) in zip(case.classes.values(), styles.values(), strict=True):
                        outline(ax, np.isin(plane, of_class), colour, dashes)
                elif case.image is None:
                    ax.text(0.5, 0.5, "no image", color="white", ha="center", va="center", transform=ax.transAxes)
            of = case.counts.shape[case.axis]
            if of > 1:
                line[0].set_ylabel(f"slice {index + 1} of {of}\n{wrapped(why, 24)}")
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title)
        handles = [Line2D([], [], color=c, linestyle=d, linewidth=2.5, label=n) for n, (c, d) in styles.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns)
    return figure
