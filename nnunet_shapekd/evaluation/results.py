"""Means of an evaluation, and its files."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_shapekd import __version__
from nnunet_shapekd.evaluation import by
from nnunet_shapekd.evaluation.cardiac import agreement, indices
from nnunet_shapekd.evaluation.metrics import METRICS
from nnunet_shapekd.evaluation.record import MEAN, RINGS, TEXTS, Evaluation, columns, counts
from nnunet_shapekd.evaluation.statistics import patient_means
from nnunet_shapekd.files.names import cell, of_cell
from nnunet_shapekd.files.output import new_folder


def describe(values: Iterable[float]) -> dict[str, float | int | None]:
    """Mean, standard deviation (n - 1), median and n of what is defined; None where that is too little."""
    defined = np.array([value for value in values if not math.isnan(value)])
    return {
        "mean": float(defined.mean()) if len(defined) else None,
        "sd": float(defined.std(ddof=1)) if len(defined) > 1 else None,
        "median": float(np.median(defined)) if len(defined) else None,
        "n": len(defined),
    }


def shared(evaluations: Iterable[Evaluation]) -> tuple[set[tuple[str, str]], int]:
    """What evaluations of the same references can be averaged over without one of them gaining or losing a patient.

    Returns:
        (case, class) that is :func:`defined` in all of them; and how many others there are, which is defined in some:
        structures that are not there, and that some predicted.
    """
    of_each = [defined(evaluation) for evaluation in evaluations]
    keys = set.intersection(*of_each)
    return keys, len(set.union(*of_each) - keys)


def defined(evaluation: Evaluation) -> set[tuple[str, str]]:
    """(case, class) of which there is a mask: the metrics are defined."""
    return {(row["case"], row["class"]) for row in evaluation.rows if not math.isnan(row["dice"])}


def mean_over_classes(
    evaluation: Evaluation, metric: str, keys: Container[tuple[str, str]] | None = None
) -> dict[str, float]:
    """Case -> mean of a metric over the classes for which it is defined, NaN if for none.

    Only what is in ``keys`` counts, (case, class) such as :func:`shared` finds; by default all does.
    """
    found: dict[str, list[float]] = {case: [] for case in evaluation.patients}
    for row in evaluation.rows:
        if not math.isnan(row[metric]) and (keys is None or (row["case"], row["class"]) in keys):
            found[row["case"]].append(row[metric])
    return {case: sum(values) / len(values) if values else math.nan for case, values in found.items()}


def with_mean(evaluation: Evaluation, metric: str) -> dict[str, dict[str, float]]:
    """Class -> case -> value of a metric, and last MEAN -> case -> :func:`mean_over_classes`."""
    return {**evaluation.values(metric), MEAN: mean_over_classes(evaluation, metric)}


def per_patient(evaluation: Evaluation, of_case: Mapping[str, float]) -> np.ndarray:
    """One value a patient, (patients,): the mean over the patient's cases whose value is defined."""
    defined = {case: value for case, value in of_case.items() if not math.isnan(value)}
    whose = evaluation.patients
    return patient_means(np.array(list(defined.values())), [whose[case] for case in defined])[1]


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """What ``summary.json`` holds."""
    counted: dict[str, dict[str, int]] = {name: {} for name in evaluation.classes}
    for key in (*counts(), *RINGS):
        for name, of_case in evaluation.values(key).items():
            if not any(map(math.isnan, of_case.values())):
                counted[name][key] = int(sum(of_case.values()))
    empty = {name: list(of_case.values()) for name, of_case in evaluation.values("empty").items()}
    header = {key: value for key, value in asdict(evaluation).items() if key != "rows"}
    if evaluation.groups:
        by_value = [{**of, **_counts(alone), "metrics": _means(alone)} for of, (alone,) in by.parts([evaluation])]
        header |= {"by": by_value}
    else:
        del header["groups"]
    return {
        **header,
        "reference": str(evaluation.reference),
        "prediction": str(evaluation.prediction),
        "dataset_json": None if evaluation.dataset_json is None else str(evaluation.dataset_json),
        **_counts(evaluation),
        "empty_masks": {
            name: {which: found.count(which) for which in ("both", "reference", "prediction")}
            for name, found in empty.items()
        },
        "metrics": _means(evaluation),
        "plausibility": counted,
        "cardiac_indices": agreement(indices(evaluation)),
        "versions": {
            "nnunet_shapekd": __version__,
            **{name: version(name) for name in ("numpy", "scipy", "SimpleITK")},
        },
    }


def _counts(evaluation: Evaluation) -> dict[str, int]:
    return {"n_cases": len(evaluation.patients), "n_patients": len(set(evaluation.patients.values()))}


def _means(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Class, and last MEAN -> column of a metric -> :func:`describe` of the cases."""
    metrics: dict[str, dict[str, Any]] = {name: {} for name in (*evaluation.classes, MEAN)}
    for key in METRICS:
        for name, of_case in with_mean(evaluation, key).items():
            metrics[name][evaluation.header(key)] = describe(of_case.values())
    return metrics


def write_evaluation(evaluation: Evaluation, out: str | Path) -> list[str]:
    """Write ``metrics.csv``, ``summary.json``, and what there is of ``cardiac.csv`` and ``by.csv``; names them.

    The folder is new, empty, or holds an earlier evaluation, which is replaced as a whole.
    """
    with new_folder(out, kind="evaluation") as folder:
        fill(evaluation, folder)
        return sorted(path.name for path in folder.iterdir())


def fill(evaluation: Evaluation, folder: Path) -> None:
    """Write an evaluation's files into a folder that exists."""
    header = [evaluation.header(key) for key in columns()]
    write_csv(folder / "metrics.csv", header, ([row[key] for key in columns()] for row in evaluation.rows))
    if patients := indices(evaluation):
        write_csv(folder / "cardiac.csv", list(patients[0]), (row.values() for row in patients))
    summary = summarise(evaluation)
    if evaluation.groups:
        header = (*by.KEYS, "n_cases", "n_patients", "class", "metric", "mean", "sd", "median", "n")
        rows = (
            {**part, "class": name, "metric": metric, **found}
            for part in summary["by"]
            for name, of_metric in part["metrics"].items()
            for metric, found in of_metric.items()
        )
        write_csv(folder / by.FILE, header, ([row[key] for key in header] for row in rows))
    write_json(folder / "summary.json", summary)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Rows of text and numbers: six significant digits, an empty cell for what is undefined."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(cell, columns))
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return cell(value)


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
        header = {
            one.name: summary[one.name]
            for one in fields(Evaluation)
            if one.name != "rows" and (one.name in summary or one.default is one.default_factory is MISSING)
        }
        header |= {key: Path(summary[key]) for key in ("reference", "prediction")}
        header["dataset_json"] = Path(summary["dataset_json"]) if summary["dataset_json"] else None
        header["classes"] = {name: tuple(values) for name, values in summary["classes"].items()}
        evaluation = Evaluation(**header | {"left_out": tuple(summary["left_out"])}, rows=[])
        for row in rows:
            cells = {key: row[evaluation.header(key)] for key in columns()}
            evaluation.rows.append(
                {key: of_cell(text) if key in TEXTS else float(text or "nan") for key, text in cells.items()}
            )
        for column, of_case in evaluation.groups.items():
            evaluation.groups[column] = {case: of_case[case] + "" for case in evaluation.patients}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{folder}: is no result of this version's `shapekd evaluate` ({error}); run it again. "
            "(nnU-Net's own summary.json is another.)"
        ) from None
    if len(evaluation.rows) != summary["n_cases"] * len(evaluation.classes):
        raise ValueError(f"{folder}: metrics.csv has not one row a case and class; run `shapekd evaluate` again")
    return evaluation
