"""``shapekd evaluate``: every case and class of a folder of predictions, against the references.

Empty masks, one rule for every metric: where reference and prediction of a class are both empty, nothing can be
judged, and all metrics are NaN, as nnU-Net's Dice is. Where one of them is, Dice, IoU and NSD are 0 and the distances
are the length of the image's diagonal, the largest distance there could be.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_shapekd import __version__
from nnunet_shapekd.evaluation import plausibility
from nnunet_shapekd.evaluation.cardiac import agreement, indices
from nnunet_shapekd.evaluation.cases import (
    Case,
    Labels,
    by_pattern,
    by_table,
    cardiac_roles,
    find_cases,
    find_dataset_json,
    labels_by_value,
    labels_of_dataset,
    read_dataset_json,
)
from nnunet_shapekd.evaluation.label_maps import LabelMap, differences, read_label_map
from nnunet_shapekd.evaluation.names import default_names
from nnunet_shapekd.evaluation.surface import surface_metrics
from nnunet_shapekd.output import new_folder
from nnunet_shapekd.parallel import default_processes, map_in_processes

HIGHER_IS_BETTER = {"dice": True, "iou": True, "nsd": True, "hd95": False, "hd": False, "assd": False}
METRICS = tuple(HIGHER_IS_BETTER)
DISTANCES = ("hd95", "hd", "assd")
SIZES = ("reference_size", "prediction_size")
COUNTS = ("extra_components", "holes", "reference_extra_components", "reference_holes")
RINGS = ("ring_slices", "open_ring_slices", "reference_ring_slices", "reference_open_ring_slices")
#: the row of the mean over classes
MEAN = "mean"
COLUMNS = ("case", "patient", "phase", "class", *METRICS, *SIZES, "empty", *COUNTS, *RINGS)
_TEXTS = ("case", "patient", "phase", "class", "empty")
# What starting a worker costs, about.
_WORKER_START_S = 1.0


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

    def header(self, key: str) -> str:
        """A column's name with its unit: "hd95" -> "hd95_mm"."""
        if key in DISTANCES:
            return f"{key}_{self.distance_unit}"
        return key.replace("_size", f"_{self.size_unit}") if key in SIZES else key


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


def _judge_case(
    case: Case, labels: Labels, tolerance: float, cardiac: Mapping[str, str], check_only: bool
) -> tuple[list[dict[str, Any]], list[str], tuple[str, int]]:
    """Rows, problems, and unit and dimension of one case."""
    problems, maps = [], []
    for path in (case.reference, case.prediction):
        try:
            label_map = read_label_map(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        maps.append(label_map)
        # minimum and maximum first: np.unique sorts, which takes longer than all else here
        values = label_map.values
        if values.min() < 0 or values.max() >= len(table := _known_values(labels)) or not table[values].all():
            unknown = sorted(set(np.unique(values).tolist()) - labels.values)
            problems.append(
                f"{path}: unknown label value{'s' * (len(unknown) > 1)} {', '.join(map(str, unknown[:10]))}"
                f"{', ...' * (len(unknown) > 10)}; known are {', '.join(map(str, sorted(labels.values)))}"
            )
    if len(maps) == 2:
        problems += [f"{case.prediction}: {difference}" for difference in differences(*maps)]
    if problems or check_only:
        return [], problems, ("", 0)
    rows = judge(maps[0], maps[1], labels, tolerance, cardiac)
    whose = {"case": case.name, "patient": case.patient, "phase": case.phase}
    return [{**whose, **row} for row in rows], [], (maps[0].unit, maps[0].values.ndim)


def _known_values(labels: Labels) -> np.ndarray:
    table = np.zeros(max(labels.values) + 1, dtype=bool)
    table[list(labels.values)] = True
    return table


def evaluate_folders(
    reference: str | Path,
    prediction: str | Path,
    *,
    dataset_json: str | Path | None = None,
    labels: Sequence[int] | None = None,
    ignore_label: int | None = None,
    leave_out: Sequence[str] = (),
    name: str | None = None,
    tolerance: float = 1.0,
    patients: str | Path | None = None,
    pattern: str | None = None,
    chill: bool = False,
    processes: int | None = None,
) -> Evaluation:
    """Judge all predictions in a folder.

    Args:
        reference: folder of the references.
        prediction: folder of the predictions, of the same file names.
        dataset_json: names the labels and the file ending; by default the one found beside the folders.
        labels: instead, the label values to judge.
        ignore_label: with ``labels``, the value of voxels that are not judged.
        leave_out: classes (names, or values) that are not judged and count as background.
        name: of the model; by default from the prediction folder, see :func:`~.names.default_names`.
        tolerance: of the NSD, in mm, or in pixels for images without a spacing.
        patients: a table of which cases belong to one patient, see :func:`~.cases.by_table`; by default patients.csv
            beside the reference folder, where there is one.
        pattern: a regular expression for whole case names with a group "patient", and one "phase" if wanted.
        chill: references without a prediction are left out, as with nnU-Net's ``--chill``.
        processes: cases read at once; by default the cores, at most eight.

    Raises:
        FileNotFoundError: if a folder, or what names the labels, is missing.
        ValueError: listing all that is wrong with the files; or an argument that is.
    """
    reference, prediction = Path(reference).resolve(), Path(prediction).resolve()
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"--tolerance: expected a distance of 0 or more, got {tolerance}")
    processes = default_processes() if processes is None else processes
    if processes < 1:
        raise ValueError(f"--processes: expected 1 or more, got {processes}")
    if patients is not None and pattern is not None:
        raise ValueError("--patients and --pattern both say which cases are one patient's: give one of them")
    for folder in (reference, prediction):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
    if labels is None:
        path = find_dataset_json(reference, prediction) if dataset_json is None else Path(dataset_json)
        content = read_dataset_json(path)
        known = labels_of_dataset(content)
        file_ending = str(content.get("file_ending") or _common_ending(reference))
    elif dataset_json is not None:
        raise ValueError("-l and -djfile both name the labels: give one of them")
    else:
        known, file_ending = labels_by_value(labels, ignore_label), _common_ending(reference)
    known = known.without(leave_out)
    cardiac = cardiac_roles(known.classes)

    cases, problems = find_cases(reference, prediction, file_ending, chill)
    if patients is not None:
        cases = by_table(cases, Path(patients))
    else:
        cases = by_pattern(cases, pattern)
        beside = reference.parent / "patients.csv"
        if pattern is None and beside.is_file():
            cases = by_table(cases, beside, complete=False)
    work = partial(_judge_case, labels=known, tolerance=tolerance, cardiac=cardiac, check_only=bool(problems))
    # the first case tells what one costs, and so how many are worth a worker
    started = time.perf_counter()
    results = [work(case) for case in cases[:1]]
    per_worker = max(1, math.ceil(_WORKER_START_S / (time.perf_counter() - started)))
    results += map_in_processes(work, cases[1:], processes, "Evaluating", per_worker)
    problems += [problem for _, found, _ in results for problem in found]
    kinds = sorted({kind for _, _, kind in results if kind[0]})
    if len(kinds) > 1:
        problems.append(f"{reference}: has both images of one slice and volumes; evaluate them apart")
    if problems:
        raise ValueError(_listed(problems))
    unit, dimension = kinds[0]
    return Evaluation(
        name=name or default_names([prediction])[0],
        reference=reference,
        prediction=prediction,
        file_ending=file_ending,
        classes=known.classes,
        ignore_label=known.ignore,
        left_out=known.left_out,
        cardiac=cardiac,
        distance_unit=unit,
        size_unit="px" if unit == "px" else "ml" if dimension == 3 else "mm2",
        tolerance=float(tolerance),
        rows=[row for rows, _, _ in results for row in rows],
    )


def _common_ending(folder: Path) -> str:
    """The one file ending in a folder, as nnU-Net's ``-l`` evaluation takes it from any file."""
    names = [path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    endings = {".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix for name in names}
    if len(endings) != 1:
        raise ValueError(
            f"{folder}: expected files of one ending, got {', '.join(sorted(endings)) or 'no files'}; "
            "move the others away, or give -djfile, whose file_ending counts"
        )
    return endings.pop()


def _listed(problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n".join([f"{len(problems)} problems found, nothing was written:", *(f"  - {line}" for line in problems)])


# --- summaries and files ---------------------------------------------------------------------------------------------


def describe(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, standard deviation (n - 1), median and n of what is defined; None where that is too little."""
    defined = np.array([value for value in values if not math.isnan(value)])
    return {
        "mean": float(defined.mean()) if len(defined) else None,
        "sd": float(defined.std(ddof=1)) if len(defined) > 1 else None,
        "median": float(np.median(defined)) if len(defined) else None,
        "n": len(defined),
    }


def mean_over_classes(evaluation: Evaluation, metric: str) -> dict[str, float]:
    """Case -> mean of a metric over the classes for which it is defined, NaN if for none."""
    values: dict[str, list[float]] = {}
    for row in evaluation.rows:
        values.setdefault(row["case"], []).append(row[metric])
    means = {case: [value for value in found if not math.isnan(value)] for case, found in values.items()}
    return {case: sum(found) / len(found) if found else math.nan for case, found in means.items()}


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """What ``summary.json`` holds."""
    rows, of_class = evaluation.rows, {}
    for name in evaluation.classes:
        of_class[name] = [row for row in rows if row["class"] == name]
    metrics = {
        name: {evaluation.header(metric): describe([row[metric] for row in found]) for metric in METRICS}
        for name, found in of_class.items()
    }
    metrics[MEAN] = {
        evaluation.header(metric): describe(list(mean_over_classes(evaluation, metric).values())) for metric in METRICS
    }
    counted = {
        name: {key: int(sum(row[key] for row in found)) for key in (*COUNTS, *RINGS) if not math.isnan(found[0][key])}
        for name, found in of_class.items()
    }
    header = {key: value for key, value in asdict(evaluation).items() if key != "rows"}
    return {
        **header,
        "reference": str(evaluation.reference),
        "prediction": str(evaluation.prediction),
        "n_cases": len({row["case"] for row in rows}),
        "n_patients": len({row["patient"] for row in rows}),
        "empty_masks": {
            name: {which: sum(row["empty"] == which for row in found) for which in ("both", "reference", "prediction")}
            for name, found in of_class.items()
        },
        "metrics": metrics,
        "plausibility": counted,
        "cardiac_indices": agreement(indices(evaluation)),
        "versions": {
            "nnunet_shapekd": __version__,
            **{name: version(name) for name in ("numpy", "scipy", "SimpleITK")},
        },
    }


def write_evaluation(evaluation: Evaluation, out: str | Path) -> list[str]:
    """Write ``metrics.csv``, ``summary.json`` and, where there are cardiac indices, ``cardiac.csv`` into a folder.

    Args:
        out: a folder that is new, empty, or holds an earlier evaluation, which is replaced as a whole.

    Returns:
        The names of the files.
    """
    with new_folder(Path(out), replaces="summary.json") as folder:
        fill(evaluation, folder)
        return sorted(path.name for path in folder.iterdir())


def fill(evaluation: Evaluation, folder: Path) -> None:
    """Write an evaluation's files into a folder that exists."""
    header = {evaluation.header(key): key for key in COLUMNS}
    write_csv(folder / "metrics.csv", list(header), ([row[key] for key in header.values()] for row in evaluation.rows))
    if patients := indices(evaluation):
        write_csv(folder / "cardiac.csv", list(patients[0]), (row.values() for row in patients))
    text = json.dumps(summarise(evaluation), indent=2, allow_nan=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")


def write_csv(path: Path, columns: Sequence[str], rows: Any) -> None:
    """Rows of text and numbers: six significant digits, an empty cell for what is undefined."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else str(value)


def read_evaluation(folder: str | Path) -> Evaluation:
    """What :func:`write_evaluation` wrote.

    Raises:
        FileNotFoundError: if the folder holds no evaluation.
        ValueError: if its files are damaged or do not belong together.
    """
    folder = Path(folder)
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder}: holds no summary.json and metrics.csv of `shapekd evaluate`") from None
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ValueError(f"{folder}: is damaged ({error}); run `shapekd evaluate` again") from None
    try:
        evaluation = Evaluation(
            name=summary["name"],
            reference=Path(summary["reference"]),
            prediction=Path(summary["prediction"]),
            file_ending=summary["file_ending"],
            classes={name: tuple(values) for name, values in summary["classes"].items()},
            ignore_label=summary["ignore_label"],
            left_out=tuple(summary["left_out"]),
            cardiac=summary["cardiac"],
            distance_unit=summary["distance_unit"],
            size_unit=summary["size_unit"],
            tolerance=summary["tolerance"],
            rows=[],
        )
        for row in rows:
            cells = {key: row[evaluation.header(key)] for key in COLUMNS}
            evaluation.rows.append(
                {key: cell if key in _TEXTS else float(cell or "nan") for key, cell in cells.items()}
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{folder}: is no result of this version's `shapekd evaluate` ({error}); run it again. "
            "(nnU-Net's own summary.json is another.)"
        ) from None
    if len(evaluation.rows) != summary["n_cases"] * len(evaluation.classes):
        raise ValueError(f"{folder}: metrics.csv has not one row a case and class; run `shapekd evaluate` again")
    return evaluation
