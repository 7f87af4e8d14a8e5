"""What is predicted and judged of a dataset: of a model's own only cases that did not train it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.across.checks import Subject, check_subjects
from nnunet_shapekd.across.matching import Matching, folded, match_classes
from nnunet_shapekd.across.model import Model
from nnunet_shapekd.across.options import CrossOptions
from nnunet_shapekd.files.dataset_json import channel_names, labels_of_dataset
from nnunet_shapekd.files.lying import lie_of_dataset, lie_of_files, training_labels, warning
from nnunet_shapekd.files.raw_dataset import RawDataset, find_images
from nnunet_shapekd.files.whose import find_patients, some

#: in OUT, beside a folder for each dataset
PREDICTIONS, REFERENCES = "predictions", "references"


@dataclass(frozen=True)
class Task:
    """What is predicted and judged of one dataset.

    Attributes:
        dataset: the dataset.
        part: "Tr" or "Ts".
        within: whether it is the dataset the models were trained on.
        matching: its classes and the models'.
        images: case -> files.
        folds: case -> the folds that predict it.
        remarks: what a reader must know.
    """

    dataset: RawDataset
    part: str
    within: bool
    matching: Matching
    images: dict[str, list[Path]]
    folds: dict[str, tuple[str, ...]]
    remarks: list[str]

    @property
    def where(self) -> str:
        return "within" if self.within else "across"


def held_out(model: Model, fold: str) -> tuple[list[str], str]:
    """The validation cases of a fold, and where they are known from.

    By the checkpoint's own record; stock checkpoints have none, so then by nnU-Net's final validation, or, last, by
    splits_final.json as it is now.

    Raises:
        ValueError: if the fold has none, or they are not known.
    """
    if fold == "all":
        raise ValueError(
            f"{model.folder} was trained on all training cases (fold_all), so none of {model.dataset} is left to judge "
            "it by, but imagesTs and labelsTs where they are"
        )
    recorded = model.validation_cases[fold]
    if recorded:
        return sorted(recorded), "the checkpoint's record"
    validation = model.folder / f"fold_{fold}" / "validation"
    if (validation / "summary.json").is_file():
        cases = [path.name for path in validation.iterdir() if path.name.endswith(model.file_ending)]
        return sorted(name.removesuffix(model.file_ending) for name in cases), "nnU-Net's final validation"
    splits = Path(os.environ.get("nnUNet_preprocessed", ""), model.dataset, "splits_final.json")
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        return sorted(json.loads(splits.read_text(encoding="utf-8"))[int(fold)]["val"]), str(splits)
    raise ValueError(
        f"{model.folder}: which cases of {model.dataset} did not train fold {fold} is not known: the checkpoint does "
        f"not record them, {validation} is not there or unfinished, and {splits} has no such fold. Let nnU-Net "
        "validate with nnUNetv2_train ... --val, or give another dataset"
    )


def plan(dataset: RawDataset, models: Sequence[Model], options: CrossOptions) -> Task:
    """What is judged of a dataset, with everything checked that can be without predicting.

    Raises:
        FileNotFoundError, ValueError: naming all that is wrong with it.
    """
    model, problems, remarks = models[-1], [], []
    within = dataset.name == model.dataset
    channels = channel_names(dataset.dataset_json)
    if len(channels) != len(model.channels):
        problems.append(f"has {len(channels)} channels ({', '.join(channels)}), the model {len(model.channels)}")
    elif [c.strip().casefold() for c in channels] != [c.strip().casefold() for c in model.channels]:
        difference = f"channels are {', '.join(channels)}, the model's {', '.join(model.channels)}"
        if options.ignore_channel_names:
            remarks.append(difference)
        else:
            problems.append(f"{difference}; if they are of the same kind, say --ignore-channel-names")
    readable = {model.file_ending, *model.file_endings}
    if dataset.file_ending not in readable:
        problems.append(f"files end in {dataset.file_ending}; the model's reader reads {', '.join(sorted(readable))}")
    matching = None
    try:
        matching = match_classes(model.dataset_json, dataset.dataset_json, options.leave_out)
    except ValueError as error:
        problems.append(str(error))
    part = options.part or ("Ts" if dataset.references("Ts") else "Tr")
    references = dataset.references(part)
    if not references:
        problems.append(f"has no label maps *{dataset.file_ending} in labels{part}")
    images, folds, patients = {}, {}, None
    try:
        images = find_images(dataset.images(part), dataset.file_ending)
        training = [*dataset.references("Tr")] if within and part == "Ts" else []  # stock checkpoints record no cases
        cases, folds = cases_to_judge(models, within, part, list(references), training, dataset.folder, remarks)
        problems += [
            f"{dataset.labels(part) / case}: no such validation case" for case in cases if case not in references
        ]
        expected = [1] if model.natural_images else [len(model.channels)]
        for case in cases:
            if len(images.get(case, ())) not in expected:
                problems.append(
                    f"{case}: expected {expected[0]} file(s) {case}_0000{dataset.file_ending} ... in "
                    f"{dataset.images(part)}, found {len(images.get(case, ()))}"
                )
        images = {case: images[case] for case in cases if case in images}
        patients = find_patients(cases, [dataset.folder], pattern=options.pattern)
        remarks += filter(None, [patients.unused, patients.remark()])
    except (FileNotFoundError, ValueError) as error:
        problems.append(str(error))
    if matching is not None and patients is not None and not problems:
        subjects = [Subject(case, tuple(files), references[case]) for case, files in images.items()]
        problems += check_subjects(subjects, model, matching, patients, options.processes, options.ignore_origins)
    if matching is not None and not problems and not within:
        with contextlib.suppress(ValueError):  # of a label map that is not judged
            trained = lie_of_files(training_labels(model.dataset, model.file_ending), model.labels.classes)
            here = lie_of_dataset(dataset, matching.classes, part)
            remarks += filter(None, [warning(trained, here, model.dataset)])
    if problems or matching is None:
        raise ValueError("".join(f"\n  - {dataset.name}: {problem}" for problem in problems))
    return Task(dataset, part, within, matching, images, folds, remarks)


def cases_to_judge(
    models: Sequence[Model],
    within: bool,
    part: str,
    references: list[str],
    training: list[str],
    folder: Path,
    remarks: list[str],
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The cases to judge, and the folds that predict each: never one that trained them.

    Args:
        models: the last says which folds there are.
        within: whether it is the dataset they were trained on.
        part: "Tr" or "Ts".
        references: the cases there are.
        training: further cases that trained the models.
        folder: of the dataset, in which patients.csv may lie.
        remarks: gets what a reader must know.

    Raises:
        ValueError: if test cases, or other cases of their patients, trained the models; if the validation cases are not
            known, or not the same for all models.
    """
    recorded = {case for model in models for fold in model.folds for case in model.training_cases[fold] or ()}
    trained = recorded.union(training)
    patients = find_patients(sorted(trained.union(references)), [folder])
    seen = sorted(trained.intersection(references))
    torn = patients.torn(set(references) - set(seen), trained)
    model = models[-1]
    if not within:
        if seen:
            remarks.append(
                f"{len(seen)} of {len(references)} cases are called like training cases of {model.dataset} "
                f"({some(seen)}): if they are the same, they have trained the models"
            )
        if torn:
            remarks.append(
                f"{len(torn)} patients have cases here and are called like patients among the training cases of "
                f"{model.dataset} ({some(torn)}): if they are the same, they have trained the models"
            )
        return references, dict.fromkeys(references, model.folds)
    if part == "Ts":
        if seen or torn:
            what = f"training cases of the models: {some(seen)}" if seen else f"patients who trained them: {some(torn)}"
            raise ValueError(f"labelsTs holds {what}")
        return references, dict.fromkeys(references, model.folds)
    folds: dict[str, tuple[str, ...]] = {}
    for fold in model.folds:
        known = [held_out(one, fold) for one in models]
        for one, (cases, source) in zip(models, known, strict=True):
            if cases != known[-1][0]:
                raise ValueError(
                    f"fold {fold} of {one.folder} has other validation cases ({len(cases)}, by {source}) than the "
                    f"model's ({len(known[-1][0])}, by {known[-1][1]}): trained on another split, it is no baseline"
                )
        for case in known[-1][0]:
            folds.setdefault(case, (fold,))
        remarks.append(f"{len(known[-1][0])} validation cases of fold {fold}, by {known[-1][1]}")
        of_fold = {case for one in models for case in one.training_cases[fold] or ()}
        if torn := patients.torn(known[-1][0], of_fold):
            remarks.append(
                f"{len(torn)} patients of these have trained fold {fold} by other cases ({some(torn)}): what is "
                "measured on them overestimates the models"
            )
    return sorted(folds), folds


def plan_all(datasets: Sequence[RawDataset], models: Sequence[Model], options: CrossOptions) -> list[Task]:
    """The tasks of all datasets, or all that is wrong with them."""
    if not datasets:
        raise ValueError("expected a dataset or more")
    names = [dataset.name for dataset in datasets]
    if bad := sorted({n for n in names if names.count(n) > 1 or n in (PREDICTIONS, REFERENCES)}):
        raise ValueError(f"datasets need different folder names, other than {PREDICTIONS}: got {', '.join(bad)}")
    known = models[-1].labels.classes.keys()
    known |= {name for dataset in datasets for name in labels_of_dataset(dataset.dataset_json).classes}
    for name in options.leave_out:
        if folded(name) not in map(folded, known):
            raise ValueError(f"--leave-out {name}: no such class; there are {', '.join(sorted(known))}")
    tasks, problems = [], ""
    for dataset in datasets:
        try:
            tasks.append(plan(dataset, models, options))
        except (FileNotFoundError, ValueError) as error:
            problems += str(error)
    if problems:
        raise ValueError(f"nothing was predicted:{problems}")
    return tasks
