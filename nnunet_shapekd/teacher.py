"""Find, check, load and freeze a teacher; and every error a user can make with one."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import convert_dataset_name_to_id
from nnunetv2.utilities.file_path_utilities import get_output_folder
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

#: What a teacher's checkpoint may hold beside tensors and plain Python values: the numpy scalars of nnU-Net's logging.
#: numpy 1 and 2 keep their reconstructing function in differently named modules, so a file may ask for either name.
_ALLOWED_GLOBALS = [
    np.dtype,
    type(np.dtype(np.float16)),
    type(np.dtype(np.float32)),
    type(np.dtype(np.float64)),
    type(np.dtype(np.int64)),
    (np.float32(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    (np.float32(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
]


def teacher_checkpoint_path(dataset_name: str, trainer: str, plans: str, configuration: str, fold: int | str) -> Path:
    """Where nnU-Net keeps the finished checkpoint of that training (below ``nnUNet_results``)."""
    return Path(get_output_folder(dataset_name, trainer, plans, configuration, fold)) / "checkpoint_final.pth"


def training_command(student: nnUNetTrainer, trainer: str) -> str:
    """The command that trains ``trainer`` for the student's dataset, configuration, fold, plans and device."""
    dataset_id = convert_dataset_name_to_id(student.plans_manager.dataset_name)
    command = f"nnUNetv2_train {dataset_id} {student.configuration_name} {student.fold} -tr {trainer}"
    if student.plans_manager.plans_name != "nnUNetPlans":
        command += f" -p {student.plans_manager.plans_name}"
    if student.device.type != "cuda":
        command += f" -device {student.device.type}"
    return command


def read_teacher_checkpoint(path: Path, command: str) -> dict[str, Any]:
    """Read a teacher's checkpoint without running any code it may hold.

    Args:
        path: ``checkpoint_final.pth`` of a MeanImage trainer.
        command: what trains that teacher, for the error messages.

    Returns:
        The checkpoint, all tensors on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, holds more than data, or is no teacher's.
    """
    if not path.is_file():
        unfinished = sorted(path.parent.glob("checkpoint_*.pth"))
        if unfinished:
            raise FileNotFoundError(
                f"The teacher's training is not finished: {path} is missing, but {unfinished[-1].name} is there. "
                f"Continue it first:\n    {command} --c"
            )
        raise FileNotFoundError(f"No teacher for this student: {path} is missing. Train it first:\n    {command}")
    try:
        with torch.serialization.safe_globals(_ALLOWED_GLOBALS):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message starts by advising to load the file without this protection
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"The teacher {path} holds something other than weights and plain values"
            f"{f' ({forbidden[1]})' if forbidden else ''} and was not loaded: a checkpoint can run code. If you do not "
            f"know where it comes from, delete it. Train the teacher again:\n    {command}"
        ) from None
    except Exception as error:  # torch raises zip, runtime, key and end-of-file errors for a damaged file
        raise ValueError(
            f"The teacher {path} cannot be read, it is damaged or truncated ({type(error).__name__}). Delete it and "
            f"train the teacher again:\n    {command}"
        ) from error
    entry = checkpoint.get("shapekd") if isinstance(checkpoint, dict) else None
    if not isinstance(entry, dict) or entry.get("role") != "teacher":
        trainer = checkpoint.get("trainer_name") if isinstance(checkpoint, dict) else None
        role = entry.get("role") if isinstance(entry, dict) else None
        raise ValueError(
            f"{path} is not a teacher: it was written by {trainer or 'something other than nnU-Net'}"
            f"{f' as a {role}' if role else ''}. A teacher is trained with a MeanImage trainer:\n    {command}"
        )
    return checkpoint


def _fingerprint(plans: dict, configuration_name: str, dataset: dict, deep_supervision: bool) -> dict[str, str]:
    """What teacher and student must have in common, each value as JSON (in which even NaN equals itself)."""
    fingerprint = {
        "dataset": plans["dataset_name"],
        "labels": dataset["labels"],
        "channels": dataset.get("channel_names") or dataset.get("modality"),
        "plans": plans["plans_name"],
        "intensity properties": plans.get("foreground_intensity_properties_per_channel"),
        "configuration": configuration_name,
        "deep supervision": deep_supervision,
    }
    # the manager follows "inherits_from"
    configuration = PlansManager(plans).get_configuration(configuration_name).configuration
    for key in ("data_identifier", "spacing", "patch_size", "normalization_schemes", "use_mask_for_norm"):
        fingerprint[key] = configuration.get(key)
    return {what: json.dumps(value) for what, value in fingerprint.items()}


def check_teacher_fits(
    checkpoint: dict[str, Any],
    path: Path,
    student: nnUNetTrainer,
    split: tuple[Sequence[str], Sequence[str]],
    command: str,
) -> None:
    """Compare a teacher's checkpoint with the student that wants to learn from it.

    Args:
        checkpoint: from :func:`read_teacher_checkpoint`.
        path: its file, for the error messages.
        student: the student's trainer.
        split: the student's training and validation cases.
        command: what trains the right teacher, for the error messages.

    Raises:
        ValueError: naming all differences, if the two were not trained on the same preprocessed data, or if the teacher
            was trained on cases on which the student will be validated.
    """
    init_args = checkpoint["init_args"]
    theirs = _fingerprint(
        init_args["plans"],
        init_args["configuration"],
        init_args["dataset_json"],
        checkpoint["shapekd"]["deep_supervision"],
    )
    own = _fingerprint(
        student.plans_manager.plans, student.configuration_name, student.dataset_json, student.enable_deep_supervision
    )
    differences = [f"{what}: teacher {theirs[what]}, student {own[what]}" for what in own if theirs[what] != own[what]]
    if differences:
        raise ValueError(
            f"The teacher {path} does not fit this student:\n    " + "\n    ".join(differences) + "\n"
            f"Delete the teacher's folder and train it again with the student's dataset, plans and trainer variant:\n"
            f"    {command}"
        )

    training_cases, validation_cases = split
    # fold "all" validates on its own training cases; what counts is what the student would not have seen by itself
    unseen = set(validation_cases) - set(training_cases)
    leaked = sorted(unseen & set(checkpoint["shapekd"]["training_cases"]))
    if leaked:
        raise ValueError(
            f"The teacher {path} was trained on {len(leaked)} of the cases this student is validated on "
            f"({', '.join(leaked[:3])}{', …' if len(leaked) > 3 else ''}); their labels would leak into the "
            f"validation through it. Was splits_final.json changed since? Train the teacher on this split:\n"
            f"    {command}"
        )


def freeze(teacher: nn.Module, weights: dict[str, torch.Tensor], path: Path, command: str) -> nn.Module:
    """Load ``weights`` and make the network a constant: evaluation mode, no gradients.

    Args:
        teacher: the network as the teacher's trainer builds it from the student's plans.
        weights: what was read from ``path``.
        path: the teacher's checkpoint, for the error message.
        command: what trains the right teacher, for the error message.

    Raises:
        ValueError: if the weights do not belong to this architecture.
    """
    try:
        teacher.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"The weights of the teacher {path} do not fit the network its trainer builds from these plans. If the "
            f"plans or the trainer were changed since, delete the teacher's folder and train it again:\n    {command}\n"
            f"{error}"
        ) from error
    return teacher.eval().requires_grad_(False)


def weights_sha256(weights: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and values: the same weights in a re-saved file have the same hash."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_atomically(checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """``torch.save`` beside ``path``, then rename: a killed run leaves the old file or the new one."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.partial")
    with open(temporary, "wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def network_builder_name(trainer: type) -> str:
    """The trainer to name in a checkpoint, so that as bare an nnU-Net as possible can rebuild the network.

    That is the class of nnU-Net's own that builds ``trainer``'s network; if a user's class builds it, ``trainer``.
    """
    builder = next(c for c in trainer.__mro__ if "build_network_architecture" in vars(c))
    return builder.__name__ if builder.__module__.startswith("nnunetv2.") else trainer.__name__
