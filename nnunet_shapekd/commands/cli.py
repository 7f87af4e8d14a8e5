"""``shapekd``: thin, one function a subcommand. torch is imported only by the subcommands that need it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from nnunet_shapekd import __version__
from nnunet_shapekd.trainers_folder import export_line, trainers_folder

#: module of dataset_conversion -> what it converts
CONVERSIONS = {
    "acdc": "ACDC cardiac MRI",
    "mnms": "M&Ms cardiac MRI of several vendors",
    "mscmrseg": "MSCMRseg cardiac MRI (LGE, bSSFP or T2)",
    "mmwhs": "MM-WHS whole hearts (CT or MRI)",
    "synapse": "Synapse/BTCV abdominal CT",
    "images": "folders of 2D images and masks, or a public set of them",
}


def _trainers(args: argparse.Namespace) -> int:
    if args.export:
        print(export_line(args.export, os.environ.get("nnUNet_extTrainer")))
    else:
        print(trainers_folder())
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from nnunet_shapekd.commands.doctor import examine

    return examine(args.dataset, args.fold)


def _train(args: argparse.Namespace) -> int:
    from nnunet_shapekd.commands.train import train_pair

    train_pair(
        args.dataset,
        args.configuration,
        args.fold,
        trainer=args.tr,
        plans=args.p,
        num_gpus=args.num_gpus,
        device=args.device,
        npz=args.npz,
        continue_training=args.c,
        only=args.only,
    )
    return 0


def _info(args: argparse.Namespace) -> int:
    from nnunet_shapekd.commands.info import run

    return run(args.checkpoint, args.json, args.cases)


def _evaluate(args: argparse.Namespace) -> int:
    from nnunet_shapekd.evaluation.evaluate import evaluate_folders
    from nnunet_shapekd.evaluation.results import write_evaluation
    from nnunet_shapekd.evaluation.tables import lines
    from nnunet_shapekd.files.output import check_free

    check_free(args.out, "evaluation")
    evaluation = evaluate_folders(args.reference, args.predictions, _judging(args), name=args.name)
    written = write_evaluation(evaluation, args.out)
    print("\n".join(lines(evaluation)))
    print(f"\nWrote {', '.join(written)} to {args.out}. Next: shapekd report {args.out} -o REPORT")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from nnunet_shapekd.evaluation.compare import Statistics, compare_folders
    from nnunet_shapekd.evaluation.tables import comparison_lines

    statistics = Statistics(args.seed, args.resamples, args.confidence)
    comparison = compare_folders(args.reference, args.predictions, args.names, args.out, _judging(args), statistics)
    print("\n".join(comparison_lines(comparison)))
    print(f"\nWritten to {args.out}. Next: shapekd report {args.out} -o REPORT")
    return 0


def _cross(args: argparse.Namespace) -> int:
    from nnunet_shapekd.across.cross import run

    return run(
        args.model,
        args.datasets,
        args.out,
        part=args.part,
        ignore_channel_names=args.ignore_channel_names,
        seed=args.seed,
        resamples=args.resamples,
        confidence=args.confidence,
        **_predicting(args),
    )


def _stress(args: argparse.Namespace) -> int:
    from nnunet_shapekd.stress.stress import run

    return run(
        args.model,
        args.images,
        args.labels,
        args.out,
        shifts=args.shifts,
        severities=args.severities,
        invert=args.invert,
        cases=args.cases,
        all_cases=args.all_cases,
        seed=args.seed,
        patients=args.patients,
        **_predicting(args),
    )


def _report(args: argparse.Namespace) -> int:
    from nnunet_shapekd.report.page import run

    return run(args.evaluations, args.out, args.images, args.run_folders)


def _figure(args: argparse.Namespace) -> int:
    from nnunet_shapekd.figure.make import make_figure

    path = make_figure(
        args.case,
        args.dataset,
        args.configuration,
        args.fold,
        args.out,
        trainer=args.tr,
        plans=args.p,
        baseline=args.baseline,
        case_dataset=args.case_dataset,
        slice_number=args.slice,
        channel=args.channel,
        checkpoint=args.chk,
    )
    print(f"Wrote {path}")
    return 0


def _phantom(args: argparse.Namespace) -> int:
    from nnunet_shapekd.phantom import write_phantom

    folders = write_phantom(args.out, args.patients, args.test_patients, args.seed, args.scanner)
    print(f"Wrote {len(folders)} patients to {args.out}. Next: shapekd convert acdc {args.out}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    return importlib.import_module(f"nnunet_shapekd.dataset_conversion.{args.module}").run(args)


def _add_judging(parser: argparse.ArgumentParser) -> None:
    """What ``evaluate`` and ``compare`` are told about folders of label maps; with nnU-Net's names where it has one."""
    add = parser.add_argument
    add("-djfile", metavar="FILE", help="dataset.json with the labels (default: the one beside or above the folders)")
    add("-pfile", metavar="FILE", help="accepted as by nnU-Net; not needed, as the labels are in dataset.json")
    add("-l", type=int, nargs="+", metavar="VALUE", help="judge these label values, instead of a dataset.json's")
    add("-il", type=int, metavar="VALUE", help="with -l: ignore label")
    add("--leave-out", nargs="+", default=(), metavar="CLASS", help="classes not judged: they count as background")
    add("--tolerance", type=float, default=1.0, help="of the surface Dice, in mm or pixels (default: %(default)s)")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument(
        "--patients",
        metavar="TABLE",
        help="CSV with columns case,patient[,phase], or a folder with ACDC's Info.cfg files "
        "(default: patients.csv beside the references, if there)",
    )
    whose.add_argument(
        "--pattern",
        metavar="REGEX",
        help="for whole case names, with the group (?P<patient>...) and, if wanted, (?P<phase>ED|ES)",
    )
    add("--chill", action="store_true", help="references without a prediction are no error, as with nnU-Net")
    add("-np", "--processes", type=int, help="cases read at once (default: the cores, at most 8)")


def _add_statistics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=9999, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default: %(default)s)")


def _judging(args: argparse.Namespace) -> Any:
    from nnunet_shapekd.evaluation.evaluate import Judging

    return Judging(
        dataset_json=args.djfile,
        labels=args.l,
        ignore_label=args.il,
        leave_out=args.leave_out,
        tolerance=args.tolerance,
        patients=args.patients,
        pattern=args.pattern,
        chill=args.chill,
        processes=args.processes,
    )


def _add_predicting(parser: argparse.ArgumentParser) -> None:
    """What ``cross`` and ``stress`` are told about models, predicting and judging."""
    add = parser.add_argument
    add("-o", "--out", required=True, metavar="OUT", help="new folder, or one of an earlier run")
    add(
        "--baseline",
        nargs="+",
        default=(),
        metavar="MODEL_FOLDER",
        help="models trained on the same dataset, to judge beside it (cross compares all others with the first)",
    )
    add("--names", nargs="+", metavar="NAME", help="of baselines and model, in this order")
    add("--leave-out", nargs="+", default=(), metavar="CLASS", help="classes that are not judged")
    add("-f", "--folds", nargs="+", metavar="FOLD", help="predict together (default: all there are)")
    add("-chk", default="checkpoint_final.pth", help="default: %(default)s")
    add("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="default: %(default)s")
    add("--disable_tta", action="store_true", help="no mirroring, as with nnUNetv2_predict")
    add(
        "-npp",
        type=int,
        metavar="N",
        help="processes that read, and as many that write; 0: one case after the other (default: 3 on a GPU, else 0)",
    )
    add("--tolerance", type=float, default=1.0, help="of the surface Dice (default: %(default)s)")
    add("--pattern", metavar="REGEX", help="for case names, as in evaluate (default: patients.csv, known names)")
    add("-np", "--processes", type=int, help="cases judged at once (default: the cores, at most 8)")


def _predicting(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "baselines": args.baseline,
        "names": args.names,
        "leave_out": args.leave_out,
        "folds": args.folds,
        "checkpoint": args.chk,
        "device": args.device,
        "tta": not args.disable_tta,
        "prediction_processes": args.npp,
        "tolerance": args.tolerance,
        "pattern": args.pattern,
        "processes": args.processes,
    }


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shapekd", description="Shape-intensity knowledge distillation (SIKD) as a plugin of nnU-Net v2."
    )
    parser.add_argument("--version", action="version", version=f"nnunet_shapekd {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    trainers = commands.add_parser(
        "trainers",
        help="print the folder for nnUNet_extTrainer",
        description="Print the folder of this package's trainers, the value of nnU-Net's nnUNet_extTrainer.",
    )
    trainers.add_argument(
        "--export",
        nargs="?",
        choices=("bash", "powershell"),
        const="powershell" if os.name == "nt" else "bash",
        help="print the line to paste into this shell (default: this system's); folders already set are kept",
    )
    trainers.set_defaults(run=_trainers)

    doctor = commands.add_parser(
        "doctor",
        help="check the installation, and a dataset's teachers and folds",
        description="Check that nnU-Net finds the trainers; with -d, which teachers a dataset has and whether its "
        "folds keep patients together. Each failing line says what to do; exit code 1 if there is one.",
    )
    doctor.add_argument("-d", "--dataset", metavar="DATASET", help="nnU-Net dataset id or name")
    doctor.add_argument("-f", "--fold", metavar="FOLD", help="the fold that must have a teacher (with -d)")
    doctor.set_defaults(run=_doctor)

    train = commands.add_parser(
        "train",
        help="train a teacher and then its student",
        description="Train the teacher of a fold, unless a finished one is there, and then its student, each with "
        "nnU-Net's own training and in a process of its own. Says first what will be done and what it costs beside "
        "stock nnU-Net. Nothing that is trained is overwritten.",
    )
    train.add_argument("dataset", metavar="DATASET", help="nnU-Net dataset id or name")
    train.add_argument("configuration", metavar="CONFIG", help="2d, 3d_fullres, 3d_lowres, ...")
    train.add_argument("fold", metavar="FOLD", help="a number, or all")
    train.add_argument("-tr", default="nnUNetTrainerShapeKD", help="the student's trainer (default: %(default)s)")
    train.add_argument("-p", default="nnUNetPlans", help="plans of both (default: %(default)s)")
    train.add_argument("-num_gpus", type=int, default=1, help="GPUs for one training (default: %(default)s)")
    train.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="default: %(default)s")
    train.add_argument("--npz", action="store_true", help="keep the probabilities of the student's final validation")
    train.add_argument("--c", action="store_true", help="continue what is unfinished, leave what is finished")
    train.add_argument("--only", choices=("teacher", "student"), help="train this one alone")
    train.set_defaults(run=_train)

    info = commands.add_parser(
        "info",
        help="print where a checkpoint comes from",
        description="Print what a checkpoint of nnU-Net says about itself: trainer, plans, settings, teacher, cases "
        "and the SHA-256 of its weights. Code in the file is not run.",
    )
    info.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint_*.pth")
    info.add_argument("--cases", action="store_true", help="name the cases instead of counting them")
    info.add_argument("--json", action="store_true", help="print JSON, with all cases")
    info.set_defaults(run=_info)

    evaluate = commands.add_parser(
        "evaluate",
        help="judge a folder of predictions",
        description="Dice, IoU, surface distances in mm, volumes, plausibility and cardiac indices of a folder of "
        "predictions, per case and class. Whatever is wrong with the files is listed, and nothing is written then.",
    )
    evaluate.add_argument("reference", metavar="REFERENCE", help="folder of the references")
    evaluate.add_argument("predictions", metavar="PREDICTIONS", help="folder of the predictions, of the same names")
    evaluate.add_argument("-o", "--out", metavar="OUT", required=True, help="new folder for metrics.csv, summary.json")
    evaluate.add_argument("--name", help="of the model, in tables (default: from the predictions' folder)")
    _add_judging(evaluate)
    evaluate.set_defaults(run=_evaluate)

    compare = commands.add_parser(
        "compare",
        help="compare models on the same cases",
        description="Paired differences of models to the first one, per class and metric, with a patient as the unit: "
        "bootstrap intervals, Wilcoxon's signed-rank p with Holm's correction, and a verdict in one sentence.",
    )
    compare.add_argument("reference", metavar="REFERENCE", help="folder of the references")
    compare.add_argument(
        "predictions", metavar="PREDICTIONS", nargs="+", help="two folders or more; the first is the baseline"
    )
    compare.add_argument(
        "-o", "--out", metavar="OUT", required=True, help="new or empty folder, or an earlier comparison's"
    )
    compare.add_argument("--names", nargs="+", metavar="NAME", help="of the models (default: what tells them apart)")
    _add_statistics(compare)
    _add_judging(compare)
    compare.set_defaults(run=_compare)

    cross = commands.add_parser(
        "cross",
        help="judge a model on datasets it was not trained on",
        description="Predict datasets with a trained model folder of nnU-Net's and its baselines, find the classes "
        "by name, evaluate, and compare within and across datasets. All is checked before anything is predicted.",
    )
    add = cross.add_argument
    add("model", metavar="MODEL_FOLDER", help="nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION")
    add("datasets", nargs="+", metavar="DATASET", help="raw datasets: ids, names or folders")
    add(
        "--part",
        choices=("Tr", "Ts"),
        help="default: Ts where there are labelsTs; Tr of the model's own dataset: the validation cases",
    )
    add("--ignore-channel-names", action="store_true", help="channels may be called otherwise")
    _add_predicting(cross)
    _add_statistics(cross)
    cross.set_defaults(run=_cross)

    stress = commands.add_parser(
        "stress",
        help="judge a model on images shifted more and more",
        description="Shift images by degrees (gamma, contrast, noise, blur, low resolution, bias field, ghosting, "
        "inversion of a structure), predict them with a trained model folder of nnU-Net's and its baselines, and draw "
        "Dice and HD95 against severity. All is checked before anything is predicted.",
    )
    add = stress.add_argument
    add("model", metavar="MODEL_FOLDER", help="nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION")
    add("images", metavar="IMAGES", help="folder of images CASE_0000, ...")
    add("labels", metavar="LABELS", help="folder of their references, in the model's label values")
    add("--shifts", nargs="+", metavar="SHIFT", help="some of them (default: all)")
    add("--severities", nargs="+", type=int, metavar="N", help="some of 1 to 4 (default: all)")
    add("--invert", metavar="CLASS", help="the structure whose contrast the shift inversion turns round")
    add("--cases", type=int, metavar="N", help="draw patients until there are N cases (default: all)")
    add(
        "--all-cases",
        action="store_true",
        help="judge training cases, too (default: of the model's own cases, by name, those of validation)",
    )
    add("--seed", type=int, default=0, help="of the shifts' patterns and of --cases (default: %(default)s)")
    add("--patients", metavar="TABLE", help="CSV with columns case,patient, as in evaluate, instead of --pattern")
    _add_predicting(stress)
    stress.set_defaults(run=_stress)

    report = commands.add_parser(
        "report",
        help="write a page of evaluated models",
        description="Write one self-contained HTML page, and its pictures as PNG, of what evaluate or compare wrote.",
    )
    report.add_argument(
        "evaluations", nargs="+", metavar="EVALUATION", help="a folder that shapekd evaluate or compare wrote"
    )
    report.add_argument(
        "-o", "--out", required=True, metavar="REPORT", help="new or empty folder, or an earlier report's"
    )
    report.add_argument(
        "--images", metavar="FOLDER", help="images CASE_0000 (default: imagesTr beside labelsTr, imagesTs likewise)"
    )
    report.add_argument(
        "--run",
        action="append",
        default=[],
        dest="run_folders",
        metavar="NAME=FOLD_FOLDER",
        help="a model's training (default: the fold around a prediction folder named validation)",
    )
    report.set_defaults(run=_report)

    figure = commands.add_parser(
        "figure",
        help="show what baseline, teacher and student see in a case",
        description="Draw one slice of a case: image, class-mean image, reference, and for the stock baseline, the "
        "teacher and the student the energy of the last decoder stage's features and the segmentation. On the CPU.",
    )
    figure.add_argument("case", metavar="CASE", help="a case's name in imagesTr or imagesTs, with its reference")
    figure.add_argument("-d", "--dataset", required=True, metavar="DATASET", help="dataset id or name of the models")
    figure.add_argument("-c", "--configuration", required=True, metavar="CONFIG", help="2d, 3d_fullres or 3d_lowres")
    figure.add_argument("-f", "--fold", required=True, metavar="FOLD", help="a number, or all")
    figure.add_argument("-o", "--out", required=True, metavar="FILE.png", help="the PNG to write or replace")
    figure.add_argument("-tr", default="nnUNetTrainerShapeKD", help="the student's trainer (default: %(default)s)")
    figure.add_argument("-p", default="nnUNetPlans", help="plans of all models (default: %(default)s)")
    figure.add_argument(
        "--baseline", default="nnUNetTrainer", metavar="TRAINER", help="stock trainer beside it (default: %(default)s)"
    )
    figure.add_argument(
        "--case-dataset", metavar="DATASET", help="dataset of the case, of the same channels and labels (default: -d)"
    )
    figure.add_argument(
        "--slice", type=int, metavar="K", help="from 1, in the preprocessed case (default: the most foreground)"
    )
    figure.add_argument(
        "--channel", type=int, metavar="N", help="image channel, from 0 (default: 0; colour pictures in colour)"
    )
    figure.add_argument("-chk", default="checkpoint_final.pth", help="of student and baseline (default: %(default)s)")
    figure.set_defaults(run=_figure)

    convert = commands.add_parser("convert", help="bring a dataset into nnU-Net's raw format")
    datasets = convert.add_subparsers(metavar="DATASET", required=True)
    for name, description in CONVERSIONS.items():
        dataset = datasets.add_parser(
            name, help=description, description=f"Convert {description}, after checking every case."
        )
        if name in argv:  # the module imports SimpleITK, which the other commands' start need not wait for
            importlib.import_module(f"nnunet_shapekd.dataset_conversion.{name}").add_arguments(dataset)
        dataset.set_defaults(run=_convert, module=name)

    phantom = commands.add_parser(
        "phantom",
        help="write a synthetic heart in ACDC's layout",
        description="Write a seeded synthetic short-axis cine heart in ACDC's folder layout: no patient's data, for "
        "trying things out. The same seed gives the same patients on either scanner.",
    )
    phantom.add_argument("out", metavar="OUT", help="new or empty folder")
    phantom.add_argument(
        "--patients", type=int, default=20, help="training patients (default: %(default)s, at most 100)"
    )
    phantom.add_argument("--test-patients", type=int, default=5, help="test patients (default: %(default)s)")
    phantom.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    phantom.add_argument(
        "--scanner", choices=("a", "b"), default="a", help="b is another scanner (default: %(default)s)"
    )
    phantom.set_defaults(run=_phantom)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``shapekd``; returns the exit code. What the user can mend is one message, without traceback."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names and ± must not end a command whose output goes to a narrow encoding
            stream.reconfigure(errors="replace")
    args = _parser(argv).parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, OSError) as error:
        print(f"shapekd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("shapekd: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
