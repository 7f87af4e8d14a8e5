"""What can be known of folders of label maps before they are judged, which takes long."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nnunet_shapekd.evaluation.cardiac import check_phases
from nnunet_shapekd.evaluation.cases import Case, cardiac_roles, find_cases, find_dataset_json
from nnunet_shapekd.evaluation.judging import Judging
from nnunet_shapekd.evaluation.problems import listed
from nnunet_shapekd.files.columns import columns_of
from nnunet_shapekd.files.dataset_json import (
    Labels,
    file_ending,
    labels_by_value,
    labels_of_dataset,
    read_dataset_json,
    reader_of,
)
from nnunet_shapekd.files.images import NIBABEL_READERS, NIFTI_ENDINGS, read_space
from nnunet_shapekd.files.label_maps import LabelMap, read_label_map, unknown_labels, values_in
from nnunet_shapekd.files.names import some
from nnunet_shapekd.files.parallel import map_in_processes
from nnunet_shapekd.files.space import Space, differing
from nnunet_shapekd.files.whose import find_patients

#: cases to read that are worth a worker process
_PER_WORKER = 20


@dataclass(frozen=True)
class Folders:
    """References and predictions that can be judged: their names, tables and headers are in order.

    Attributes:
        reference: folder of the references.
        prediction: folder of the predictions.
        cases: those in both.
        labels: what the values mean.
        file_ending: of the files in both.
        reader: of nnU-Net, by its name; None: as the files are.
        dataset_json: that named the labels, if one did.
        unit: "mm" or "px".
        axes: of an image, 2 or 3.
        unknown_patients: cases of which nothing says whose they are.
        groups: column -> case -> value.
    """

    reference: Path
    prediction: Path
    cases: tuple[Case, ...]
    labels: Labels
    file_ending: str
    reader: str | None
    dataset_json: Path | None
    unit: str
    axes: int
    unknown_patients: int
    groups: dict[str, dict[str, str]]

    @property
    def cardiac(self) -> dict[str, str]:
        """Of "lv", "myo" and "rv" those known -> class."""
        return cardiac_roles(self.labels.classes)


def prepare(reference: str | Path, prediction: str | Path, judging: Judging) -> Folders:
    """Find what belongs together in two folders; all but the voxels is checked.

    Raises:
        FileNotFoundError: if a folder, or what names the labels, is missing.
        ValueError: listing all that is wrong with the files, and then with their voxels, too.
    """
    reference, prediction = Path(reference).resolve(), Path(prediction).resolve()
    for folder in (reference, prediction):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
    if reference == prediction:
        raise ValueError(f"{reference}: is given both as references and as predictions")
    labels, ending, dataset_json = _labels(reference, prediction, judging)
    reader = None if dataset_json is None else reader_of(dataset_json)
    cases, problems = find_cases(reference, prediction, ending, judging.chill)
    patients = find_patients([case.name for case in cases], [reference.parent], judging.patients, judging.pattern)
    groups, absent = columns_of(judging.by, patients, [reference.parent], judging.patients)
    problems += [f"--by: {text}; --patients names a CSV that has it" for text in absent.values()]
    cases = [replace(case, patient=patients.of[case.name], phase=patients.phase[case.name]) for case in cases]
    if patients.unused:
        said = f"Not used for patients and phases: {patients.unused}. Say it with --patients or --pattern."
        print(said, file=sys.stderr)
    readable, moved, kinds = [], [], set()
    for case in cases:
        spaces, found = _spaces(case, reader)
        problems += found
        if not found:
            readable.append(case)
            wrong = _differing(case, spaces, reader)
            if judging.ignore_origins and wrong.pop("origin", None):
                moved.append(case.name)
            problems += [f"{case.prediction}: {text}" for text in wrong.values()]
            kinds.add((spaces[0].unit, len(spaces[0].shape)))
    if len(kinds) > 1:
        problems.append(f"{reference}: has both images of one slice and volumes; evaluate them apart")
    if kinds == {("mm", 3)} and cardiac_roles(labels.classes):
        with listed(problems):
            check_phases((case.patient, case.phase, case.name) for case in cases)
    if moved:
        print(f"Judged in spite of another origin than the reference's: {some(moved)}", file=sys.stderr)
    if problems:
        wrong_voxels = partial(_wrong_voxels, labels=labels, reader=reader)
        for of_case in map_in_processes(wrong_voxels, readable, judging.processes, "Checking", _PER_WORKER):
            problems += of_case
        raise_all(problems)
    ((unit, axes),) = kinds
    unknown = len(patients.unknown)
    return Folders(
        reference, prediction, tuple(cases), labels, ending, reader, dataset_json, unit, axes, unknown, groups
    )


def raise_all(problems: Sequence[str]) -> None:
    """Raises ValueError with all of them, if there is one."""
    if len(problems) == 1:
        raise ValueError(problems[0])
    if problems:
        shown = "".join(f"\n  - {line}" for line in problems)
        raise ValueError(f"{len(problems)} problems found, nothing was written:{shown}")


def read_case(case: Case, labels: Labels, reader: str | None) -> tuple[list[LabelMap], list[str]]:
    """Reference and prediction, and what is wrong with their voxels."""
    maps: list[LabelMap] = []
    problems: list[str] = []
    advice = "correct the file or name them (-djfile, -l), with --leave-out if they are not to be judged"
    for path in (case.reference, case.prediction):
        with listed(problems):
            maps.append(read_label_map(path, reader))
            problems += unknown_labels(path, values_in(maps[-1].values), labels.values, advice)
    return maps, problems


def _wrong_voxels(case: Case, labels: Labels, reader: str | None) -> list[str]:
    return read_case(case, labels, reader)[1]


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
