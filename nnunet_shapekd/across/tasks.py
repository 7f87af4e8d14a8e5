"""What is predicted and judged of a dataset: of a model's own only cases that did not train it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.across.checks import Subject, check_subjects
from nnunet_shapekd.across.matching import Matching, match_classes
from nnunet_shapekd.across.model import Model
from nnunet_shapekd.across.options import CrossOptions
from nnunet_shapekd.across.unseen import cases_to_judge
from nnunet_shapekd.evaluation.cases import folded
from nnunet_shapekd.evaluation.problems import listed
from nnunet_shapekd.files.columns import columns_of
from nnunet_shapekd.files.dataset_json import channel_names, labels_of_dataset
from nnunet_shapekd.files.lying import lie_of_dataset, lie_of_files, training_labels, warning
from nnunet_shapekd.files.raw_dataset import RawDataset, find_images
from nnunet_shapekd.files.whose import find_patients

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
        absent: column that the dataset was to be judged by -> why it is not.
    """

    dataset: RawDataset
    part: str
    within: bool
    matching: Matching
    images: dict[str, list[Path]]
    folds: dict[str, tuple[str, ...]]
    remarks: list[str]
    absent: dict[str, str]

    @property
    def where(self) -> str:
        return "within" if self.within else "across"


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
    with listed(problems):
        matching = match_classes(model.dataset_json, dataset.dataset_json, options.leave_out)
    part = options.part or ("Ts" if dataset.references("Ts") else "Tr")
    references = dataset.references(part)
    if not references:
        problems.append(f"has no label maps *{dataset.file_ending} in labels{part}")
    images, folds, patients, absent = {}, {}, None, {}
    with listed(problems):
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
        _, absent = columns_of(options.by, patients, [dataset.folder])
        remarks += filter(None, [patients.unused, patients.remark(), *absent.values()])
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
    return Task(dataset, part, within, matching, images, folds, remarks, absent)


def plan_all(datasets: Sequence[RawDataset], models: Sequence[Model], options: CrossOptions) -> list[Task]:
    """The tasks of all datasets, or all that is wrong with them."""
    if not datasets:
        raise ValueError("expected a dataset or more")
    names = [dataset.name for dataset in datasets]
    if bad := sorted({n for n in names if names.count(n) > 1 or n in (PREDICTIONS, REFERENCES)}):
        raise ValueError(
            f"datasets need different folder names, other than {PREDICTIONS} and {REFERENCES}: got {', '.join(bad)}"
        )
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
    if not problems:
        nowhere = [name for name in tasks[0].absent if all(name in task.absent for task in tasks)]
        said = [f"{task.dataset.name}: --by: {task.absent[name]}" for name in nowhere for task in tasks]
        problems = "".join(f"\n  - {one}" for one in said)
    if problems:
        raise ValueError(f"nothing was predicted:{problems}")
    return tasks
