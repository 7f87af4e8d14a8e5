"""Which cases did not train a model, and so may judge it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from nnunet_shapekd.across.model import Model
from nnunet_shapekd.files.names import some
from nnunet_shapekd.files.whose import find_patients


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
        found = [path.name for path in validation.iterdir() if not path.name.startswith(".")]
        cases = [name.removesuffix(model.file_ending) for name in found if name.endswith(model.file_ending)]
        return sorted(cases), "nnU-Net's final validation"
    splits = Path(os.environ.get("nnUNet_preprocessed", ""), model.dataset, "splits_final.json")
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        return sorted(json.loads(splits.read_text(encoding="utf-8"))[int(fold)]["val"]), str(splits)
    raise ValueError(
        f"{model.folder}: which cases of {model.dataset} did not train fold {fold} is not known: the checkpoint does "
        f"not record them, {validation} is not there or unfinished, and {splits} has no such fold. Let nnU-Net "
        "validate with nnUNetv2_train ... --val, or give another dataset"
    )


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
