"""``shapekd stress``: models on the same images, shifted more and more, see :mod:`~nnunet_shapekd.stress.shifts`.

It stands in for a second dataset where there is none, and is no substitute: scanners differ in more than this.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_shapekd import __version__
from nnunet_shapekd.across.predict import RECORD, check_own, find_device, predict_cases
from nnunet_shapekd.across.tasks import PREDICTIONS
from nnunet_shapekd.drawing import png
from nnunet_shapekd.evaluation.evaluate import evaluate_folders
from nnunet_shapekd.evaluation.metrics import headlines
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.evaluation.results import defined, mean_over_classes, per_patient, shared
from nnunet_shapekd.files.output import check_free, new_folder, scratch_folder
from nnunet_shapekd.stress.cases import each_subject, shift_files
from nnunet_shapekd.stress.options import StressOptions
from nnunet_shapekd.stress.pictures import examples
from nnunet_shapekd.stress.plan import Plan, check_library, make_plan
from nnunet_shapekd.stress.shifts import size_of
from nnunet_shapekd.stress.tables import is_marked, write_tables

#: in OUT, beside the predictions
RESULTS = "results"
#: in OUT, by which a later run knows it
MARK = f"{PREDICTIONS}/.shapekd-stress"


def stress(
    model_folder: str | Path, images: str | Path, labels: str | Path, out: str | Path, options: StressOptions
) -> dict[str, Any]:
    """Shift images, predict them with a model and its baselines, evaluate, and write tables and pictures.

    Args:
        model_folder: see :func:`~nnunet_shapekd.across.model.read_model`.
        images: folder of CASE_0000 and so on, of the file ending the model was trained on.
        labels: folder of their references, in the model's label values; may hold more.
        out: new folder, or one of an earlier run, whose predictions are kept where they would be the same again.
        options: all else.

    Returns:
        What ``stress.json`` holds: the settings, and what :func:`over_patients` counts, with "means", one of each
        model, shift and severity: the headline metrics' means over patients.

    Raises:
        FileNotFoundError, ValueError: before anything is predicted, listing what is missing or does not fit together.
    """
    check_library()
    images, labels, out = Path(images), Path(labels), Path(os.path.abspath(out))
    check_own(out, MARK)
    check_free(out / RESULTS, "stress")
    find_device(options.device, "predict")
    plan = make_plan(model_folder, images, labels, options)
    for name in plan.models:
        for shift, severity in plan.steps:
            check_own(_predicted(out, name, shift, severity), RECORD)
    for remark in plan.remarks:
        print(remark)
    (out / MARK).parent.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    evaluations = dict(_evaluations(plan, labels, out, options))
    first = next(iter(evaluations.values()))
    values, counts = over_patients(evaluations)
    result = {
        "models": [model.described(name, options.tta) for name, model in plan.models.items()],
        "images": str(images.resolve()),
        "labels": str(labels.resolve()),
        "cases": [subject.case for subject in plan.subjects],
        **counts,
        "classes": list(first.classes),
        "distance_unit": first.distance_unit,
        "remarks": plan.remarks,
        "seed": options.seed,
        "inverted": options.invert,
        "changed": {shift: plan.changed[shift] for shift, _ in plan.steps if shift in plan.changed},
        "normalisation": plan.schemes,
        "means": [
            {
                "model": name,
                "shift": shift,
                "severity": severity,
                "value": size_of(shift, severity),
                **{metric: float(found.mean()) if len(found) else None for metric, found in of_metric.items()},
            }
            for (name, shift, severity), of_metric in values.items()
        ],
        "versions": {
            "nnunet_shapekd": __version__,
            **{name: version(name) for name in ("torchio", "batchgeneratorsv2")},
        },
    }
    with new_folder(out / RESULTS, kind="stress") as folder:
        write_tables(evaluations, values, result, folder)
        shown = plan.subjects[0], plan.steps[1:], options.seed, plan.changed, is_marked(plan.schemes)
        figure = examples(*shown, reader=plan.reader)
        (folder / "examples.png").write_bytes(png(figure))
    return result


def _evaluations(
    plan: Plan, labels: Path, out: Path, options: StressOptions
) -> Iterator[tuple[tuple[str, str, int], Evaluation]]:
    """Shift, predict and judge, step by step: model, shift and severity, and what was found."""
    for i, (shift, severity) in enumerate(plan.steps, start=1):
        print(f"[{i}/{len(plan.steps)}] {shift if severity == 0 else f'{shift} {severity}'}", flush=True)
        with scratch_folder(out / PREDICTIONS / ".images") as folder:
            how = {"shift": shift, "severity": severity, "seed": options.seed, "changed": plan.changed}
            how["reader"] = plan.reader
            each_subject(partial(shift_files, folder=folder, **how), plan.subjects, options.processes, "Shifting")
            files = {one.case: [folder / path.name for path in one.images] for one in plan.subjects}
            for name, model in plan.models.items():
                predicted = _predicted(out, name, shift, severity)
                predict_cases(model, files, predicted, options, plan.folds)
                dataset_json = model.folder / "dataset.json"
                judged = evaluate_folders(
                    labels, predicted, replace(plan.judging, dataset_json=dataset_json), name=name
                )
                yield (name, shift, severity), judged


def _predicted(out: Path, model: str, shift: str, severity: int) -> Path:
    return out / PREDICTIONS / model / f"{shift}_{severity}"


def over_patients(
    evaluations: Mapping[tuple[str, str, int], Evaluation],
) -> tuple[dict[tuple[str, str, int], dict[str, np.ndarray]], dict[str, Any]]:
    """Every step's headline metrics, of the same structures: those that have a value in all steps of all models.

    Args:
        evaluations: of each model, shift and severity, of the same references.

    Returns:
        For each of them metric -> one value a patient: the mean over classes within a case, then over the patient's
        cases. And how many cases and patients these are, and how many structures that are not there were predicted
        (and left out): by some model at some step ("n_invented"), and by each of the models ("invented").
    """
    keys, n_invented = shared(evaluations.values())
    invented: dict[str, set[tuple[str, str]]] = {}
    for (name, *_), evaluation in evaluations.items():
        invented.setdefault(name, set()).update(defined(evaluation) - keys)
    values = {
        step: {one.key: per_patient(evaluation, mean_over_classes(evaluation, one.key, keys)) for one in headlines()}
        for step, evaluation in evaluations.items()
    }
    return values, {
        "n_cases": len({case for case, _ in keys}),
        "n_patients": len(next(iter(values.values()))["dice"]),
        "n_invented": n_invented,
        "invented": {name: len(found) for name, found in invented.items()},
    }
