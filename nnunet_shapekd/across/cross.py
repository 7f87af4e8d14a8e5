"""``shapekd cross``: models on datasets they were not trained on, beside their own, evaluated and compared.

Everything is checked before anything is predicted: classes and channels by their names, references by their values,
the baseline by what it was trained on. Of a model's own dataset only cases are judged that did not train it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_shapekd import __version__
from nnunet_shapekd.across.datasets import find_dataset, write_references
from nnunet_shapekd.across.model import Model, read_models
from nnunet_shapekd.across.options import CrossOptions
from nnunet_shapekd.across.predict import RECORD, check_own, predict_cases
from nnunet_shapekd.across.tasks import PREDICTIONS, REFERENCES, Task, plan_all
from nnunet_shapekd.evaluation import by, compare
from nnunet_shapekd.evaluation.evaluate import evaluate_folders
from nnunet_shapekd.evaluation.metrics import METRICS
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.evaluation.results import per_patient, with_mean, write_csv, write_evaluation, write_json
from nnunet_shapekd.files.dataset_json import labels_of_dataset
from nnunet_shapekd.files.output import check_free, new_file, new_folder
from nnunet_shapekd.training.devices import find_device

COLUMNS = ("dataset", "where", "part", "baseline", *compare.COLUMNS, "distance_unit")
COLUMNS_BY = ("dataset", *by.KEYS, *COLUMNS[1:])


def cross(
    model_folder: str | Path, datasets: Sequence[str | Path], out: str | Path, options: CrossOptions
) -> dict[str, Any]:
    """Predict datasets with a model and its baselines, evaluate, and compare.

    Args:
        model_folder: of the model, see :func:`~.model.read_model`.
        datasets: in nnU-Net's raw format: ids, names or folders.
        out: new folder, or one of an earlier run, whose predictions are kept where they would be the same again.
        options: all else.

    Returns:
        What ``cross.json`` holds: "models", "datasets" (one each, with "verdicts"), "confidence", "rows" (keys
        ``COLUMNS``; means are means over patients), "by" where columns are named (rows of each value's cases, keys
        ``COLUMNS_BY``) and "version".

    Raises:
        FileNotFoundError, ValueError: before anything is predicted, listing what is wrong with the datasets.
    """
    out = Path(os.path.abspath(out))
    check_own(out, PREDICTIONS)
    find_device(options.device, "predict")
    if problems := options.problems():
        raise ValueError("\n".join(problems))
    judging = options.judging(chill=True)
    statistics = compare.Statistics(options.seed, options.resamples, options.confidence)
    models = read_models(model_folder, options)
    tasks = plan_all([find_dataset(dataset) for dataset in datasets], list(models.values()), options)
    folders = {
        task.dataset.name: [out / PREDICTIONS / name / task.dataset.name / task.part for name in models]
        for task in tasks
    }
    for task in tasks:
        check_free(out / task.dataset.name, "comparison" if len(models) > 1 else "evaluation")
        check_free(out / REFERENCES / task.dataset.name, "references")
        for folder in folders[task.dataset.name]:
            check_own(folder, RECORD)
    (out / PREDICTIONS).mkdir(parents=True, exist_ok=True)

    rows, rows_by, described = [], [], []
    for task in tasks:
        predictions = folders[task.dataset.name]
        for (name, model), folder in zip(models.items(), predictions, strict=True):
            print(f"{name} on {task.dataset.name}", flush=True)
            predict_cases(model, task.images, folder, options, task.folds)
        references, dataset_json = _references(task, model, out, options.processes)
        columns = [name for name in options.by if name not in task.absent]
        here = replace(judging, dataset_json=dataset_json, leave_out=task.matching.left_out, by=columns)
        names, target = list(models), out / task.dataset.name
        if len(models) > 1:
            found = compare.compare_folders(references, predictions, names, target, here, statistics)
        else:
            evaluation = evaluate_folders(references, predictions[0], here, name=names[0])
            write_evaluation(evaluation, target)
            of_values = ({**of, **row} for of, (alone,) in by.parts([evaluation]) for row in _means(alone))
            found = {"rows": _means(evaluation), "by": of_values, "distance_unit": evaluation.distance_unit}
        where = {"dataset": task.dataset.name, "where": task.where, "part": task.part}
        where |= {"baseline": found.get("baseline"), "distance_unit": found["distance_unit"]}
        rows += [{**dict.fromkeys(COLUMNS), **row, **where} for row in found["rows"]]
        rows_by += [{**dict.fromkeys(COLUMNS), **row, **where} for row in found.get("by", ())]
        described.append(_described(task, references, found.get("verdicts", ())))
    result = {
        "models": [model.described(name, options.tta) for name, model in models.items()],
        "datasets": described,
        "confidence": options.confidence,
        "rows": rows,
        **({"by": rows_by} if options.by else {}),
        "version": __version__,
    }
    if options.by:
        with new_file(out / by.FILE) as path:
            write_csv(path, COLUMNS_BY, ([row[key] for key in COLUMNS_BY] for row in rows_by))
    else:
        (out / by.FILE).unlink(missing_ok=True)  # of an earlier run
    with new_file(out / "cross.csv") as path:
        write_csv(path, COLUMNS, ([row[key] for key in COLUMNS] for row in rows))
    with new_file(out / "cross.json") as path:
        write_json(path, result)
    return result


def _references(task: Task, model: Model, out: Path, processes: int | None) -> tuple[Path, Path]:
    """Folder of the references in the model's values, and the dataset.json that says so; copies only where needed."""
    same_labels = labels_of_dataset({"labels": task.matching.labels}) == model.labels
    if task.matching.is_identity and same_labels and task.dataset.file_ending == model.file_ending:
        return task.dataset.labels(task.part), model.folder / "dataset.json"
    target = out / REFERENCES / task.dataset.name
    with new_folder(target, kind="references") as building:
        write_references(task, model, building, processes)
    return target / f"labels{task.part}", target / "dataset.json"


def _means(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Rows as a comparison has them, of one model: means over patients."""
    for metric in METRICS:
        values = with_mean(evaluation, metric) if len(evaluation.classes) > 1 else evaluation.values(metric)
        for name, of_case in values.items():
            means = per_patient(evaluation, of_case)
            n_cases = sum(not math.isnan(value) for value in of_case.values())
            row = {"model": evaluation.name, "class": name, "metric": metric}
            row |= {"n_cases": n_cases, "n_patients": len(means)}
            yield {**row, "model_mean": float(means.mean()) if len(means) else None}


def _described(task: Task, references: Path, verdicts: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    return {
        "name": task.dataset.name,
        "folder": str(task.dataset.folder),
        "where": task.where,
        "part": task.part,
        "n_cases": len(task.images),
        "classes": task.matching.classes,
        "left_out": task.matching.left_out,
        "labels": str(task.matching),
        "references": str(references),
        "images": str(task.dataset.images(task.part)),
        "remarks": task.remarks,
        "verdicts": list(verdicts),
    }
