"""``shapekd evaluate``: every case and class of a folder of predictions, against the references."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Judging:
    """How folders of label maps are judged.

    Attributes:
        dataset_json: names the labels and the file ending; by default the one found beside the folders.
        labels: instead, the label values to judge.
        ignore_label: with ``labels``, the value of voxels that are not judged.
        leave_out: classes (names, or values) that are not judged and count as background.
        tolerance: of the NSD, in mm, or in pixels for images without a spacing.
        patients: a table of which cases belong to one patient, see :func:`~.cases.by_table`; by default patients.csv
            beside the reference folder, where there is one.
        pattern: a regular expression for whole case names with a group "patient", and one "phase" if wanted.
        chill: references without a prediction are left out, as with nnU-Net's ``--chill``.
        processes: cases read at once; by default the cores, at most eight.

    Raises:
        ValueError: if a number is out of range, or two of them contradict each other.
    """

    dataset_json: str | Path | None = None
    labels: Sequence[int] | None = None
    ignore_label: int | None = None
    leave_out: Sequence[str] = ()
    tolerance: float = 1.0
    patients: str | Path | None = None
    pattern: str | None = None
    chill: bool = False
    processes: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"--tolerance: expected a distance of 0 or more, got {self.tolerance}")
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"--processes: expected 1 or more, got {self.processes}")
        if self.labels is None and self.ignore_label is not None:
            raise ValueError("-il goes with -l: a dataset.json names its own ignore label")
        if self.labels is not None and self.dataset_json is not None:
            raise ValueError("-l and -djfile both name the labels: give one of them")


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
    reference, prediction = Path(reference).resolve(), Path(prediction).resolve()
    for folder in (reference, prediction):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
    if reference == prediction:
        raise ValueError(f"{reference}: is given both as references and as predictions")
    labels, file_ending, dataset_json = _labels(reference, prediction, judging)
    cardiac = cardiac_roles(labels.classes)

    name = name or default_names([prediction])[0]
    cases, problems = find_cases(reference, prediction, file_ending, judging.chill)
    cases = with_patients(cases, reference, judging.patients, judging.pattern)
    work = partial(_judge_case, labels=labels, tolerance=judging.tolerance, cardiac=cardiac, check_only=bool(problems))
    # the first case tells what one costs, and so how many are worth a worker
    started = time.perf_counter()
    results = [work(case) for case in cases[:1]]
    per_worker = max(1, math.ceil(_WORKER_START_S / (time.perf_counter() - started)))
    processes = judging.processes or default_processes()
    results += map_in_processes(work, cases[1:], processes, f"Evaluating {name}", per_worker)
    problems += [problem for _, found, _ in results for problem in found]
    kinds = sorted({kind for _, _, kind in results if kind[0]})
    if len(kinds) > 1:
        problems.append(f"{reference}: has both images of one slice and volumes; evaluate them apart")
    if len(problems) > 1:
        listed = "".join(f"\n  - {line}" for line in problems)
        raise ValueError(f"{len(problems)} problems found, nothing was written:{listed}")
    if problems:
        raise ValueError(problems[0])
    unit, dimension = kinds[0]
    return Evaluation(
        name=name,
        reference=reference,
        prediction=prediction,
        file_ending=file_ending,
        dataset_json=dataset_json,
        classes=labels.classes,
        ignore_label=labels.ignore,
        left_out=labels.left_out,
        cardiac=cardiac,
        distance_unit=unit,
        size_unit="px" if unit == "px" else "ml" if dimension == 3 else "mm2",
        tolerance=float(judging.tolerance),
        rows=[row for rows, _, _ in results for row in rows],
    )


def _labels(reference: Path, prediction: Path, judging: Judging) -> tuple[Labels, str, Path | None]:
    """Labels, file ending, and the dataset.json that said so."""
    if judging.labels is not None:
        labels = labels_by_value(judging.labels, judging.ignore_label)
        return labels.without(judging.leave_out), _common_ending(reference), None
    path = Path(judging.dataset_json or find_dataset_json(reference, prediction))
    content = read_dataset_json(path)
    file_ending = str(content.get("file_ending") or _common_ending(reference))
    return labels_of_dataset(content).without(judging.leave_out), file_ending, path.resolve()


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
