"""The cases ``shapekd stress`` judges: never known training cases unasked, and read whole before any is predicted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_shapekd.across.checks import Subject, check_subjects
from nnunet_shapekd.across.matching import match_classes
from nnunet_shapekd.across.model import Model
from nnunet_shapekd.across.unseen import cases_to_judge, held_out
from nnunet_shapekd.files.dataset_json import read_dataset_json
from nnunet_shapekd.files.images import TIFF_ENDINGS, Image
from nnunet_shapekd.files.label_maps import read_label_map
from nnunet_shapekd.files.parallel import map_in_processes
from nnunet_shapekd.files.raw_dataset import find_images
from nnunet_shapekd.files.space import spacing_file
from nnunet_shapekd.files.whose import Patients
from nnunet_shapekd.stress.image_files import ImageFile, as_volume, read_image, write_image
from nnunet_shapekd.stress.options import StressOptions
from nnunet_shapekd.stress.scene import Scene
from nnunet_shapekd.stress.shifts import seed_of, shifted

#: cases to read, or to shift, that are worth a process, which loads torch
_PER_WORKER = 60

#: shift -> label values of each of the classes it changes; without the shifts that know no labels
Changed = Mapping[str, Sequence[Sequence[int]]]


def find_subjects(
    images: Path, labels: Path, models: Sequence[Model], all_cases: bool
) -> tuple[list[Subject], dict[str, tuple[str, ...]], list[str], list[str]]:
    """The cases in a folder that may be judged.

    Where it is the models' own imagesTr, by its place, or holds a case that is called like one of their dataset's, only
    their validation cases are, as in ``shapekd cross``: each predicted by the fold that did not train on it.

    Args:
        images: folder of CASE_0000 and so on.
        labels: folder of the references.
        models: trained on the same dataset; the last says which folds there are.
        all_cases: judge training cases, too.

    Returns:
        The cases; case -> folds that predict it; what a reader must know; and what is wrong: image files without
        reference, or of another number than the models have channels.

    Raises:
        FileNotFoundError: if a folder is missing, or has no images.
        ValueError: if it is the models' own and no validation case is known, or none is there.
    """
    if not labels.is_dir():
        raise FileNotFoundError(f"{labels}: no such folder")
    model, remarks, place = models[-1], [], images.resolve()
    found = find_images(images, model.file_ending)
    known, recognised = _known_cases(models)
    own = (place.parent.name, place.name) == (model.dataset, "imagesTr") or bool(found.keys() & known)
    if not own and not recognised:
        remarks.append(
            "Training cases could not be recognised: neither the checkpoints nor nnU-Net's folders name those of "
            f"{model.dataset}; none must be among the images"
        )
    chosen, folds = cases_to_judge(
        models, own and not all_cases, "Tr", list(found), [], images.resolve().parent, remarks
    )
    chosen = [case for case in chosen if case in found]
    if not chosen:
        raise ValueError(
            f"{images}: holds training cases of the models, by their names, and none of their validation cases; "
            "--all-cases judges them all the same"
        )
    if left := len(found) - len(chosen):
        remarks.append(
            f"Judged are the {len(chosen)} validation cases among the {len(found)} in {images}; the models may have "
            f"been trained on the other {left}, by their names (--all-cases judges them, too)"
        )
    subjects = [Subject(case, tuple(found[case]), labels / f"{case}{model.file_ending}") for case in chosen]
    expected = 1 if model.natural_images else len(model.channels)
    problems = [
        f"{images}: {one.case} has {len(one.images)} files, the model {expected} channels"
        for one in subjects
        if len(one.images) not in (expected, len(model.channels))
    ]
    problems += [f"{one.reference}: is missing" for one in subjects if not one.reference.is_file()]
    return subjects, {case: folds[case] for case in chosen}, remarks, problems


def _known_cases(models: Sequence[Model]) -> tuple[set[str], bool]:
    """Cases of the models' dataset, of all folds, and whether training cases are among them.

    By the checkpoints' records; a model without them, as of stock trainers, by what nnU-Net's folders hold now.
    """
    training, validation = set(), set()
    for model in models:
        recorded = [model.training_cases[fold] for fold in model.folds]
        training.update(*(cases or () for cases in recorded))
        if not all(recorded):
            training |= _cases_in_folders(model)
        for fold in model.folds:
            with suppress(ValueError):
                validation |= set(held_out(model, fold)[0])
    return training | validation, bool(training)


def _cases_in_folders(model: Model) -> set[str]:
    """A dataset's training cases, of all folds, by nnU-Net's folders."""
    raw, preprocessed = (Path(os.environ.get(f"nnUNet_{of}", ""), model.dataset) for of in ("raw", "preprocessed"))
    known: set[str] = set()
    with suppress(OSError, ValueError, LookupError, TypeError):
        for split in json.loads((preprocessed / "splits_final.json").read_text(encoding="utf-8")):
            known |= {*split["train"], *split["val"]}
    for folder in (raw / "labelsTr", preprocessed / "gt_segmentations"):
        files = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        known |= {name.removesuffix(model.file_ending) for name in files if name.endswith(model.file_ending)}
    return known


def drawn(subjects: Sequence[Subject], patients: Patients, options: StressOptions) -> list[Subject]:
    """The cases of patients drawn by the seed, until there are so many; all if none are to be drawn."""
    whose = {one.case: patients.of[one.case] for one in subjects}
    names, chosen = sorted(set(whose.values())), set()
    for i in np.random.default_rng(options.seed).permutation(len(names)):
        if options.cases is None or sum(patient in chosen for patient in whose.values()) < options.cases:
            chosen.add(names[i])
    return [one for one in subjects if whose[one.case] in chosen]


def wrong_files(
    subjects: Sequence[Subject],
    labels: Path,
    model: Model,
    not_judged: Sequence[str],
    patients: Patients,
    options: StressOptions,
) -> list[str]:
    """What is wrong with the files, see :func:`~nnunet_shapekd.across.checks.check_subjects`, or with their labels."""
    beside = labels.resolve().parent / "dataset.json"
    try:
        theirs = read_dataset_json(beside) if beside.is_file() else model.dataset_json
        matching = match_classes(model.dataset_json, theirs, not_judged)
    except ValueError as error:
        return [f"{beside}: {str(error).removeprefix(f'{beside}: ')}"]
    if not matching.is_identity:
        return [f"{beside}: other label values than the model's ({matching}); give references in the model's values"]
    there = [subject for subject in subjects if subject.reference.is_file()]
    return check_subjects(
        there, model, matching, patients, options.processes, options.ignore_origins, read=_read_to_shift
    )


def _read_to_shift(path: Path, reader: str) -> Image:
    return read_image(path, reader).file


def reference_of(subject: Subject, reader: str | None = None) -> np.ndarray:
    """A case's label values, (x, y, z) as its image's."""
    return as_volume(read_label_map(subject.reference, reader))


def scene_of(
    subject: Subject,
    image: ImageFile,
    shift: str,
    seed: int,
    channel: int,
    changed: Changed,
    reader: str | None = None,
) -> Scene:
    """What a shift knows of a case's image file."""
    classes = None
    if shift in changed:
        # a reference of a slice may have an axis less than its image, or more
        reference = reference_of(subject, reader).reshape(image.values.shape[1:])
        classes = np.zeros(reference.shape, np.int32)
        for number, values in enumerate(changed[shift], start=1):
            classes[np.isin(reference, values)] = number
    return Scene(image.spacing, seed_of(subject.case, shift, seed), channel, classes)


def shift_files(
    subject: Subject,
    folder: Path,
    shift: str,
    severity: int,
    seed: int,
    changed: Changed,
    reader: str | None = None,
) -> None:
    """Write a case's shifted files; those of severity 0 are the very files."""
    for channel, path in enumerate(subject.images):
        if (beside := spacing_file(path)) and path.name.lower().endswith(TIFF_ENDINGS):
            shutil.copyfile(beside, folder / beside.name)
        if severity == 0:
            shutil.copyfile(path, folder / path.name)
            continue
        image = read_image(path, reader)
        scene = scene_of(subject, image, shift, seed, channel, changed, reader)
        write_image(shifted(image.values, shift, severity, scene), image, folder / path.name)


def each_subject(work: Callable, subjects: Sequence[Subject], processes: int | None, description: str) -> list[Any]:
    return map_in_processes(work, subjects, processes, description, _PER_WORKER)
