"""Trainers and datasets by their names, with errors that say what to do."""

from __future__ import annotations

import contextlib
import io
import os

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_shapekd.trainers_folder import trainers_folder
from nnunet_shapekd.training.teacher import MeanImage


def add_trainers_folder() -> None:
    """Add this package's trainers to ``nnUNet_extTrainer`` in this process's environment."""
    folders = [folder for folder in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if folder]
    if trainers_folder() not in folders:
        os.environ["nnUNet_extTrainer"] = os.pathsep.join([*folders, trainers_folder()])


def dataset_name(dataset: str) -> str:
    """The name of a dataset in nnU-Net's folders.

    Args:
        dataset: its id or name.

    Raises:
        ValueError: if there is none, or several.
    """
    try:
        return str(maybe_convert_to_dataset_name(dataset))
    except (RuntimeError, ValueError) as error:  # none or several of that id; no id at all
        raise ValueError(f"The dataset {dataset} is not to be found in nnU-Net's folders: {error}") from error


def trainer_class(name: str, mixin: type, argument: str) -> type[nnUNetTrainer]:
    """The trainer of a name, as nnU-Net finds it.

    Args:
        name: of the class.
        mixin: what it must derive from.
        argument: what named it, for the error message.

    Raises:
        ValueError: if nnU-Net does not find it, or it does not derive from ``mixin``.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net prints every module it looks into
        try:
            trainer = recursive_find_trainer_class_by_name(name)
        except Exception as error:  # not found, or a broken file in any of the user's trainer folders
            reason = (
                f"none of that name is in nnU-Net or in nnUNet_extTrainer={os.environ['nnUNet_extTrainer']}. This "
                "package's are printed by shapekd trainers --list"
                if isinstance(error, RuntimeError)
                else f"{type(error).__name__}: {error}"
            )
            raise ValueError(f"nnU-Net does not find the trainer {name} ({argument}): {reason}") from error
    if issubclass(trainer, mixin):
        return trainer
    if issubclass(trainer, MeanImage):
        raise ValueError(f"{argument} must be a student's trainer; {name} is a teacher's, which is trained on the way.")
    without_teacher = "" if mixin is MeanImage else " It has no teacher: nnUNetv2_train alone trains it."
    raise ValueError(
        f"{argument} must be a trainer made with the {mixin.__name__} mixin; {name} is not.{without_teacher}"
    )
