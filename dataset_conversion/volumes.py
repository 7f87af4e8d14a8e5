"""From checked 3D volumes with a number each to a dataset of nnU-Net's: what MSCMRseg, MM-WHS and Synapse share."""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunet_shapekd.dataset_conversion import common
from nnunet_shapekd.dataset_conversion.common import Case, ConversionError, Target, read_lists
from nnunet_shapekd.files.output import new_folder

COLUMNS = ["case", "patient", "subset", "source"]
_ENDING = re.compile(r"\.nii(?:\.gz)?$", re.IGNORECASE)


@dataclass
class Found:
    """What a download holds: patients' numbers and their case, what is wrong, and what was left out."""

    root: Path
    cases: dict[int, Case] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def nifti_files(root: Path, layout: str) -> list[Path]:
    """All NIfTI files below a folder, as :func:`nifti_below`.

    Raises:
        ConversionError: if there are none; `layout` says what was expected. Or if one's ending is of mixed case.
    """
    if not root.is_dir():
        raise ConversionError(f"{root}: no such folder; ROOT is the extracted download: {layout}")
    files = nifti_below(root)
    problems = ending_problems(files)
    if problems:
        raise ConversionError(problems)
    if not files:
        found = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
        raise ConversionError(f"{root}: no NIfTI files found. Expected {layout}. Found there: {found}")
    return files


def nifti_below(folder: Path) -> list[Path]:
    """All NIfTI files below a folder, endings in either case, without what operating systems leave beside them."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if _ENDING.search(path.name) and not is_hidden(path, folder) and not path.is_dir()
    ]


def is_hidden(path: Path, root: Path) -> bool:
    """Whether a name between the root and the path's own is one that operating systems give."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(root).parts)


def ending_problems(paths: Iterable[Path]) -> list[str]:
    """Endings that SimpleITK refuses to read (2.5): it knows .nii.gz and .NII.GZ, but none of mixed case."""
    endings = {path: _ENDING.search(path.name)[0] for path in paths}
    return [
        f"{path}: cannot be read for its ending {ending}; rename it to end in {ending.lower()}"
        for path, ending in endings.items()
        if ending not in (ending.lower(), ending.upper())
    ]


def few(paths: Sequence[Path | str], root: Path | None = None) -> str:
    """The first five, relative to a folder where one is given, and how many more."""
    shown = [path.relative_to(root).as_posix() if root and isinstance(path, Path) else str(path) for path in paths[:5]]
    return ", ".join(shown) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def pair(
    found: Found, images: Iterable[tuple[int, Path]], labels: Iterable[tuple[int, Path]]
) -> dict[int, tuple[Path, Path | None]]:
    """Image and label by number; two files of one number, and labels without an image, become problems."""
    by_number: list[dict[int, Path]] = [{}, {}]
    for kind, files in zip(by_number, (images, labels), strict=True):
        for number, path in files:
            if kind.setdefault(number, path) != path:
                found.problems.append(f"{path}: the same case as {kind[number]}; remove one of the two")
    with_image, with_label = by_number
    for number in sorted(with_label.keys() - with_image.keys()):
        found.problems.append(f"{with_label[number]}: label without an image; restore the image from the download")
    return {number: (with_image[number], with_label.get(number)) for number in sorted(with_image)}


def convert_volumes(
    found: Found,
    target: Target,
    label_map: Mapping[int, int],
    description: Mapping[str, Any],
    lists: Mapping[str, str | Path | None],
    plan_arguments: str = "",
) -> Path:
    """Checks all cases and writes them; a whole dataset or nothing.

    Args:
        found: the cases; `subset` says which are training cases where there are no lists.
        target: of :func:`~.common.check_target`.
        label_map: source value -> target value.
        description: dataset.json but for the number of training cases.
        lists: "train", "val" and "test" -> JSON list of numbers, or None.
        plan_arguments: for the command to type next.

    Returns:
        The new dataset's folder.

    Raises:
        ConversionError: listing all problems found; nothing was written.
    """
    if (lists["train"] is None) != (lists["val"] is None) or (lists["test"] and not lists["train"]):
        raise ConversionError("--train and --val belong together, and --test needs both: give all of them or none")
    numbers, problems = read_lists(dict(lists), found.cases)
    problems = found.problems + problems
    cases = found.cases
    if lists["train"] is not None:
        subset_of = {n: "Ts" if role == "test" else "Tr" for role, listed in numbers.items() for n in listed}
        cases = {n: replace(case, subset=subset_of[n]) for n, case in cases.items() if n in subset_of}
    chosen = list(cases.values())
    problems += common.label_gaps(chosen)
    splits: list[dict[str, list[str]]] = []
    training = {case.name for case in chosen if case.subset == "Tr"}
    try:
        if lists["train"] is None:
            folds = common.folds_by_patient(dict.fromkeys(training, ""), target.seed)
        else:
            folds = [sorted(cases[n].name for n in numbers.get("val", []))]
        splits = [{"train": sorted(training - set(fold)), "val": fold} for fold in folds]
    except ConversionError as error:
        problems += error.problems
    if target.other_splits is not None and not problems:
        problems += common.splits_problems(splits, target.other_splits)
    problems += common.check_cases(chosen, 0, target.processes, label_map)
    if problems:
        raise ConversionError(problems)

    with new_folder(target.folder) as folder:
        common.write_cases(folder, chosen, target.processes, label_map)
        dataset_json = {**description, "numTraining": len(training), "file_ending": ".nii.gz"}
        common.write_json(folder / "dataset.json", {**dataset_json, "converted_by": "nnunet_shapekd"})
        common.write_json(folder / "splits_final.json", splits)
        _write_patients(folder / "patients.csv", chosen, found.root)
    if len(chosen) < len(found.cases):
        found.remarks.append(f"{len(found.cases) - len(chosen)} cases are in no list and were left out.")
    _print_summary(target, chosen, len(splits), found.remarks, plan_arguments)
    return target.folder


def _write_patients(path: Path, cases: Sequence[Case], root: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for case in cases:
            subset = "train" if case.subset == "Tr" else "test"
            writer.writerow([case.name, case.name, subset, case.image.relative_to(root).as_posix()])


def _print_summary(
    target: Target, cases: Sequence[Case], n_folds: int, remarks: Sequence[str], plan_arguments: str
) -> None:
    test = [case for case in cases if case.subset == "Ts"]
    unlabelled = " (without labels)" if test and test[0].label is None else ""
    folds = "fold 0" if n_folds == 1 else f"folds 0 to {n_folds - 1}"
    for remark in remarks:
        print(remark)
    print(
        f"Wrote {target.folder}: {len(cases) - len(test)} training cases, {len(test)} test cases{unlabelled}, "
        f"{n_folds} fold{'s' * (n_folds != 1)}.\n"
        f"Next: nnUNetv2_plan_and_preprocess -d {target.dataset_id}{plan_arguments}\n"
        f"Then train {folds}."
    )


def add_volume_arguments(parser: argparse.ArgumentParser, name: str, dataset_id: int | str, numbers: str) -> None:
    """The arguments that these conversions share."""
    common.add_target_arguments(parser, name, dataset_id)
    own = "JSON list of " + numbers + " {}; those in no list are left out"
    parser.add_argument("--train", metavar="JSON", help=own.format("to train on, with --val instead of five folds"))
    parser.add_argument("--val", metavar="JSON", help=own.format("to validate on"))
    parser.add_argument("--test", metavar="JSON", help=own.format("for imagesTs and labelsTs"))


def add_label_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """``--labels`` and ``--names``."""
    parser.add_argument(
        "--labels",
        metavar="MAP",
        help=f"label values as SOURCE:TARGET,..., the target 0 drops one (default: {default})",
    )
    parser.add_argument("--names", metavar="A,B,...", help="names of the classes 1, 2, ... (default: the set's own)")


def shared(args: argparse.Namespace) -> dict[str, Any]:
    """The parsed arguments that all of these conversions take by the same names."""
    keys = ("dataset_id", "name", "seed", "processes", "train", "val", "test")
    return {key: getattr(args, key) for key in keys}
