"""Find, check, load and freeze a teacher; and every error a user can make with one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import convert_dataset_name_to_id
from nnunetv2.utilities.file_path_utilities import get_output_folder
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import distributed, nn

from nnunet_shapekd.files.checkpoints import read_checkpoint
from nnunet_shapekd.files.whose import Patients


def teacher_checkpoint_path(dataset_name: str, trainer: str, plans: str, configuration: str, fold: int | str) -> Path:
    """Where nnU-Net keeps the finished checkpoint of that training (below ``nnUNet_results``)."""
    return Path(get_output_folder(dataset_name, trainer, plans, configuration, fold)) / "checkpoint_final.pth"


def training_command(
    student: nnUNetTrainer, trainer: str, configuration: str | None = None, fold: int | str | None = None
) -> str:
    """The command that trains ``trainer`` as the student is trained, or for another configuration or fold."""
    dataset_id = convert_dataset_name_to_id(student.plans_manager.dataset_name)
    configuration = student.configuration_name if configuration is None else configuration
    fold = student.fold if fold is None else fold
    command = f"nnUNetv2_train {dataset_id} {configuration} {fold} -tr {trainer}"
    if student.plans_manager.plans_name != "nnUNetPlans":
        command += f" -p {student.plans_manager.plans_name}"
    if student.device.type != "cuda":
        command += f" -device {student.device.type}"
    if student.is_ddp:
        command += f" -num_gpus {distributed.get_world_size()}"
    return command


def find_teacher(path: str, fold: int | str) -> Path:
    """The checkpoint a user means by a path.

    Args:
        path: a checkpoint, the folder of one training (``fold_0``), or the folder above, which holds all folds.
        fold: the student's.

    Raises:
        FileNotFoundError: if there is no such file or folder, or no finished training in it.
    """
    given = Path(path).expanduser()
    candidates = [given]
    if given.is_dir():
        candidates = [given / "checkpoint_final.pth", given / f"fold_{fold}" / "checkpoint_final.pth"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"No teacher at teacher_path (SHAPEKD_TEACHER_PATH) {path}: there is no "
        f"{' and no '.join(map(str, candidates))}. Give a teacher's checkpoint or a finished teacher's folder."
    )


@dataclass(frozen=True, eq=False)
class Teacher:
    """A teacher's checkpoint.

    Attributes:
        path: its file, for the error messages.
        checkpoint: what it holds, all tensors on the CPU.
        advice: how to come to the right teacher, for the error messages.
    """

    path: Path
    checkpoint: dict[str, Any]
    advice: str = ""

    def refuse_unfit(self, student: nnUNetTrainer) -> None:
        """Compare with the student that wants to learn from it.

        The networks may differ (a teacher may be narrower); what goes in and what comes out must be the same.

        Raises:
            ValueError: naming all differences, if the two were not trained on the same preprocessed data.
        """
        theirs = recorded_fingerprint(self.checkpoint, f"the teacher {self.path}", self.advice)
        own = fingerprint(student.plans_manager.plans, student.configuration_name, student.dataset_json)
        differences = different_data("teacher", theirs, own)
        if student.enable_deep_supervision and not self.checkpoint["shapekd"]["deep_supervision"]:
            differences.append("deep supervision: teacher without, student with (its lower scales were never trained)")
        if differences:
            raise ValueError(
                f"The teacher {self.path} does not fit this student:\n    "
                + "\n    ".join(differences)
                + f"\n{self.advice}"
            )

    def leaked_cases(
        self, training_cases: Sequence[str], validation_cases: Sequence[str], patients: Patients
    ) -> list[str]:
        """The cases whose labels would leak into a student's validation through its teacher.

        Args:
            training_cases: the student's.
            validation_cases: the student's.
            patients: whose the cases are.

        Returns:
            The cases on which the student is validated and the teacher was trained, itself or on another of the
            patient; sorted.
        """
        taught = set(self.checkpoint["shapekd"]["training_cases"])
        # fold "all" validates on its own training cases; what counts is what the student would not have seen by itself
        known = set(patients.torn(validation_cases, taught)) - set(patients.torn(validation_cases, training_cases))
        unseen = set(validation_cases) - set(training_cases)
        return sorted(case for case in unseen if case in taught or patients.of.get(case, case) in known)

    @cached_property
    def trainer(self) -> type[nnUNetTrainer]:
        """The trainer that made it: it knows the network, and what the teacher sees.

        Raises:
            ValueError: if there is none of that name, or it is no MeanImage trainer.
        """
        name = self.checkpoint["trainer_name"]
        try:
            trainer = recursive_find_trainer_class_by_name(name)
        except RuntimeError as error:
            raise ValueError(
                f"The trainer {name} of the teacher {self.path} is in none of the folders of nnUNet_extTrainer "
                f"({os.environ.get('nnUNet_extTrainer', 'not set')}). Add the folder of its file."
            ) from error
        if not hasattr(trainer, "teacher_input"):
            raise ValueError(
                f"The trainer {name} of the teacher {self.path} is not made with the MeanImage mixin any more."
            )
        return trainer

    def network(self, student: nnUNetTrainer) -> nn.Module:
        """The network with its weights, as a constant: evaluation mode, no gradients, on the CPU.

        Args:
            student: that it fits, whose plans and channels it is built from.

        Raises:
            ValueError: if the weights are not finite or not this network's; and as :attr:`trainer`.
        """
        with torch.random.fork_rng(devices=[]):  # the discarded initial weights draw no random numbers
            network = self.trainer.build_network_architecture(
                student.plans_manager,
                student.configuration_manager,
                student.num_input_channels,
                student.label_manager.num_segmentation_heads,
                student.enable_deep_supervision,
            )
        weights = self.checkpoint["network_weights"]
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"The weights of the teacher {self.path} do not fit the network that {self.trainer.__name__} builds "
                f"from these plans; the plans or the trainer were changed since. {self.advice}\n{error}"
            ) from error
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            raise ValueError(
                f"The teacher {self.path} has weights that are not finite: its training diverged. {self.advice}"
            )
        return network.eval().requires_grad_(False)


def read_teacher(path: Path, command: str, advice: str) -> Teacher:
    """Read a teacher's checkpoint without running any code it may hold.

    Args:
        path: ``checkpoint_final.pth`` of a MeanImage trainer.
        command: what trains it, for the error message of an unfinished one.
        advice: how to come to the right teacher, for the other error messages.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, holds more than data, or is no teacher's.
    """
    if not path.is_file():
        if unfinished := sorted(path.parent.glob("checkpoint_*.pth")):
            raise FileNotFoundError(
                f"The teacher's training is not finished: {path} is missing, but {unfinished[-1].name} is there. "
                f"Continue it:\n    {command} --c"
            )
        raise FileNotFoundError(f"No teacher for this student: {path} is missing. {advice}")
    try:
        checkpoint = read_checkpoint(path)
    except ValueError as error:
        raise type(error)(f"The teacher {error} {advice}") from error
    entry = checkpoint.get("shapekd")
    role = entry.get("role") if isinstance(entry, dict) else None
    if role != "teacher":
        trainer = checkpoint.get("trainer_name", "something other than nnU-Net")
        raise ValueError(
            f"{path} is not a teacher: it was written by {trainer}{f' as a {role}' if role else ''}. A teacher is "
            f"trained with a MeanImage trainer. {advice}"
        )
    if problems := list(_problems(checkpoint)):
        raise ValueError(f"The teacher {path} is incomplete:\n    " + "\n    ".join(problems) + f"\n{advice}")
    return Teacher(path, checkpoint, advice)


#: what a student reads of its teacher's checkpoint: where, what it must be, in words, and whether it is
_RECORD: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (("trainer_name",), "a name", lambda value: isinstance(value, str)),
    (("current_epoch",), "a number", lambda value: isinstance(value, int)),
    (
        ("network_weights",),
        "tensors by their names",
        lambda value: isinstance(value, dict) and value and all(isinstance(w, torch.Tensor) for w in value.values()),
    ),
    (("init_args", "plans"), "nnU-Net's plans", lambda value: isinstance(value, dict)),
    (("init_args", "configuration"), "a configuration's name", lambda value: isinstance(value, str)),
    (("init_args", "dataset_json"), "the dataset.json", lambda value: isinstance(value, dict)),
    (("init_args", "fold"), "a fold", lambda value: isinstance(value, (int, str))),
    (("shapekd", "deep_supervision"), "true or false", lambda value: isinstance(value, bool)),
    (
        ("shapekd", "training_cases"),
        "a list of cases",
        lambda value: isinstance(value, list) and all(isinstance(case, str) for case in value),
    ),
)


def _problems(checkpoint: dict[str, Any]) -> Iterator[str]:
    """What is not as a teacher's training writes it, one line each."""
    for keys, expected, fits in _RECORD:
        value: Any = checkpoint
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if not fits(value):
            found = "missing" if value is None else f"a {type(value).__name__} that is not"
            yield f"{'/'.join(keys)}: expected {expected}, it is {found}"


def fingerprint(plans: dict, configuration_name: str, dataset: dict) -> dict[str, str]:
    """What teacher and student must have in common, each value as JSON (in which even NaN equals itself)."""
    labels = dataset["labels"]
    has_regions = any(isinstance(values, (list, tuple)) for values in labels.values())
    found = {
        "dataset": plans["dataset_name"],
        "labels": labels,
        # which is that of the channels; elsewhere the order in dataset.json means nothing
        "order of regions": [list(labels), dataset.get("regions_class_order")] if has_regions else None,
        "channels": dataset.get("channel_names") or dataset.get("modality"),
        "plans": plans["plans_name"],
        "intensity properties": plans.get("foreground_intensity_properties_per_channel"),
        "configuration": configuration_name,
    }
    # the manager follows "inherits_from"
    configuration = PlansManager(plans).get_configuration(configuration_name).configuration
    for key in ("data_identifier", "spacing", "patch_size", "normalization_schemes", "use_mask_for_norm"):
        found[key] = configuration.get(key)
    return {what: json.dumps(value, sort_keys=True) for what, value in found.items()}


def recorded_fingerprint(checkpoint: dict[str, Any], which: str, advice: str = "") -> dict[str, str]:
    """The :func:`fingerprint` of what a checkpoint was trained on.

    Raises:
        ValueError: naming which checkpoint, if its plans or dataset.json are not nnU-Net's.
    """
    try:
        return fingerprint(*(checkpoint["init_args"][key] for key in ("plans", "configuration", "dataset_json")))
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"The plans or the dataset.json in {which} are not nnU-Net's: {type(error).__name__}: {error}. {advice}"
        ) from error


def different_data(role: str, theirs: dict[str, str], students: dict[str, str]) -> list[str]:
    """A line for each entry of two :func:`fingerprint` in which what ``role`` names differs from the student's."""
    return [f"{what}: {role} {theirs[what]}, student {own}" for what, own in students.items() if theirs[what] != own]
