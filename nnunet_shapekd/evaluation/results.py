"""Means of an evaluation, and its files."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_shapekd import __version__
from nnunet_shapekd.evaluation.cardiac import agreement, indices
from nnunet_shapekd.evaluation.record import COLUMNS, COUNTS, MEAN, METRICS, RINGS, Evaluation
from nnunet_shapekd.evaluation.statistics import patient_means
from nnunet_shapekd.files.output import new_folder

_TEXTS = ("case", "patient", "phase", "class", "empty")


def describe(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, standard deviation (n - 1), median and n of what is defined; None where that is too little."""
    defined = np.array([value for value in values if not math.isnan(value)])
    return {
        "mean": float(defined.mean()) if len(defined) else None,
        "sd": float(defined.std(ddof=1)) if len(defined) > 1 else None,
        "median": float(np.median(defined)) if len(defined) else None,
        "n": len(defined),
    }


def shared(evaluations: Iterable[Evaluation], metric: str = "dice") -> tuple[set[tuple[str, str]], int]:
    """What models can be averaged over without one of them gaining or losing a patient.

    Args:
        evaluations: of the same references.
        metric: undefined where reference and prediction are empty.

    Returns:
        (case, class) for which the metric is defined in all of them; and how many others there are, for which it is in
        some: structures that are not there, and that some predicted.
    """
    of_each = [defined(evaluation, metric) for evaluation in evaluations]
    keys = set.intersection(*of_each)
    return keys, len(set.union(*of_each) - keys)


def defined(evaluation: Evaluation, metric: str) -> set[tuple[str, str]]:
    """(case, class) for which a metric is defined."""
    return {(row["case"], row["class"]) for row in evaluation.rows if not math.isnan(row[metric])}


def mean_over_classes(
    evaluation: Evaluation, metric: str, keys: Container[tuple[str, str]] | None = None
) -> dict[str, float]:
    """Case -> mean of a metric over the classes for which it is defined, NaN if for none.

    Args:
        keys: (case, class) that count, such as :func:`shared` finds; by default all.
    """
    values: dict[str, list[float]] = {}
    for row in evaluation.rows:
        counts = keys is None or (row["case"], row["class"]) in keys
        values.setdefault(row["case"], []).append(row[metric] if counts else math.nan)
    means = {case: [value for value in found if not math.isnan(value)] for case, found in values.items()}
    return {case: sum(found) / len(found) if found else math.nan for case, found in means.items()}


def per_patient(evaluation: Evaluation, of_case: Mapping[str, float]) -> np.ndarray:
    """One value a patient, (patients,): the mean over the patient's cases whose value is defined."""
    whose = {row["case"]: row["patient"] for row in evaluation.rows}
    defined = {case: value for case, value in of_case.items() if not math.isnan(value)}
    return patient_means(np.array(list(defined.values())), [whose[case] for case in defined])[1]


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
        "dataset_json": None if evaluation.dataset_json is None else str(evaluation.dataset_json),
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
    with new_folder(out, kind="evaluation") as folder:
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


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
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
            dataset_json=Path(summary["dataset_json"]) if summary["dataset_json"] else None,
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
