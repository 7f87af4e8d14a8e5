"""The teacher and the student that ``shapekd train`` is asked for, looked up and checked before anything starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_shapekd.commands.arguments import check_set
from nnunet_shapekd.files.dataset_json import read_dataset_json, read_object
from nnunet_shapekd.training.cost import pair_cost
from nnunet_shapekd.training.devices import find_device
from nnunet_shapekd.training.lookup import trainer_class
from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage


@dataclass(frozen=True)
class Pair:
    """A teacher and its student that nnU-Net can train: everything is found, and nothing has been started."""

    dataset_name: str
    plans_manager: PlansManager
    configuration_manager: ConfigurationManager
    dataset_json: dict
    student: type[nnUNetTrainer]
    teacher: type[nnUNetTrainer]

    def next_stages(self) -> dict[str, Path]:
        """The configurations of a cascade that need this one's predictions, each with its preprocessed folder."""
        folder = Path(os.environ["nnUNet_preprocessed"], self.dataset_name)
        names = self.configuration_manager.next_stage_names or []
        return {name: folder / self.plans_manager.get_configuration(name).data_identifier for name in names}

    def cost(self) -> str:
        """What it costs beside stock nnU-Net."""
        arguments = (self.plans_manager, self.configuration_manager, self.dataset_json)
        try:
            return str(pair_cost(self.student, self.teacher, *arguments))
        except Exception as error:  # an estimate must not keep a network of a user's own from being trained
            return f"What the pair costs cannot be derived for these trainers ({type(error).__name__}: {error})."


def find_pair(dataset: str, configuration: str, trainer: str, plans: str) -> Pair:
    """Look up what the arguments of ``nnUNetv2_train`` name.

    Args:
        dataset: nnU-Net dataset id or name.
        configuration: of the plans.
        trainer: name of a ``ShapeKD`` trainer.
        plans: name of the plans, which are a file in the dataset's folder in ``nnUNet_preprocessed``.

    Raises:
        ValueError: naming the argument or environment variable at fault and what there is instead.
        FileNotFoundError: if dataset, plans or preprocessed data are not there.
    """
    check_set("nnUNet_preprocessed", "nnUNet_results")
    name = _dataset_name(dataset)
    folder = Path(os.environ["nnUNet_preprocessed"], name)
    plans_file = folder / f"{plans}.json"
    if not plans_file.is_file():
        candidates = sorted(
            p.stem for p in folder.glob("*.json") if '"configurations"' in p.read_text(encoding="utf-8")
        )
        raise FileNotFoundError(
            f"There are no plans {plans} (-p) in {folder}. "
            + (f"There are: {', '.join(candidates)}." if candidates else _planning(dataset, configuration))
        )
    plans_manager = PlansManager(read_object(plans_file))
    if configuration not in plans_manager.available_configurations:
        raise ValueError(
            f"The plans {plans} of {name} have no configuration {configuration}; they have: "
            f"{', '.join(plans_manager.available_configurations)}."
        )
    configuration_manager = plans_manager.get_configuration(configuration)
    data = folder / configuration_manager.data_identifier
    if not data.is_dir():
        raise FileNotFoundError(
            f"{name} is not preprocessed for {configuration}: {data} is missing. Make it with "
            f"nnUNetv2_preprocess -d {dataset} -plans_name {plans} -c {configuration}"
        )
    student = trainer_class(trainer, ShapeKD, "-tr")
    teacher = trainer_class(student.teacher_trainer_name(), MeanImage, f"teacher_trainer of {trainer}")
    dataset_json = read_dataset_json(folder / "dataset.json")
    return Pair(name, plans_manager, configuration_manager, dataset_json, student, teacher)


def _dataset_name(dataset: str) -> str:
    preprocessed = os.environ["nnUNet_preprocessed"]
    if dataset.isdecimal():
        names = [str(name) for name in find_candidate_datasets(int(dataset))]
    elif dataset.startswith("Dataset"):
        names = [dataset]
    else:
        raise ValueError(f"dataset must be nnU-Net's dataset id or name, like 27 or Dataset027_ACDC; got {dataset!r}")
    if len(names) > 1:
        raise ValueError(f"The dataset id {dataset} is not unique: {', '.join(names)}. Rename or move one of them.")
    if not names or not Path(preprocessed, names[0]).is_dir():
        raise FileNotFoundError(f"Dataset {dataset} is not in nnUNet_preprocessed={preprocessed}. {_planning(dataset)}")
    return names[0]


def _planning(dataset: str, configuration: str = "2d") -> str:
    return f"Make it with nnUNetv2_plan_and_preprocess -d {dataset} -c {configuration}"


def check_device(device: str, num_gpus: int) -> None:
    """Refuse what this machine does not have.

    Raises:
        ValueError: naming the argument.
    """
    if num_gpus < 1:
        raise ValueError(f"-num_gpus must be at least 1; got {num_gpus}")
    if num_gpus > 1 and device != "cuda":
        raise ValueError(f"-num_gpus {num_gpus} needs -device cuda: nnU-Net trains on one {device} only")
    find_device(device, "train")
    if device == "cuda" and num_gpus > torch.cuda.device_count():
        raise ValueError(f"-num_gpus {num_gpus}: PyTorch finds {torch.cuda.device_count()} GPU(s) here")
