"""Find, check, load and freeze a teacher; and every error a user can make with one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.file_path_utilities import get_output_folder
from torch import nn

#: What a teacher's checkpoint may hold beside tensors and plain Python values: the numpy scalars of nnU-Net's logging.
#: numpy 1 and 2 keep their reconstructing function in differently named modules, so a file may ask for either name.
_ALLOWED_GLOBALS = [
    np.dtype,
    np.ndarray,
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
    dataset_id = int(student.plans_manager.dataset_name[len("Dataset") : len("Dataset") + 3])
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
    except Exception as error:  # torch raises pickle, zip, runtime and end-of-file errors for a bad file
        raise ValueError(
            f"The teacher {path} cannot be read: it is truncated, or holds something other than weights and plain "
            f"values ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}). "
            f"Delete it and train the teacher again:\n    {command}"
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


def check_teacher_fits(checkpoint: dict[str, Any], path: Path, student: nnUNetTrainer, command: str) -> None:
    """Compare a teacher's checkpoint with the student that wants to learn from it.

    Raises:
        ValueError: naming all differences, if the two were not trained on the same preprocessed data, or if the teacher
            was trained on cases on which the student will be validated.
    """
    theirs = checkpoint["init_args"]
    plans = student.plans_manager.plans
    name = student.configuration_name
    pairs = [
        ("dataset", theirs["plans"]["dataset_name"], plans["dataset_name"]),
        ("labels", theirs["dataset_json"]["labels"], student.dataset_json["labels"]),
        ("plans", theirs["plans"]["plans_name"], plans["plans_name"]),
        ("configuration", theirs["configuration"], name),
        ("deep supervision", checkpoint["shapekd"]["deep_supervision"], student.enable_deep_supervision),
    ]
    their_configuration = theirs["plans"]["configurations"].get(name, {})
    for key in ("data_identifier", "spacing", "patch_size", "normalization_schemes"):
        pairs.append((key, their_configuration.get(key), plans["configurations"][name].get(key)))
    differences = [f"{what}: teacher {a}, student {b}" for what, a, b in pairs if a != b]
    if differences:
        raise ValueError(
            f"The teacher {path} does not fit this student:\n    " + "\n    ".join(differences) + "\n"
            f"Were the plans made anew since? Delete the teacher's folder and train it again:\n    {command}"
        )

    training_cases, validation_cases = student.do_split()
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


def freeze(teacher: nn.Module, weights: dict[str, torch.Tensor], device: torch.device) -> nn.Module:
    """Load ``weights`` and make the network a constant: evaluation mode, no gradients.

    Raises:
        ValueError: if the weights do not belong to this architecture.
    """
    try:
        teacher.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"The teacher's weights do not fit the network its trainer builds from these plans. Were the plans or the "
            f"trainer changed since it was trained? torch says: {error}"
        ) from error
    return teacher.to(device).eval().requires_grad_(False)


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


def nnunet_trainer_name(classes: Iterable[type]) -> str:
    """Of a trainer's classes (method resolution order), the first of nnU-Net's own that builds the network."""
    return next(
        c.__name__ for c in classes if c.__module__.startswith("nnunetv2.") and "build_network_architecture" in vars(c)
    )
