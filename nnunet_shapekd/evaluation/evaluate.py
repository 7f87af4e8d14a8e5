"""``shapekd evaluate``: every case and class of a folder of predictions, against the references."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_shapekd.evaluation.cardiac import check_phases
from nnunet_shapekd.evaluation.cases import Case, cardiac_roles, find_cases, find_dataset_json, with_patients
from nnunet_shapekd.evaluation.judge import judge
from nnunet_shapekd.evaluation.names import default_names
from nnunet_shapekd.evaluation.problems import listed, out_of_range
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.files.dataset_json import (
    Labels,
    file_ending,
    labels_by_value,
    labels_of_dataset,
    read_dataset_json,
    reader_of,
)
from nnunet_shapekd.files.images import NIBABEL_READERS, NIFTI_ENDINGS, read_space
from nnunet_shapekd.files.label_maps import read_label_map, unknown_labels, values_in
from nnunet_shapekd.files.parallel import default_processes, map_in_processes
from nnunet_shapekd.files.space import Space, differing
from nnunet_shapekd.files.whose import some

# What starting a worker costs, about.
_WORKER_START_S = 1.0


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
        ignore_origins: a prediction may have another origin than its reference, of which nnU-Net only warns.

    Raises:
        ValueError: naming all numbers that are out of range, and what contradicts each other.
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
    ignore_origins: bool = False

    def __post_init__(self) -> None:
        problems = out_of_range(("--tolerance", self.tolerance, 0), ("-np", self.processes, 1))
        if self.labels is None and self.ignore_label is not None:
            problems.append("-il goes with -l: a dataset.json names its own ignore label")
        if self.labels is not None and self.dataset_json is not None:
            problems.append("-l and -djfile both name the labels: give one of them")
        if problems:
            raise ValueError("\n".join(problems))


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
    labels, ending, dataset_json = _labels(reference, prediction, judging)
    reader = None if dataset_json is None else reader_of(dataset_json)
    cardiac = cardiac_roles(labels.classes)

    name = name or default_names([prediction])[0]
    cases, problems = find_cases(reference, prediction, ending, judging.chill)
    cases, patients = with_patients(cases, reference, judging.patients, judging.pattern)
    if patients.unused:
        print(
            f"Not used for patients and phases: {patients.unused}. Say it with --patients or --pattern.",
            file=sys.stderr,
        )
    # headers first: judging takes long
    broken, moved, kinds = set(), [], set()
    for case in cases:
        spaces, found = _spaces(case, reader)
        problems += found
        if len(spaces) < 2:
            broken.add(case.name)
            continue
        wrong = _differing(case, spaces, reader)
        if judging.ignore_origins and wrong.pop("origin", None):
            moved.append(case.name)
        problems += [f"{case.prediction}: {text}" for text in wrong.values()]
        kinds.add((spaces[0].unit, len(spaces[0].shape)))
    if len(kinds) > 1:
        problems.append(f"{reference}: has both images of one slice and volumes; evaluate them apart")
    if cardiac and kinds == {("mm", 3)}:
        with listed(problems):
            check_phases((case.patient, case.phase, case.name) for case in cases)
    if moved:
        print(f"Judged in spite of another origin than the reference's: {some(moved)}", file=sys.stderr)
    readable = [case for case in cases if case.name not in broken]
    check_only = bool(problems)
    work = partial(
        _judge_case, labels=labels, reader=reader, tolerance=judging.tolerance, cardiac=cardiac, check_only=check_only
    )
    # the first case tells what one costs, and so how many are worth a worker
    started = time.perf_counter()
    results = [work(case) for case in readable[:1]]
    per_worker = max(1, math.ceil(_WORKER_START_S / (time.perf_counter() - started)))
    processes = judging.processes or default_processes()
    results += map_in_processes(work, readable[1:], processes, f"Evaluating {name}", per_worker)
    problems += [problem for _, found in results for problem in found]
    if len(problems) > 1:
        shown = "".join(f"\n  - {line}" for line in problems)
        raise ValueError(f"{len(problems)} problems found, nothing was written:{shown}")
    if problems:
        raise ValueError(problems[0])
    ((unit, dimension),) = kinds
    return Evaluation(
        name=name,
        reference=reference,
        prediction=prediction,
        file_ending=ending,
        dataset_json=dataset_json,
        classes=labels.classes,
        ignore_label=labels.ignore,
        left_out=labels.left_out,
        cardiac=cardiac,
        distance_unit=unit,
        size_unit="px" if unit == "px" else "ml" if dimension == 3 else "mm2",
        tolerance=float(judging.tolerance),
        rows=[row for rows, _ in results for row in rows],
        unknown_patients=len(patients.unknown),
    )


def _spaces(case: Case, reader: str | None) -> tuple[list[Space], list[str]]:
    """Where the voxels of reference and prediction lie, and what is wrong with the files."""
    spaces: list[Space] = []
    problems: list[str] = []
    for path in (case.reference, case.prediction):
        with listed(problems):
            spaces.append(read_space(path, reader))
    return spaces, problems


def _differing(case: Case, spaces: Sequence[Space], reader: str | None) -> dict[str, str]:
    """In what they differ by each of the libraries that read NIfTI for nnU-Net; SimpleITK and nibabel may disagree."""
    found = differing(*spaces)
    if found and case.reference.name.lower().endswith(NIFTI_ENDINGS) and reader not in NIBABEL_READERS:
        others, problems = _spaces(case, NIBABEL_READERS[0])
        return found if problems or differing(*others) else {}
    return found


def _judge_case(
    case: Case, labels: Labels, reader: str | None, tolerance: float, cardiac: Mapping[str, str], check_only: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows and problems of one case, whose files lie in the same space."""
    problems, maps = [], []
    advice = "correct the file or name them (-djfile, -l), with --leave-out if they are not to be judged"
    for path in (case.reference, case.prediction):
        with listed(problems):
            maps.append(read_label_map(path, reader))
            problems += unknown_labels(path, values_in(maps[-1].values), labels.values, advice)
    if problems or check_only:
        return [], problems
    rows = judge(maps[0], maps[1], labels, tolerance, cardiac)
    whose = {"case": case.name, "patient": case.patient, "phase": case.phase}
    return [{**whose, **row} for row in rows], []


def _labels(reference: Path, prediction: Path, judging: Judging) -> tuple[Labels, str, Path | None]:
    """Labels, file ending, and the dataset.json that said so."""
    if judging.labels is not None:
        labels = labels_by_value(judging.labels, judging.ignore_label)
        return labels.without(judging.leave_out), _common_ending(reference), None
    path = Path(judging.dataset_json or find_dataset_json(reference, prediction))
    content = read_dataset_json(path)
    ending = file_ending(content) if content.get("file_ending") else _common_ending(reference)
    return labels_of_dataset(content).without(judging.leave_out), ending, path.resolve()


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
