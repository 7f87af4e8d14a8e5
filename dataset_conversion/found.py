"""What the download of a set of volumes holds: patients by number, and files that become no cases."""

import os
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_shapekd.dataset_conversion.cases import Case
from nnunet_shapekd.dataset_conversion.downloads import few, nifti_files


@dataclass(frozen=True)
class Patient:
    """A numbered patient of a download."""

    name: str  # with the number in it
    subset: str  # "Tr" or "Ts", as of all cases
    cases: list[Case]
    rows: list[dict[str, str]]  # of patients.csv, in which "subset" is filled in
    problems: tuple[str, ...] = ()  # of the files
    stratum: str = ""  # what the folds are balanced by

    @property
    def files(self) -> list[Path]:
        """Images and labels."""
        return [file for case in self.cases for file in (case.image, case.label) if file is not None]

    def in_subset(self, subset: str) -> "Patient":
        """The same patient for another use."""
        return replace(self, subset=subset, cases=[replace(case, subset=subset) for case in self.cases])


@dataclass
class Found:
    """What a download holds: patients by number, what is wrong, what to say at the end, and the files left out."""

    root: Path
    patients: dict[int, Patient] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)
    #: patients that validate in the set's own one fold; None is five folds
    validate: set[int] | None = None
    #: what to do where the folds cannot be made
    advice: str = "give your own split with --train and --val"

    def leave_out(self, files: Collection[Path], why: str) -> None:
        """Files of the set's own that become no cases: one remark says how many they are, what and why."""
        self.left_out += files
        if files:
            self.remarks.append(f"{len(files)} {why}")

    def sort(self, files: Iterable[Path], pattern: re.Pattern[str], layout: str) -> list[tuple[re.Match[str], Path]]:
        """The files whose names match wholly; others become a problem."""
        matches = [(pattern.fullmatch(path.name), path) for path in files]
        if unknown := [path for match, path in matches if not match]:
            self.problems.append(f"{self.root}: expected names like {layout}; move away {few(unknown, self.root)}")
        return [(match, path) for match, path in matches if match]

    def pair(
        self, images: Iterable[tuple[int, Path]], labels: Iterable[tuple[int, Path]]
    ) -> dict[int, tuple[Path, Path | None]]:
        """Image and label by number; two files of one number, and labels without an image, become problems."""
        by_number: list[dict[int, Path]] = [{}, {}]
        for kind, files in zip(by_number, (images, labels), strict=True):
            for number, path in files:
                if os.path.realpath(kind.setdefault(number, path)) != os.path.realpath(path):
                    self.problems.append(f"{path}: the same case as {kind[number]}; remove one of the two")
        with_image, with_label = by_number
        for number in sorted(with_label.keys() - with_image.keys()):
            self.problems.append(f"{with_label[number]}: label without an image; restore the image from the download")
        return {number: (with_image[number], with_label.get(number)) for number in sorted(with_image)}

    def pairs(
        self,
        layout: str,
        pattern: re.Pattern[str],
        place: Callable[[re.Match[str], Path], tuple[str, int] | None],
        images: str = "images",
        unlabelled: Callable[[int, Path], str] | None = None,
    ) -> dict[int, tuple[Path, Path | None]]:
        """Image and label by number, of all NIfTI files below the root, as :meth:`pair`.

        Args:
            layout: in words.
            pattern: of file names.
            place: of a file: "image", "label" or else why it is left out, and its number; None where it lies wrongly.
            images: what they are called; there must be some.
            unlabelled: what one without a label is called, if it is left out.
        """
        kinds: dict[str, list[tuple[int, Path]]] = {"image": [], "label": []}
        for match, path in self.sort(nifti_files(self.root, layout), pattern, layout):
            if placed := place(match, path):
                kinds.setdefault(placed[0], []).append((placed[1], path))
            else:
                self.problems.append(f"{path}: expected to lie as in {layout}; move it there or away")
        pairs = self.pair(kinds.pop("image"), kinds.pop("label"))
        if not pairs:
            self.problems.append(f"{self.root}: no {images}; expected {layout}")
        if unlabelled:
            alone = {unlabelled(number, image): image for number, (image, label) in pairs.items() if label is None}
            self.leave_out(alone.values(), f"{images} have no label and were left out: {few([*alone])}.")
            pairs = {number: pair for number, pair in pairs.items() if pair[1]}
        for why, files in kinds.items():
            self.leave_out([path for _, path in files], why)
        return pairs

    def add(
        self,
        number: int,
        name: str,
        image: Path,
        label: Path | None,
        is_test: bool = False,
        patient: str | None = None,
        source: Path | None = None,
        **columns: str,
    ) -> None:
        """A patient of one case, of the same name unless one is given.

        Args:
            source: what patients.csv names; by default the image.
            columns: more of patients.csv, by which the folds are balanced.
        """
        subset, patient = "Ts" if is_test else "Tr", patient or name
        row = {"case": name, "patient": patient, "subset": "", **columns}
        row["source"] = (source or image).relative_to(self.root).as_posix()
        case = Case(name, image, label, subset)
        self.patients[number] = Patient(patient, subset, [case], [row], stratum=" ".join(columns.values()))
