"""The networks of one fold: stock baseline, teacher and student, from their checkpoints."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_shapekd.figure.options import FigureOptions
from nnunet_shapekd.files.checkpoints import read_network, weights_sha256
from nnunet_shapekd.training.find_teacher import (
    different_data,
    find_teacher,
    read_teacher,
    recorded_fingerprint,
    teacher_checkpoint_path,
)
from nnunet_shapekd.training.lookup import add_trainers_folder, trainer_class
from nnunet_shapekd.training.settings import read_settings
from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage


@dataclass(frozen=True)
class Network:
    """A trained network, in evaluation mode, on the CPU, without deep supervision; its trainer and its file."""

    trainer: type[nnUNetTrainer]
    network: nn.Module
    path: Path


@dataclass(frozen=True)
class Networks:
    """The networks of one fold, trained on data preprocessed in one way."""

    plans_manager: PlansManager
    configuration: str
    dataset_json: dict[str, Any]
    #: "baseline" (if there is one), "teacher", "student"
    of: dict[str, Network]
    #: of the student; ``None`` if not recorded
    training_cases: list[str] | None
    remarks: list[str]


def find_networks(dataset: str, configuration: str, fold: str, options: FigureOptions) -> Networks:
    """Baseline (where it was trained), teacher and student of a fold.

    Raises:
        ValueError: for a cascade's second stage, for networks of other data, and for weights that do not fit.
        FileNotFoundError: if there is no student or no teacher; it names the command that trains it.
    """
    add_trainers_folder()
    student_class = trainer_class(options.trainer, ShapeKD, "-tr")
    what = f"{dataset} {configuration} {fold}"
    planned = "" if options.plans == "nnUNetPlans" else f" -p {options.plans}"

    def trained(name: str) -> Path:
        return teacher_checkpoint_path(dataset, name, options.plans, configuration, fold)

    path = trained(options.trainer).with_name(options.checkpoint)
    student = _read(path, "student", f"shapekd train {what} -tr {options.trainer}{planned}")
    arguments = student["init_args"]
    plans_manager = PlansManager(arguments["plans"])
    previous = plans_manager.get_configuration(configuration).previous_stage_name
    if previous is not None:
        raise ValueError(
            f"{configuration} is a cascade's second stage, whose networks see the first stage's prediction, too: the "
            f"figure does not show that. Give -c {previous}, or another one."
        )
    record = student.get("shapekd") or {}
    learned_from = record.get("teacher") or {}
    teacher_name = learned_from.get("trainer") or student_class.teacher_trainer_name()
    settings, overridden = read_settings(student_class, os.environ)
    teacher_path = (record.get("settings") or {}).get("teacher_path")
    if "teacher_path" in overridden:  # it may have moved
        teacher_path = settings["teacher_path"]
    command = f"nnUNetv2_train {what} -tr {teacher_name}{planned}"
    teacher_file = find_teacher(teacher_path, fold) if teacher_path else trained(teacher_name)
    advice = (
        "Bring back the teacher this student learned from, or set SHAPEKD_TEACHER_PATH to where it is now. A teacher "
        f"is trained by:\n    {command}"
    )
    teacher = read_teacher(teacher_file, command, advice).checkpoint

    remarks = []
    if learned_from.get("weights_sha256") not in (None, weights_sha256(teacher["network_weights"])):
        remarks.append(f"This teacher is not the one the student learned from: {teacher_file} has other weights.")
    found = {"teacher": (teacher_file, teacher, MeanImage), "student": (path, student, nnUNetTrainer)}
    try:
        path = trained(options.baseline).with_name(options.checkpoint)
        stock = _read(path, "baseline", f"nnUNetv2_train {what} -tr {options.baseline}{planned}")
        found = {"baseline": (path, stock, nnUNetTrainer), **found}
    except FileNotFoundError as error:
        print(f"{error}\nIts panels are left out.", file=sys.stderr)
    for remark in remarks:
        print(remark, file=sys.stderr)

    trained_on = {role: recorded_fingerprint(model, f"the {role} {path}") for role, (path, model, _) in found.items()}
    own = trained_on["student"]
    for role, theirs in trained_on.items():
        if differences := different_data(role, theirs, own):
            raise ValueError(
                f"The {role} {found[role][0]} was trained on other data than the student:\n    "
                + "\n    ".join(differences)
            )
    return Networks(
        plans_manager,
        configuration,
        arguments["dataset_json"],
        {
            role: _build(trainer_class(model["trainer_name"], mixin, f"of the {role} {path}"), model, path)
            for role, (path, model, mixin) in found.items()
        },
        record.get("training_cases", learned_from.get("training_cases")),
        remarks,
    )


def _read(path: Path, role: str, command: str) -> dict[str, Any]:
    """A network's checkpoint; if it is missing, the error names the command that trains it."""
    if not path.is_file():
        others = ", ".join(sorted(other.name for other in path.parent.glob("checkpoint_*.pth")))
        also = f" There is {others}: continue that training with --c, or show one with -chk." if others else ""
        raise FileNotFoundError(f"There is no {role} {path}.{also} It is trained by:\n    {command}")
    return read_network(path)


def _build(trainer: type[nnUNetTrainer], checkpoint: dict[str, Any], path: Path) -> Network:
    """A network as nnU-Net's predictor builds it, from what its checkpoint says."""
    arguments = checkpoint["init_args"]
    plans_manager, dataset_json = PlansManager(arguments["plans"]), arguments["dataset_json"]
    configuration = plans_manager.get_configuration(arguments["configuration"])
    network = trainer.build_network_architecture(
        plans_manager,
        configuration,
        determine_num_input_channels(plans_manager, configuration, dataset_json),
        plans_manager.get_label_manager(dataset_json).num_segmentation_heads,
        enable_deep_supervision=False,
    )
    try:
        network.load_state_dict(checkpoint["network_weights"])
    except RuntimeError as error:
        raise ValueError(
            f"The weights in {path} do not fit the network that {trainer.__name__} builds from its plans: the trainer "
            f"was changed since.\n{error}"
        ) from error
    return Network(trainer, network.eval(), path)
