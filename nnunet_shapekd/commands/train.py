"""``shapekd train``: a teacher and its student with one command, each with nnU-Net's own training.

Each is a process of nnU-Net's own ``nnUNetv2_train``. Nothing that is trained is ever trained again or overwritten:
what a fold's folders hold decides what is done, and what cannot work is refused before anything starts. SIGTERM and
SIGHUP end the command as Ctrl-C does, together with all it has started.
"""

import argparse
import os
import shlex
import signal
import sys
from dataclasses import replace

from nnunet_shapekd.commands.arguments import add_device, fold_of
from nnunet_shapekd.commands.planned import Products, Role, planned_actions
from nnunet_shapekd.commands.processes import run_to_the_end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="nnU-Net dataset id or name")
    add("configuration", metavar="CONFIG", help="2d, 3d_fullres, 3d_lowres, ...")
    add("fold", metavar="FOLD", help="a number, or all")
    student = "the student's trainer (default: %(default)s); one without a teacher is for nnUNetv2_train alone"
    add("-tr", default="nnUNetTrainerShapeKD", help=student)
    add("-p", default="nnUNetPlans", help="plans of both (default: %(default)s)")
    add("-num_gpus", type=int, default=1, help="GPUs for one training (default: %(default)s)")
    add_device(parser)
    add("--npz", action="store_true", help="keep the probabilities of the student's final validation")
    add("--c", action="store_true", help="continue what is unfinished, make what is missing of a validation")
    add("--only", choices=("teacher", "student"), help="train this one alone")


def run(args: argparse.Namespace) -> int:
    """Train the teacher of a fold, unless a finished one is there, and then its student, each with nnU-Net's own
    training and in a process of its own. Says first what will be done and what it costs beside stock nnU-Net. Nothing
    that is trained is overwritten.
    """
    from nnunet_shapekd.commands.pair import check_device, find_pair
    from nnunet_shapekd.files.checkpoints import read_checkpoint
    from nnunet_shapekd.training import find_teacher as teachers
    from nnunet_shapekd.training.lookup import add_trainers_folder
    from nnunet_shapekd.training.settings import different_settings, read_settings

    fold = fold_of(args.fold)
    add_trainers_folder()
    pair = find_pair(args.dataset, args.configuration, args.tr, args.p)
    settings, _ = read_settings(pair.student, os.environ)
    check_device(args.device, args.num_gpus)

    names: dict[Role, str] = {"teacher": pair.teacher.__name__, "student": args.tr}
    plans = pair.plans_manager.plans_name
    folders = {
        role: teachers.teacher_checkpoint_path(pair.dataset_name, name, plans, args.configuration, fold).parent
        for role, name in names.items()
    }
    given = teachers.find_teacher(settings["teacher_path"], fold) if settings["teacher_path"] else None
    if given:
        folders["teacher"] = given.parent
    products = Products(pair.dataset_json["file_ending"], args.npz, pair.next_stages())
    actions = planned_actions(folders["teacher"], folders["student"], products, args.only, args.c, given is not None)
    if actions.get("student") == "nothing":
        before = read_checkpoint(folders["student"] / "checkpoint_final.pth").get("shapekd", {}).get("settings", {})
        if differences := different_settings(before, settings):
            raise ValueError(
                f"The finished student {folders['student']} was trained with other settings:\n    "
                + "\n    ".join(differences)
                + "\nMove it away to train anew, or give these settings a class of their own."
            )
    elif given:  # perhaps of another trainer than the student's own
        teacher = teachers.read_teacher(given, "", "Give another teacher_path (SHAPEKD_TEACHER_PATH).")
        pair = replace(pair, teacher=teacher.trainer)
        names["teacher"] = pair.teacher.__name__
    print(f"{pair.dataset_name}, {args.configuration}, fold {fold}, plans {args.p}")
    says = {
        "nothing": "finished already",
        "train": "to be trained",
        "continue": "to be continued",
        "validate": "trained, its final validation to be made",
    }
    for role, folder in folders.items():
        print(f"{role} {names[role]}: {says[actions[role]] if role in actions else 'not needed'} ({folder})")
    if (
        actions.get("teacher") == "nothing"
        and args.only
        and not given
        and not replace(products, probabilities=False).are_in(folders["teacher"])
    ):
        print("The teacher's final validation is not there, which its student does not need; --c makes it.")
    if set(actions.values()) - {"nothing", "validate"}:
        print(pair.cost())

    options = ["-p", args.p, "-device", args.device]
    if args.num_gpus > 1:
        options += ["-num_gpus", str(args.num_gpus)]
    for role, action in actions.items():
        if action == "nothing":
            continue
        arguments = [pair.dataset_name, args.configuration, fold, "-tr", names[role], *options]
        arguments += ["--npz"] * (args.npz and role == "student") + ["--c"] * (action in ("continue", "validate"))
        _train(role, names[role], arguments)
    print(f"\nfinished: {', '.join(names[role] for role in actions)}")
    return 0


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
