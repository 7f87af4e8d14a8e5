"""What every dataset conversion shares: listing problems, checking cases, folds by patient."""

from __future__ import annotations

import argparse
import errno
import gzip
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.dataset_conversion import label_maps
from nnunet_shapekd.files.nifti import read_nifti
from nnunet_shapekd.files.parallel import collect, default_processes, map_in_processes

# Origin and direction of a label may differ from its image's by rounding only. The spacing is held to what
# `verify_dataset_integrity` refuses (np.allclose, nnU-Net 2.8.1), which only warns about origin and direction.
ORIGIN_TOLERANCE_MM = 1e-3
DIRECTION_TOLERANCE = 1e-3
# Starting a worker costs about as much as reading this many cases: small datasets are read in this process.
_CASES_PER_WORKER = 30


class ConversionError(ValueError):
    """A conversion that cannot be done as asked; its message lists all problems, one a line."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        lines = self.problems
        if len(lines) > 1:
            lines = [f"{len(lines)} problems found, nothing was written:", *(f"  - {line}" for line in lines)]
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class Case:
    """One image, and its label where there is one, on the way to `images<subset>/<name>_0000.nii.gz`."""

    name: str
    image: Path
    label: Path | None
    subset: str  # "Tr" or "Ts", as in nnU-Net's folder names


def environment_folder(variable: str, given: str | Path | None) -> Path | None:
    """The folder given, else what the environment variable names, else None."""
    value = given if given is not None else os.environ.get(variable)
    return Path(value) if value else None


def dataset_folder_name(dataset_id: int, name: str, raw: Path | None, others: Iterable[Path | None]) -> str:
    """The nnU-Net name of the new dataset, after making sure that its id is free in the raw folder.

    In nnU-Net's `others` (preprocessed, results) only another name of the same id is in the way.
    """
    if raw is None:
        raise ConversionError(
            "nnUNet_raw is not set: it names the folder that the dataset is written to. "
            "Type `export nnUNet_raw=/path/to/nnUNet_raw` and run this again."
        )
    if not 1 <= dataset_id <= 999:
        raise ConversionError(f"dataset id: expected 1 to 999, got {dataset_id}; choose another with -d")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConversionError(f"dataset name: expected letters, digits, '_' and '-' only, got {name!r}")
    prefix = f"Dataset{dataset_id:03d}"
    for existing in filter(Path.is_dir, sorted(raw.glob(f"{prefix}*"))):
        raise ConversionError(f"{existing} exists already and is left as it is: delete it or choose another id with -d")
    for folder in filter(None, others):
        for existing in sorted(folder.glob(f"{prefix}*")):
            if existing.name != f"{prefix}_{name}" and existing.is_dir():
                raise ConversionError(
                    f"{existing} has the same id: nnU-Net refuses an id with two names; choose another id with -d"
                )
    return f"{prefix}_{name}"


@dataclass(frozen=True)
class Target:
    """Where a conversion writes to, and how; everything about it was checked."""

    folder: Path  # the new dataset's
    dataset_id: int
    other_splits: Path | None  # where a split file of an earlier conversion would win
    seed: int
    processes: int


def check_target(
    dataset_id: int,
    name: str,
    seed: int = 12345,
    processes: int | None = None,
    raw_folder: str | Path | None = None,
    preprocessed_folder: str | Path | None = None,
) -> Target:
    """What the arguments that all conversions share say.

    Args:
        dataset_id: nnU-Net's dataset id, 1 to 999.
        name: What follows the id in the dataset's name.
        seed: Shuffles the patients before they are dealt to folds.
        processes: Cases read at once; by default the available cores, eight at most.
        raw_folder: Instead of the environment variable nnUNet_raw.
        preprocessed_folder: Instead of nnUNet_preprocessed, where an other splits_final.json would win; may be unset.

    Raises:
        ConversionError: naming the argument that does not do.
    """
    raw = environment_folder("nnUNet_raw", raw_folder)
    preprocessed = environment_folder("nnUNet_preprocessed", preprocessed_folder)
    others = (preprocessed, environment_folder("nnUNet_results", None))
    dataset = dataset_folder_name(dataset_id, name, raw, others)
    processes = default_processes() if processes is None else processes
    if processes < 1:
        raise ConversionError(f"--processes: expected 1 or more, got {processes}")
    if not 0 <= seed < 2**32:
        raise ConversionError(f"--seed: expected 0 to {2**32 - 1}, got {seed}")
    splits = preprocessed / dataset / "splits_final.json" if preprocessed is not None else None
    return Target(Path(raw) / dataset, dataset_id, splits, seed, processes)


def run_conversion(convert: Callable[[], Any]) -> int:
    """Converts and returns the exit status; errors a user can do something about become a line on stderr."""
    try:
        convert()
    except (ValueError, OSError, RuntimeError) as error:  # SimpleITK's cannot-write is a RuntimeError
        message, full = f"Error: {error}", getattr(error, "errno", None) == errno.ENOSPC
        if full or (not isinstance(error, ValueError) and getattr(error, "filename", None) is None):
            # of writing, not of a file the user named; a progress bar has left its line open
            message = f"\n{message} (nnUNet_raw is {os.environ.get('nnUNet_raw')}; no dataset was written)"
        print(message, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; no dataset was written.", file=sys.stderr)
        return 130
    return 0


def add_target_arguments(parser: argparse.ArgumentParser, name: str, dataset_id: int | str) -> None:
    """The arguments of :func:`check_target` that a user types; defaults that depend on others are given as text."""
    add = parser.add_argument
    id_default = dataset_id if isinstance(dataset_id, int) else None
    add("-d", "--dataset-id", type=int, default=id_default, help=f"nnU-Net dataset id (default: {dataset_id})")
    add("--name", help=f"dataset name after the id (default: {name})")
    add("--seed", type=int, default=12345, help="seed of the five folds (default: %(default)s)")
    add("--processes", type=int, help="cases read at once (default: the cores, at most 8)")


def label_gaps(cases: Sequence[Case]) -> list[str]:
    """Training cases need labels; test cases all have one or none has."""
    problems = [
        f"{case.image}: training image without a label; restore the label from the download"
        for case in cases
        if case.subset == "Tr" and case.label is None
    ]
    test = [case for case in cases if case.subset == "Ts"]
    unlabelled = [case for case in test if case.label is None]
    if len(unlabelled) < len(test):
        problems += [
            f"{case.image}: test image without a label, while {len(test) - len(unlabelled)} of {len(test)} test images "
            "have one; add it or remove all test labels"
            for case in unlabelled
        ]
    return problems


def read_values(path: Path) -> tuple[sitk.Image, np.ndarray]:
    """The scalar 3D image in a file and a view of its voxels; raises ValueError saying what is wrong with it."""
    image = read_nifti(path)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        shape = "x".join(map(str, image.GetSize()))
        channels = image.GetNumberOfComponentsPerPixel()
        raise ValueError(f"{path}: expected one 3D volume, got {shape} with {channels} channel(s)")
    return image, sitk.GetArrayViewFromImage(image)


def check_case(case: Case, max_label: int, label_map: Mapping[int, int] | None = None) -> list[str]:
    """Reads image and label of a case once and says what is wrong with them; an empty list is a good case.

    With a label map, the label may hold its values instead of 0 to `max_label`.
    """
    problems: list[str] = []
    images = []
    for path in filter(None, (case.image, case.label)):
        try:
            image, values = read_values(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        images.append(image)
        if path == case.label and label_map is None:
            problems += _label_problems(path, values, max_label)
        elif path == case.label:
            problems += label_maps.label_map_problems(path, values, label_map)
    if len(images) == 2:
        problems += geometry_problems(case, *images)
    return problems


def _label_problems(path: Path, values: np.ndarray, max_label: int) -> list[str]:
    # Minimum and maximum, not np.unique, whose sorting costs as much as reading the file.
    whole = values.dtype.kind != "f" or bool((values == np.rint(values)).all())
    if values.min() < 0 or values.max() > max_label or not whole:
        found = np.unique(values)
        shown = ", ".join(f"{value:g}" for value in found[:10]) + (", ..." if len(found) > 10 else "")
        return [f"{path}: expected integer labels 0 to {max_label}, got {shown}; correct or remove the case"]
    return [] if values.any() else [f"{path}: label is empty (background only); correct or remove the case"]


def geometry_problems(case: Case, image: sitk.Image, label: sitk.Image) -> list[str]:
    """In what the label's size, spacing, origin or direction differs from its image's."""
    if image.GetSize() != label.GetSize():
        return [f"{case.label}: size {label.GetSize()} differs from its image's {image.GetSize()}; correct one of them"]
    same = {
        "spacing": np.allclose(label.GetSpacing(), image.GetSpacing()),
        "origin": np.allclose(label.GetOrigin(), image.GetOrigin(), rtol=0, atol=ORIGIN_TOLERANCE_MM),
        "direction": np.allclose(label.GetDirection(), image.GetDirection(), rtol=0, atol=DIRECTION_TOLERANCE),
    }
    return [
        f"{case.label}: {what} {getattr(label, f'Get{what.title()}')()} differs from its image's "
        f"{getattr(image, f'Get{what.title()}')()}; correct one of the two headers"
        for what, is_same in same.items()
        if not is_same
    ]


def check_cases(
    cases: Sequence[Case], max_label: int, processes: int, label_map: Mapping[int, int] | None = None
) -> list[str]:
    """All problems of all cases, in their order."""
    check = partial(check_case, max_label=max_label, label_map=label_map)
    # Threads are enough here: reading releases the interpreter's lock, and a process would take a second to start.
    found = collect(ThreadPoolExecutor(processes), check, cases, "Checking cases")
    return [problem for problems in found for problem in problems]


def write_cases(
    folder: Path, cases: Sequence[Case], processes: int, label_map: Mapping[int, int] | None = None
) -> None:
    """Writes the cases below a dataset folder; `.nii.gz` byte for byte, `.nii` compressed, test labels where given.

    Labels are written anew where a label map changes values.
    """
    jobs, relabelled = [], []
    for case in cases:
        jobs.append((case.image, folder / f"images{case.subset}" / f"{case.name}_0000.nii.gz"))
        if case.label is not None:
            unchanged = label_map is None or label_maps.is_identity(label_map)
            label = (case.label, folder / f"labels{case.subset}" / f"{case.name}.nii.gz")
            (jobs if unchanged else relabelled).append(label)
    for parent in {target.parent for _, target in jobs + relabelled}:
        parent.mkdir(exist_ok=True)
    # Threads again: copying and zlib release the lock, too.
    collect(ThreadPoolExecutor(processes), _write_nifti, jobs, "Writing files")
    if relabelled:
        write = partial(_relabel, label_map=tuple(label_map.items()))
        map_in_processes(write, relabelled, processes, "Writing labels", _CASES_PER_WORKER)


def _relabel(job: tuple[Path, Path], label_map: tuple[tuple[int, int], ...]) -> None:
    label_maps.write_relabelled(*job, label_map)


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


def folds_by_patient(stratum_of: Mapping[str, str], seed: int, n_folds: int = 5) -> list[list[str]]:
    """Deals patients to folds; fold sizes, and the counts of each stratum, differ by at most one between folds.

    Raises:
        ConversionError: for fewer patients than folds.
    """
    if len(stratum_of) < n_folds:
        raise ConversionError(
            f"{n_folds} folds by patient need at least {n_folds} training patients, got {len(stratum_of)}; "
            "give your own split with --train and --val"
        )
    random = np.random.RandomState(seed)  # its stream is frozen; default_rng's may change with NumPy's version
    dealt: list[str] = []
    for stratum in sorted(set(stratum_of.values())):
        members = sorted(patient for patient in stratum_of if stratum_of[patient] == stratum)
        random.shuffle(members)
        dealt += members
    return [sorted(dealt[fold::n_folds]) for fold in range(n_folds)]


def splits_problems(splits: list[dict[str, list[str]]], existing: Path) -> list[str]:
    """What is wrong with a split file that already lies where planning copies the new one; its absence is fine."""
    if not existing.is_file():
        return []
    try:
        same = _as_sets(json.loads(existing.read_text())) == _as_sets(splits)
    except (ValueError, TypeError, KeyError):
        same = False
    if same:
        return []
    # Planning would keep the old file and stop in a bare assert (nnU-Net 2.8.1), hence a refusal here.
    return [
        f"{existing}: differs from the splits_final.json that this conversion would write into the raw dataset; "
        "delete or rename it, give the split it was made from, or choose another id with -d"
    ]


def _as_sets(splits: Any) -> list[tuple[set, set]]:
    return [(set(split["train"]), set(split["val"])) for split in splits]


def write_json(path: Path, content: Any) -> None:
    """Writes JSON as nnU-Net does: indented by four, keys in the given order."""
    path.write_text(json.dumps(content, indent=4) + "\n")


def read_lists(paths: dict[str, str | Path | None], available: Iterable[int]) -> tuple[dict[str, list[int]], list[str]]:
    """Patient numbers of the user's train, val and test lists (JSON, strings or integers), and problems."""
    lists: dict[str, list[int]] = {}
    problems: list[str] = []
    seen: dict[int, str] = {}
    available = set(available)
    for role, path in paths.items():
        if path is None:
            continue
        try:
            entries = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(f"--{role} {path}: cannot be read as JSON ({error})")
            continue
        if not isinstance(entries, list) or not entries:
            problems.append(f'--{role} {path}: expected a list of patient numbers, like ["001", "002"]')
            continue
        lists[role] = []
        for entry in entries:
            if not re.fullmatch(r"\d+", str(entry)):
                problems.append(f"--{role} {path}: expected a patient number, got {entry!r}")
                continue
            number = int(entry)
            if number in seen:
                where = f"in --{seen[number]}, too" if seen[number] != role else "listed twice"
                problems.append(f"--{role} {path}: patient {entry} is {where}; list every patient once")
            elif number not in available:
                problems.append(f"--{role} {path}: patient {entry} is not in the download; remove it from the list")
            else:
                lists[role].append(number)
            seen.setdefault(number, role)
    return lists, problems
