"""``shapekd evaluate``: every case and class of a folder of predictions, against the references."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_shapekd.evaluation.cases import (
    Case,
    Labels,
    cardiac_roles,
    find_cases,
    find_dataset_json,
    labels_by_value,
    labels_of_dataset,
    read_dataset_json,
    with_patients,
)
from nnunet_shapekd.evaluation.judge import judge
from nnunet_shapekd.evaluation.names import default_names
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.files.label_maps import differences, read_label_map, unknown_labels, values_in
from nnunet_shapekd.files.parallel import default_processes, map_in_processes

# What starting a worker costs, about.
_WORKER_START_S = 1.0


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
        advice = "correct the file or name them (-djfile, -l), with --leave-out if they are not to be judged"
        problems += unknown_labels(path, values_in(label_map.values), labels.values, advice)
    if len(maps) == 2:
        problems += [f"{case.prediction}: {difference}" for difference in differences(*maps)]
    if problems or check_only:
        return [], problems, ("", 0)
    rows = judge(maps[0], maps[1], labels, tolerance, cardiac)
    whose = {"case": case.name, "patient": case.patient, "phase": case.phase}
    return [{**whose, **row} for row in rows], [], (maps[0].unit, maps[0].values.ndim)


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
    for folder in (reference, prediction):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
    if reference == prediction:
        raise ValueError(f"{reference}: is given both as references and as predictions")
    if labels is None and ignore_label is not None:
        raise ValueError("-il goes with -l: a dataset.json names its own ignore label")
    path = None
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

    name = name or default_names([prediction])[0]
    cases, problems = find_cases(reference, prediction, file_ending, chill)
    cases = with_patients(cases, reference, patients, pattern)
    work = partial(_judge_case, labels=known, tolerance=tolerance, cardiac=cardiac, check_only=bool(problems))
    # the first case tells what one costs, and so how many are worth a worker
    started = time.perf_counter()
    results = [work(case) for case in cases[:1]]
    per_worker = max(1, math.ceil(_WORKER_START_S / (time.perf_counter() - started)))
    results += map_in_processes(work, cases[1:], processes, f"Evaluating {name}", per_worker)
    problems += [problem for _, found, _ in results for problem in found]
    kinds = sorted({kind for _, _, kind in results if kind[0]})
    if len(kinds) > 1:
        problems.append(f"{reference}: has both images of one slice and volumes; evaluate them apart")
    if problems:
        raise ValueError(_listed(problems))
    unit, dimension = kinds[0]
    return Evaluation(
        name=name,
        reference=reference,
        prediction=prediction,
        file_ending=file_ending,
        dataset_json=path.resolve() if path else None,
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
