"""``shapekd doctor``: is everything in place? Each failing line says what to do."""

import argparse
import contextlib
import io
import json
import os
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from nnunet_shapekd.commands.arguments import fold_of
from nnunet_shapekd.files.case_table import TABLE
from nnunet_shapekd.files.versions import release
from nnunet_shapekd.files.whose import find_patients
from nnunet_shapekd.trainers_folder import export_line, trainers_folder

_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
#: what stands before a line, by whether all is well; None where that is not known
_MARKS = {True: "ok  ", False: "FAIL", None: "?   "}


class Finding(NamedTuple):
    """One line of the report: ``remedy`` is what to do where ``ok`` is False, or None as it is not known."""

    ok: bool | None
    text: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--dataset", metavar="DATASET", help="nnU-Net dataset id or name")
    parser.add_argument("-f", "--fold", metavar="FOLD", help="a fold that must have a teacher (with -d)")


def run(args: argparse.Namespace) -> int:
    """Check that nnU-Net finds the trainers; with -d, which teachers a dataset has and whether its folds keep patients
    together. Each failing line says what to do; exit code 1 if there is one. A line with ? says what is not known.
    """
    if args.fold is not None and args.dataset is None:
        raise ValueError("-f needs a dataset: shapekd doctor -d 27 -f 0")
    fold = None if args.fold is None else fold_of(args.fold)
    findings = [*_installation(), *_environment()]
    if args.dataset is not None:
        findings += _dataset(args.dataset, fold)
    for ok, text, remedy in findings:
        print(f"{_MARKS[ok]}  {text}")
        if remedy:
            print(f"      -> {remedy}")
    return 1 if any(finding.ok is False for finding in findings) else 0


def _installation() -> Iterator[Finding]:
    import nnunetv2

    found = version("nnunetv2")
    ok = (2, 8) <= release(found) < (3, 0)
    yield Finding(ok, f"nnunetv2 {found} in {nnunetv2.__path__[0]}", "" if ok else 'pip install "nnunetv2>=2.8,<3"')
    if not os.environ.get("nnUNet_extTrainer"):
        yield Finding(False, "nnUNet_extTrainer is not set", _export())
        return

    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    for name in ("nnUNetTrainerMeanImage", "nnUNetTrainerShapeKD"):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            try:
                recursive_find_trainer_class_by_name(name)
            except Exception as error:  # a broken file in any of the user's trainer folders ends nnU-Net's look-up
                yield Finding(
                    False,
                    f"nnU-Net does not find {name}: {error}",
                    f"nnUNet_extTrainer={os.environ['nnUNet_extTrainer']!r} must hold this package's folder, and none "
                    f"with broken trainers: {_export()}",
                )
                continue
        where = re.findall(r"Using trainer '\w+' from: (.+)", said.getvalue())
        folder = where[-1] if where else "nnunetv2 itself"
        ok = bool(where) and Path(folder).resolve() == Path(trainers_folder()).resolve()
        yield Finding(
            ok,
            f"nnU-Net finds {name} in {folder}",
            "" if ok else f"this package's is in {trainers_folder()}: remove the other folder from nnUNet_extTrainer",
        )


def _export() -> str:
    return export_line("powershell" if os.name == "nt" else "bash", os.environ.get("nnUNet_extTrainer"))


def _environment() -> Iterator[Finding]:
    for name in _FOLDERS:
        value = os.environ.get(name)
        if not value:
            yield Finding(False, f"{name} is not set", f"export {name}=/path/to/{name}")
        elif not Path(value).is_dir():
            yield Finding(False, f"{name}={value} is no folder", f"make that folder, or set {name} to an existing one")
        else:
            yield Finding(True, f"{name}={value}")


def _dataset(dataset: str, fold: str | None) -> Iterator[Finding]:
    if not all(os.environ.get(name) for name in _FOLDERS):
        return
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    try:
        name = maybe_convert_to_dataset_name(int(dataset) if dataset.isdecimal() else dataset)
    except (RuntimeError, ValueError) as error:  # none or several of that id; no id at all
        yield Finding(False, f"dataset {dataset}: {error}", "give the id of a dataset that is in those folders once")
        return
    folders = [Path(os.environ[variable], name) for variable in ("nnUNet_raw", "nnUNet_preprocessed")]
    if not re.fullmatch(r"Dataset\d{3}_.+", name) or not any(folder.is_dir() for folder in folders):
        yield Finding(False, f"dataset {dataset} is not in nnUNet_raw or nnUNet_preprocessed", "convert it first")
        return
    yield from _splits(name)
    yield from _lie(name)
    yield from _teachers(name, fold)


def _lie(name: str) -> Iterator[Finding]:
    """How the dataset lies in its grid, and which others in nnUNet_raw with two of its classes lie otherwise."""
    from nnunet_shapekd.evaluation.cases import cardiac_roles, folded
    from nnunet_shapekd.files.dataset_json import labels_of_dataset
    from nnunet_shapekd.files.lying import lie_of_dataset, warning
    from nnunet_shapekd.files.raw_dataset import RawDataset, read_raw_dataset

    def names(dataset: RawDataset) -> dict[str, str]:
        classes = labels_of_dataset(dataset.dataset_json).classes
        return {one: folded(one) for one in classes} | {one: role for role, one in cardiac_roles(classes).items()}

    folder = Path(os.environ["nnUNet_raw"], name)
    try:
        own = read_raw_dataset(folder)
        known, lie = names(own), lie_of_dataset(own, names(own))
    except (OSError, ValueError):
        return  # nothing raw, or nothing that can be read: nnU-Net will say so
    if lie is None:
        return
    yield Finding(True, f"how {name} lies in its grid: {lie}")
    for other in sorted(path for path in folder.parent.glob("Dataset*") if path.name != name):
        try:
            dataset = read_raw_dataset(other)
            theirs = names(dataset)
            common = len(set(theirs.values()) & set(known.values()))
            said = warning(lie, lie_of_dataset(dataset, theirs), name) if common > 1 else ""
            if said:
                what, _, remedy = said.partition(": ")
                yield Finding(True, f"warning: {other.name} {what}", remedy)
        except (OSError, ValueError):
            continue  # likewise


def _splits(name: str) -> Iterator[Finding]:
    preprocessed = Path(os.environ["nnUNet_preprocessed"], name, "splits_final.json")
    raw = Path(os.environ["nnUNet_raw"], name, "splits_final.json")
    path = preprocessed if preprocessed.is_file() else raw
    if not path.is_file():
        yield Finding(
            False,
            f"{name} has no splits_final.json: nnU-Net will make five folds by case, not by patient",
            f"write one into {preprocessed.parent}, or convert the dataset with shapekd convert",
        )
        return
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
        sides = [([str(case) for case in split["train"]], [str(case) for case in split["val"]]) for split in splits]
    except (ValueError, TypeError, KeyError, OSError) as error:
        yield Finding(False, f"{path} is no list of folds with train and val cases ({error})", "make it anew")
        return
    if not sides:
        yield Finding(False, f"{path} holds no fold", "make it anew")
        return
    yield _kept_together(sides, path, raw.parent)
    yield Finding(
        True,
        f"train folds 0 to {len(splits) - 1} only: for a higher number stock nnU-Net makes a random split by case, "
        "which tears patients apart (this package's trainers refuse it)",
    )


def _kept_together(sides: list[tuple[list[str], list[str]]], path: Path, raw: Path) -> Finding:
    """Whether no patient has cases in training and validation of one fold; sides are those of every fold."""
    text = f"{path}: {len(sides)} fold(s)"
    try:
        patients = find_patients(sorted({case for fold in sides for side in fold for case in side}), [raw])
    except (ValueError, OSError) as error:
        return Finding(False, f"{text}; whose the cases are cannot be read: {error}", "correct the table")
    if torn := sorted({patient for train, val in sides for patient in patients.torn(train, val)}):
        remedy = "make folds by patient: what is measured on these overestimates the network"
        return Finding(False, f"{text}; {len(torn)} patient(s) on both sides, like {torn[0]}", remedy)
    if patients.unknown:
        remedy = f"say it in {raw / TABLE}, a row a case, with the columns case,patient"
        unused = f" ({patients.unused})" if patients.unused else ""
        said = f"{text}; whether they keep patients together is not known: {patients.remark()}{unused}"
        return Finding(None, said, remedy)
    n_cases, n_patients = len(patients.of), len(set(patients.of.values()))
    said = f"{n_cases} cases of {n_patients} patients, by {patients.source}"
    return Finding(True, f"{text}, no patient in training and validation of one fold ({said})")


def _teachers(name: str, fold: str | None) -> Iterator[Finding]:
    from nnunetv2.utilities.dataset_name_id_conversion import convert_dataset_name_to_id

    results = Path(os.environ["nnUNet_results"], name)
    found = sorted(results.glob(f"*MeanImage*__*__*/fold_{'*' if fold is None else fold}/checkpoint_final.pth"))
    for path in found:
        trainer, rest = path.parent.parent.name.split("__", 1)
        plans, configuration = rest.rsplit("__", 1)
        yield Finding(True, f"teacher {trainer}, plans {plans}, {configuration}, {path.parent.name}")
    if not found:
        which = "no fold has" if fold is None else f"fold {fold} does not have"
        command = f"nnUNetv2_train {convert_dataset_name_to_id(name)} 2d {fold or 0} -tr nnUNetTrainerMeanImage"
        # a dataset without any teacher yet is no fault, unless one was asked for
        yield Finding(fold is None, f"{name}: {which} a finished teacher", f"train one, for example: {command}")
