"""What ``shapekd evaluate`` is told about folders of label maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.evaluation.problems import out_of_range


@dataclass(frozen=True)
class Judging:
    """How folders of label maps are judged.

    Attributes:
        dataset_json: names the labels and the file ending; by default the one found beside the folders.
        labels: instead, the label values to judge.
        ignore_label: with ``labels``, the value of voxels that are not judged.
        leave_out: classes (names, or values) that are not judged and count as background.
        tolerance: of the NSD, in mm, or in pixels for images without a spacing.
        patients: a table of which cases belong to one patient, see
            :func:`~nnunet_shapekd.files.whose.find_patients`; by default patients.csv beside the reference folder,
            where there is one.
        pattern: a regular expression for whole case names with a group "patient", and one "phase" if wanted.
        chill: references without a prediction are left out, as with nnU-Net's ``--chill``.
        processes: cases read at once; by default the cores, at most eight.
        ignore_origins: a prediction may have another origin than its reference, of which nnU-Net only warns.
        by: columns of the table of patients, for each value of which the cases are summed up apart, see
            :mod:`~nnunet_shapekd.evaluation.by`.

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
    by: Sequence[str] = ()

    def __post_init__(self) -> None:
        problems = out_of_range(("--tolerance", self.tolerance, 0), ("-np", self.processes, 1))
        if self.labels is None and self.ignore_label is not None:
            problems.append("-il goes with -l: a dataset.json names its own ignore label")
        if self.labels is not None and self.dataset_json is not None:
            problems.append("-l and -djfile both name the labels: give one of them")
        if problems:
            raise ValueError("\n".join(problems))
