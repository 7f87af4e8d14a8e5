"""``shapekd evaluate``: every case and class of a folder of predictions, against the references."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_shapekd.evaluation.cases import Case
from nnunet_shapekd.evaluation.judge import judge
from nnunet_shapekd.evaluation.judging import Judging
from nnunet_shapekd.evaluation.names import default_names
from nnunet_shapekd.evaluation.prepare import Folders, prepare, raise_all, read_case
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.files.dataset_json import Labels
from nnunet_shapekd.files.parallel import default_processes, map_in_processes

# What starting a worker costs, about.
_WORKER_START_S = 1.0


def evaluate_folders(
    reference: str | Path, prediction: str | Path, judging: Judging | None = None, *, name: str | None = None
) -> Evaluation:
    """Judge all predictions in a folder.

    Args:
        reference: folder of the references.
        prediction: folder of the predictions, of the same file names.
        judging: how; by default as ``Judging()`` says.
        name: of the model; by default from the prediction folder, see :func:`~.names.default_names`.

    Raises:
        FileNotFoundError: if a folder, or what names the labels, is missing.
        ValueError: listing all that is wrong with the files; or with ``judging``.
    """
    judging = judging or Judging()
    return evaluate(prepare(reference, prediction, judging), judging, name)


def evaluate(folders: Folders, judging: Judging, name: str | None = None) -> Evaluation:
    """Judge folders that have been prepared; arguments and errors as of :func:`evaluate_folders`."""
    name = name or default_names([folders.prediction])[0]
    work = partial(
        _judge_case,
        labels=folders.labels,
        reader=folders.reader,
        tolerance=judging.tolerance,
        cardiac=folders.cardiac,
    )
    # the first case tells what one costs, and so how many are worth a worker
    started = time.perf_counter()
    results = [work(case) for case in folders.cases[:1]]
    per_worker = max(1, math.ceil(_WORKER_START_S / (time.perf_counter() - started)))
    processes = judging.processes or default_processes()
    results += map_in_processes(work, folders.cases[1:], processes, f"Evaluating {name}", per_worker)
    raise_all([problem for _, found in results for problem in found])
    return Evaluation(
        name=name,
        reference=folders.reference,
        prediction=folders.prediction,
        file_ending=folders.file_ending,
        dataset_json=folders.dataset_json,
        classes=folders.labels.classes,
        ignore_label=folders.labels.ignore,
        left_out=folders.labels.left_out,
        cardiac=folders.cardiac,
        distance_unit=folders.unit,
        size_unit="px" if folders.unit == "px" else "ml" if folders.axes == 3 else "mm2",
        tolerance=float(judging.tolerance),
        rows=[row for rows, _ in results for row in rows],
        unknown_patients=folders.unknown_patients,
        groups=folders.groups,
    )


def _judge_case(
    case: Case, labels: Labels, reader: str | None, tolerance: float, cardiac: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows and problems of one case."""
    maps, problems = read_case(case, labels, reader)
    if problems:
        return [], problems
    whose = {"case": case.name, "patient": case.patient, "phase": case.phase}
    return [{**whose, **row} for row in judge(maps[0], maps[1], labels, tolerance, cardiac)], []
