"""The files of a new dataset: images, labels, dataset.json, splits_final.json and patients.csv, whole or not at all."""

import contextlib
import csv
import gzip
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_shapekd.dataset_conversion.cases import Case
from nnunet_shapekd.dataset_conversion.folds import Splits
from nnunet_shapekd.dataset_conversion.image_cases import ImageCase
from nnunet_shapekd.dataset_conversion.reading import Reading
from nnunet_shapekd.dataset_conversion.target import Target, check_id
from nnunet_shapekd.files.dataset_json import labels_of_dataset
from nnunet_shapekd.files.images import read_image, write_image
from nnunet_shapekd.files.label_maps import read_label_map, relabel
from nnunet_shapekd.files.lock import alone_in
from nnunet_shapekd.files.lying import lie_of_files
from nnunet_shapekd.files.names import cell
from nnunet_shapekd.files.orientation import Lie
from nnunet_shapekd.files.output import new_folder
from nnunet_shapekd.files.parallel import collect, map_in_processes

#: subset of a case -> what patients.csv calls it
SUBSETS = {"Tr": "train", "Ts": "test"}
# Starting a worker costs about as much as reading this many cases: small datasets are read in this process.
_CASES_PER_WORKER = 30


@dataclass(frozen=True)
class Dataset:
    """A checked dataset, about to be written."""

    target: Target
    cases: Sequence[Case | ImageCase]  # all of them
    description: Mapping[str, Any]  # dataset.json but for the number of training cases; its keys keep their order
    splits: Splits
    rows: Sequence[Mapping[str, Any]]  # of patients.csv, of the same columns
    remarks: Sequence[str] = ()  # lines to print at the end
    groups: Sequence[str] | None = None  # whose each case is, where its name does not tell
    unit: str = "patients"  # what groups are
    plan_arguments: str = " -c 2d"  # of the command to type next
    lists: Mapping[str, Any] = field(default_factory=dict)  # names of more files -> their JSON
    lie: Lie | None = None  # how it lies in the grid, where that is known already

    def write(self, write_files: Callable[[Path], None]) -> Path:
        """Writes the whole dataset or nothing, says what to type next, and returns the folder.

        Args:
            write_files: writes all images and labels below the folder it is given.
        """
        training = sum(case.subset == "Tr" for case in self.cases)
        content = {**self.description, "numTraining": training, "converted_by": "nnunet_shapekd"}
        raw = self.target.folder.parent
        with contextlib.ExitStack() as held, new_folder(self.target.folder) as folder:
            for case in self.cases:
                (folder / f"images{case.subset}").mkdir(exist_ok=True)
                if case.label is not None:
                    (folder / f"labels{case.subset}").mkdir(exist_ok=True)
            write_files(folder)
            for name, entries in {"dataset.json": content, "splits_final.json": self.splits, **self.lists}.items():
                write_json(folder / name, entries)
            with (folder / "patients.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(self.rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows({column: cell(value) for column, value in row.items()} for row in self.rows)
            lie = self.lie or lie_of_files(folder.glob("labelsTr/*"), labels_of_dataset(self.description).classes)
            held.enter_context(alone_in(raw))  # until the folder has its name
            check_id(raw, self.target.dataset_id)
        self._print_summary(lie)
        return self.target.folder

    def _print_summary(self, lie: Lie | None) -> None:
        parts, n_folds = [], len(self.splits)
        for subset, what in (("Tr", "training"), ("Ts", "test")):
            own = [i for i, case in enumerate(self.cases) if case.subset == subset]
            of = f" of {len({self.groups[i] for i in own})} {self.unit}" if self.groups and own else ""
            unlabelled = " (without labels)" if own and self.cases[own[0]].label is None else ""
            parts.append(f"{len(own)} {what} cases{of}{unlabelled}")
        folds = "fold 0" if n_folds == 1 else f"folds 0 to {n_folds - 1}"
        print(
            *self.remarks,
            *([f"How it lies in the grid: {lie}."] if lie else []),
            f"Wrote {self.target.folder}: {', '.join(parts)}, {n_folds} fold{'s' * (n_folds != 1)}.",
            f"Next: nnUNetv2_plan_and_preprocess -d {self.target.dataset_id}{self.plan_arguments}",
            f"Train {folds} only: for any other number nnU-Net splits at random by case, not by patient.",
            sep="\n",
        )


def write_json(path: Path, content: Any) -> None:
    """Writes JSON as nnU-Net does: indented by four, keys in the given order."""
    path.write_text(json.dumps(content, indent=4) + "\n")


def write_cases(
    folder: Path, cases: Sequence[Case], label_map: Mapping[int, int], processes: int, reading: Reading
) -> dict[str, float]:
    """Writes the cases below a dataset folder; `.nii.gz` byte for byte, `.nii` compressed, test labels where given.

    Labels are written anew where the label map changes values, and what the reading changes is, too.

    Returns:
        Case -> by how many degrees its axes were turned, of those that are written anew.
    """
    same_values = all(source == target for source, target in label_map.items())
    copied, made = [], []
    for case in cases:
        image = folder / f"images{case.subset}" / f"{case.name}_0000.nii.gz"
        label = folder / f"labels{case.subset}" / f"{case.name}.nii.gz"
        anew = reading.changes(case.image)
        (made if anew else copied).append((case.image, image))
        if case.label is None:
            continue
        if same_values and not anew and not reading.changes(case.label, is_label=True):
            copied.append((case.label, label))
        else:
            made.append((case.label, label, case.image))
    # Threads again: copying and zlib release the lock, too.
    collect(ThreadPoolExecutor(processes), _write_nifti, copied, "Writing files")
    write = partial(_write_anew, label_map=dict(label_map), reading=reading)
    turned = map_in_processes(write, made, processes, "Writing anew", _CASES_PER_WORKER) if made else []
    degrees: dict[str, float] = {}
    for (_, target, *_), angle in zip(made, turned, strict=True):
        name = target.name.removesuffix(".nii.gz").removesuffix("_0000")
        degrees[name] = max(angle, degrees.get(name, 0.0))
    return degrees


def _write_anew(job: tuple[Path, ...], label_map: Mapping[int, int], reading: Reading) -> float:
    """Writes an image, or a label, whose job also names its image; the degrees by which its axes were turned."""
    source, target, *of = job
    image, angle = reading.read(source, read_label_map if of else read_image)
    of_image = reading.read(of[0], read_image)[0] if of and reading.label_header == "image" else None
    image = reading.final(image, of_image)
    write_image(relabel(image.values, label_map) if of else image.values, image, target)
    return angle


def _write_nifti(job: tuple[Path, Path]) -> None:
    source, target = job
    if source.suffix.lower() == ".gz":
        shutil.copyfile(source, target)  # not copy: a read-only download must not make a read-only dataset
        return
    # No name and time in the gzip header, so that the same input always makes the same bytes.
    with (
        source.open("rb") as reader,
        target.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as writer,
    ):
        shutil.copyfileobj(reader, writer, 1 << 20)
