"""``shapekd train``: a teacher and its student with one command, each with nnU-Net's own training.

Nothing that is trained is ever trained again or overwritten: what a fold's folders hold decides what is done.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_shapekd.commands.processes import run_to_the_end
from nnunet_shapekd.files.checkpoints import read_checkpoint
from nnunet_shapekd.training.cost import pair_cost
from nnunet_shapekd.training.find_teacher import (
    find_teacher,
    read_teacher_checkpoint,
    teacher_checkpoint_path,
    teacher_trainer_class,
)
from nnunet_shapekd.training.lookup import add_trainers_folder, trainer_class
from nnunet_shapekd.training.settings import different_settings, read_settings
from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage

Role = Literal["teacher", "student"]
State = Literal["none", "unfinished", "trained", "validated"]
Action = Literal["nothing", "train", "continue"]


def fold_state(folder: Path) -> State:
    """How far nnU-Net came in a fold's folder.

    Returns:
        "none" without a checkpoint; "unfinished" with others than ``checkpoint_final.pth``; "trained" with that one;
        "validated" if the final validation's ``summary.json`` is there, too.
    """
    if (folder / "checkpoint_final.pth").is_file():
        return "validated" if (folder / "validation" / "summary.json").is_file() else "trained"
    return "unfinished" if any(folder.glob("checkpoint_*.pth")) else "none"


def planned_actions(
    teacher: Path,
    student: Path,
    only: Role | None = None,
    continue_training: bool = False,
    teacher_given: bool = False,
    next_stage: bool = False,
) -> dict[Role, Action]:
    """What is to be done, teacher first, so that nothing is lost.

    Args:
        teacher: folder of the teacher's fold.
        student: folder of the student's fold.
        only: train this one alone.
        continue_training: continue what is unfinished, leave what is finished.
        teacher_given: the student asks for a finished teacher by its path, whatever is in ``teacher``.
        next_stage: whether a cascade's second stage follows, whose teacher needs this one's validation.

    Raises:
        ValueError: if a training is there that this would overwrite, or continue without being asked to.
        FileNotFoundError: if the student's teacher is missing and must not, or cannot any more, be trained.
    """
    states: dict[Role, State] = {
        "teacher": "trained" if teacher_given else fold_state(teacher),
        "student": fold_state(student),
    }
    if only != "teacher" and states["student"] in ("trained", "validated"):
        if not continue_training:
            raise ValueError(
                f"The student is trained already: {student}. Use --c to leave it as it is (and to finish its "
                "validation where that is missing), or move that folder away to train anew."
            )
        # its teacher has done its work, wherever it is by now
        return {"student": "nothing" if states["student"] == "validated" else "continue"}
    roles: tuple[Role, ...] = (only,) if only else ("teacher", "student")
    for role, folder in (("teacher", teacher), ("student", student)):
        if role in roles and states[role] == "unfinished" and not continue_training:
            raise ValueError(
                f"An unfinished training of the {role} is there: {folder}. Continue it with --c, or move that folder "
                "away to train anew."
            )
    taught = states["teacher"] in ("trained", "validated")
    if not taught and only == "student":
        raise FileNotFoundError(
            f"--only student needs a finished teacher, and {teacher / 'checkpoint_final.pth'} is missing. Train it "
            "with --only teacher, or leave --only away."
        )
    if not taught and only is None and states["student"] == "unfinished":
        raise FileNotFoundError(
            f"The student {student} began with a teacher that is no longer in {teacher}; a new one would not do. Bring "
            "that teacher back, or move the student's folder away to train both anew."
        )
    begin_or_continue: dict[State, Action] = {"none": "train", "unfinished": "continue"}
    if next_stage and not teacher_given:  # nobody else needs a teacher's validation
        begin_or_continue["trained"] = "continue"
    return {role: begin_or_continue.get(states[role], "nothing") for role in roles}


@dataclass(frozen=True)
class Pair:
    """A teacher and its student that nnU-Net can train: everything is found, and nothing has been started."""

    dataset_name: str
    plans_manager: PlansManager
    configuration_manager: ConfigurationManager
    dataset_json: dict
    student: type[nnUNetTrainer]
    teacher: type[nnUNetTrainer]


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
    for variable in ("nnUNet_preprocessed", "nnUNet_results"):
        if not os.environ.get(variable):
            raise ValueError(f"{variable} is not set: export {variable}=/path/to/{variable}")
    name = _dataset_name(dataset)
    folder = Path(os.environ["nnUNet_preprocessed"], name)
    plans_file = folder / f"{plans}.json"
    if not plans_file.is_file():
        candidates = sorted(path.stem for path in folder.glob("*.json") if "configurations" in _load_json(path))
        raise FileNotFoundError(
            f"There are no plans {plans} (-p) in {folder}. "
            + (f"There are: {', '.join(candidates)}." if candidates else _planning(dataset, configuration))
        )
    plans_manager = PlansManager(_load_json(plans_file))
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
    return Pair(
        name,
        plans_manager,
        configuration_manager,
        _load_json(folder / "dataset.json"),
        student,
        teacher,
    )


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


def _load_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged, it is no JSON: {error}") from error


def check_device(device: str, num_gpus: int) -> None:
    """Refuse what this machine does not have.

    Raises:
        ValueError: naming the argument.
    """
    if num_gpus < 1:
        raise ValueError(f"-num_gpus must be at least 1; got {num_gpus}")
    if num_gpus > 1 and device != "cuda":
        raise ValueError(f"-num_gpus {num_gpus} needs -device cuda: nnU-Net trains on one {device} only")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("-device cuda: PyTorch finds no CUDA GPU here. Train on the CPU with -device cpu.")
    if device == "cuda" and num_gpus > torch.cuda.device_count():
        raise ValueError(f"-num_gpus {num_gpus}: PyTorch finds {torch.cuda.device_count()} GPU(s) here")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("-device mps: PyTorch finds no Apple GPU here. Train on the CPU with -device cpu.")


def train_pair(
    dataset: str,
    configuration: str,
    fold: str,
    trainer: str = "nnUNetTrainerShapeKD",
    plans: str = "nnUNetPlans",
    num_gpus: int = 1,
    device: str = "cuda",
    npz: bool = False,
    continue_training: bool = False,
    only: Role | None = None,
) -> None:
    """Train a teacher, if there is no finished one, and then its student.

    Each is a process of nnU-Net's own ``nnUNetv2_train``. This package's trainers are added to ``nnUNet_extTrainer`` in
    this process's environment. SIGTERM and SIGHUP end the command as Ctrl-C does, together with all it has started.

    Args:
        dataset: nnU-Net dataset id or name.
        configuration: 2d, 3d_fullres, 3d_lowres, ... of the plans.
        fold: a number, or "all".
        trainer: the student's trainer; it names its teacher's.
        plans: name of the plans of both.
        num_gpus: GPUs to train one network on.
        device: "cuda", "cpu" or "mps".
        npz: keep the probabilities of the student's final validation.
        continue_training: continue what is unfinished, leave what is finished.
        only: train this one alone.

    Raises:
        ValueError: before anything starts, for arguments that cannot work or would lose a training.
        FileNotFoundError: before anything starts, if the data or a teacher that is needed is missing.
        ChildProcessError: if a training fails.
    """
    if fold != "all" and not fold.isdecimal():
        raise ValueError(f"fold must be a number or 'all'; got {fold!r}")
    fold = fold if fold == "all" else str(int(fold))  # nnU-Net's folders know no leading zeros
    add_trainers_folder()
    pair = find_pair(dataset, configuration, trainer, plans)
    settings, _ = read_settings(pair.student, os.environ)
    check_device(device, num_gpus)

    names: dict[Role, str] = {"teacher": pair.teacher.__name__, "student": trainer}
    teacher, student = (
        teacher_checkpoint_path(pair.dataset_name, name, pair.plans_manager.plans_name, configuration, fold).parent
        for name in names.values()
    )
    given = find_teacher(settings["teacher_path"], fold) if settings["teacher_path"] else None
    if given:
        teacher = given.parent
    next_stage = pair.configuration_manager.next_stage_names is not None
    actions = planned_actions(teacher, student, only, continue_training, bool(settings["teacher_path"]), next_stage)
    if actions.get("student") == "nothing":
        before = read_checkpoint(student / "checkpoint_final.pth").get("shapekd", {}).get("settings", {})
        if differences := different_settings(before, settings):
            raise ValueError(
                f"The finished student {student} was trained with other settings:\n    "
                + "\n    ".join(differences)
                + "\nMove it away to train anew, or give these settings a class of their own."
            )
    elif given:  # perhaps of another trainer than the student's own
        checkpoint = read_teacher_checkpoint(given, "", "Give another teacher_path (SHAPEKD_TEACHER_PATH).")
        pair = replace(pair, teacher=teacher_trainer_class(checkpoint, given))
        names["teacher"] = pair.teacher.__name__
    print(f"{pair.dataset_name}, {configuration}, fold {fold}, plans {plans}")
    says = {"nothing": "finished already", "train": "to be trained", "continue": "to be continued"}
    for role, folder in (("teacher", teacher), ("student", student)):
        print(f"{role} {names[role]}: {says[actions[role]] if role in actions else 'not needed'} ({folder})")
    if set(actions.values()) != {"nothing"}:
        print(_cost(pair))

    options = ["-p", plans, "-device", device]
    if num_gpus > 1:
        options += ["-num_gpus", str(num_gpus)]
    for role, action in actions.items():
        if action == "nothing":
            continue
        arguments = [pair.dataset_name, configuration, fold, "-tr", names[role], *options]
        arguments += ["--npz"] * (npz and role == "student") + ["--c"] * (action == "continue")
        _train(role, names[role], arguments)
    print(f"\nfinished: {', '.join(names[role] for role in actions)}")


def _train(role: Role, name: str, arguments: list[str]) -> None:
    print(f"\n{role}: nnUNetv2_train {shlex.join(arguments)}", flush=True)
    # nnU-Net's own entry point, which sets the threads for the device; python -c would look for modules in the current
    # folder first
    code = (
        "import sys; sys.path = [folder for folder in sys.path if folder]; "
        "from nnunetv2.run.run_training import run_training_entry; run_training_entry()"
    )
    status = run_to_the_end([sys.executable, "-c", code, *arguments])
    if status:
        ended = f"exit code {status}" if status > 0 else f"ended by {signal.Signals(-status).name}"
        if status == -getattr(signal, "SIGKILL", 0):
            ended += ", often for lack of memory"
        raise ChildProcessError(
            f"The {role}'s training failed ({name}, {ended}); its error is above. When that is mended, the same "
            "command with --c goes on from its last checkpoint."
        )


def _cost(pair: Pair) -> str:
    try:
        cost = pair_cost(pair.student, pair.teacher, pair.plans_manager, pair.configuration_manager, pair.dataset_json)
    except Exception as error:  # an estimate must not keep a network of a user's own from being trained
        return f"What the pair costs cannot be derived for these trainers ({type(error).__name__}: {error})."
    return str(cost)
