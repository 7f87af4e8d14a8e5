"""``shapekd cross``: models on datasets they were not trained on, beside their own, evaluated and compared.

Everything is checked before anything is predicted: classes and channels by their names, references by their values,
the baseline by what it was trained on. Of a model's own dataset only cases are judged that did not train it.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_shapekd import __version__
from nnunet_shapekd.across.datasets import find_dataset, write_references
from nnunet_shapekd.across.model import Model
from nnunet_shapekd.across.predict import check_own, find_device, predict_cases
from nnunet_shapekd.across.table import lines
from nnunet_shapekd.across.tasks import PREDICTIONS, REFERENCES, Task, plan_all, read_models
from nnunet_shapekd.evaluation import compare
from nnunet_shapekd.evaluation.cases import labels_of_dataset
from nnunet_shapekd.evaluation.evaluate import Judging, evaluate_folders
from nnunet_shapekd.evaluation.metrics import METRICS
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.evaluation.results import per_patient, with_mean, write_csv, write_evaluation
from nnunet_shapekd.files.output import check_free, new_folder

COLUMNS = ("dataset", "where", "part", "baseline", *compare.COLUMNS, "distance_unit")


def cross(
    model_folder: str | Path,
    datasets: Sequence[str | Path],
    out: str | Path,
    *,
    baselines: Sequence[str | Path] = (),
    names: Sequence[str] | None = None,
    part: str | None = None,
    leave_out: Sequence[str] = (),
    ignore_channel_names: bool = False,
    folds: Sequence[str | int] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    device: str = "cuda",
    tta: bool = True,
    prediction_processes: int | None = None,
    tolerance: float = 1.0,
    pattern: str | None = None,
    processes: int | None = None,
    seed: int = 0,
    resamples: int = 9999,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Predict datasets with a model and its baselines, evaluate, and compare.

    Args:
        model_folder: of the model, see :func:`~.predict.read_model`.
        datasets: in nnU-Net's raw format: ids, names or folders.
        out: new folder, or one of an earlier run, whose predictions are kept where they would be the same again.
        baselines: folders of models trained on the same dataset; the first is what the others are compared with.
        names: of baselines and model, in this order; by default from their folders.
        part: "Tr" or "Ts"; by default Ts where there are labelsTs. Tr of the models' own dataset means the validation
            cases of each fold, predicted by that fold alone.
        leave_out: classes of models or datasets that are judged in none of the datasets.
        ignore_channel_names: the channels' names may differ.
        folds: see :func:`~.predict.read_model`; predict together, as with ``nnUNetv2_predict``.
        checkpoint: likewise.
        device: see :func:`~.predict.predict_cases`.
        tta: likewise.
        prediction_processes: likewise ``processes``.
        tolerance: see :class:`~nnunet_shapekd.evaluation.evaluate.Judging`.
        pattern: likewise.
        processes: likewise.
        seed: see :class:`~nnunet_shapekd.evaluation.compare.Statistics`.
        resamples: likewise.
        confidence: likewise.

    Returns:
        What ``cross.json`` holds: "models", "datasets" (one each, with "verdicts"), "confidence", "rows" (keys
        ``COLUMNS``; means are means over patients) and "version".

    Raises:
        FileNotFoundError, ValueError: before anything is predicted, listing what is wrong with the datasets.
    """
    out = Path(os.path.abspath(out))
    check_own(out, PREDICTIONS)
    find_device(device)
    if part not in (None, "Tr", "Ts"):
        raise ValueError(f"--part: expected Tr or Ts, got {part}")
    by_name = read_models(model_folder, baselines, names, folds, checkpoint)
    names, models = list(by_name), list(by_name.values())
    tasks = plan_all(
        [find_dataset(dataset) for dataset in datasets],
        models,
        leave_out=leave_out,
        part=part,
        ignore_channel_names=ignore_channel_names,
        processes=processes,
    )
    judging = Judging(tolerance=tolerance, pattern=pattern, processes=processes, chill=True)
    statistics = compare.Statistics(seed, resamples, confidence)
    kind = "comparison" if len(models) > 1 else "evaluation"
    for task in tasks:
        check_free(out / task.dataset.name, kind)
    (out / PREDICTIONS).mkdir(parents=True, exist_ok=True)

    rows, described = [], []
    for task in tasks:
        predictions = [out / PREDICTIONS / name / task.dataset.name / task.part for name in names]
        for name, model, folder in zip(names, models, predictions, strict=True):
            print(f"{name} on {task.dataset.name}", flush=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            predict_cases(
                model, task.images, folder, folds=task.folds, device=device, tta=tta, processes=prediction_processes
            )
        references, dataset_json = _references(task, models[-1], out, processes)
        here = replace(judging, dataset_json=dataset_json, leave_out=task.matching.left_out)
        target = out / task.dataset.name
        if len(models) > 1:
            comparison = compare.compare_folders(references, predictions, names, target, here, statistics)
            found, verdicts = comparison["rows"], comparison["verdicts"]
            unit, baseline = comparison["distance_unit"], comparison["baseline"]
        else:
            evaluation = evaluate_folders(references, predictions[0], here, name=names[0])
            write_evaluation(evaluation, target)
            found, verdicts, unit, baseline = list(_means(evaluation)), [], evaluation.distance_unit, None
        where = {"dataset": task.dataset.name, "where": task.where, "part": task.part, "baseline": baseline}
        rows += [{**dict.fromkeys(COLUMNS), **where, **row, "distance_unit": unit} for row in found]
        described.append(_described(task, references, verdicts))
    result = {
        "models": [_described_model(name, model, tta) for name, model in zip(names, models, strict=True)],
        "datasets": described,
        "confidence": confidence,
        "rows": rows,
        "version": __version__,
    }
    _replace(out / "cross.csv", lambda path: write_csv(path, COLUMNS, ([row[key] for key in COLUMNS] for row in rows)))
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    _replace(out / "cross.json", lambda path: path.write_text(text, encoding="utf-8"))
    return result


def _references(task: Task, model: Model, out: Path, processes: int | None) -> tuple[Path, Path]:
    """Folder of the references in the model's values, and the dataset.json that says so; copies only where needed."""
    same_labels = labels_of_dataset({"labels": task.matching.labels}) == labels_of_dataset(model.dataset_json)
    if task.matching.is_identity and same_labels and task.dataset.file_ending == model.file_ending:
        return task.dataset.labels(task.part), model.folder / "dataset.json"
    target = out / REFERENCES / task.dataset.name
    with new_folder(target, kind="references") as building:
        write_references(
            task.dataset, task.part, list(task.images), task.matching, model.file_ending, building, processes
        )
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


def _described_model(name: str, model: Model, tta: bool) -> dict[str, Any]:
    return {
        "name": name,
        "folder": str(model.folder),
        "trainer": model.trainer,
        "dataset": model.dataset,
        "checkpoint": model.checkpoint,
        "weights_sha256": model.weights_sha256,
        "tta": tta,
    }


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


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    write(temporary)
    os.replace(temporary, path)


def run(model_folder: str, datasets: Sequence[str], out: str, **options: Any) -> int:
    """``shapekd cross``: :func:`cross`, and its table; returns the exit code 0."""
    result = cross(model_folder, datasets, out, **options)
    print()
    print("\n".join(lines(result)))
    print(f"\nWritten to {out}: cross.csv and cross.json, and a folder for each dataset. Next, for pictures:")
    for dataset in result["datasets"]:
        arguments = [os.path.join(out, dataset["name"]), "-o", "REPORT", "--images", dataset["images"]]
        print(f"  shapekd report {shlex.join(arguments)}")
    return 0
