"""``shapekd figure``: one slice as baseline, teacher and student see it."""

import argparse

from nnunet_shapekd.commands.arguments import check_set, fold_of, options_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("case", metavar="CASE", help="a case's name in imagesTr or imagesTs, with its reference")
    add("-d", "--dataset", required=True, metavar="DATASET", help="dataset id or name of the models")
    add("-c", "--configuration", required=True, metavar="CONFIG", help="2d, 3d_fullres or 3d_lowres")
    add("-f", "--fold", required=True, metavar="FOLD", help="a number, or all")
    add("-o", "--out", required=True, metavar="FILE.png", help="the PNG to write or replace")
    student = "the student's trainer (default: %(default)s)"
    add("-tr", dest="trainer", metavar="TR", default="nnUNetTrainerShapeKD", help=student)
    add("-p", dest="plans", metavar="P", default="nnUNetPlans", help="plans of all models (default: %(default)s)")
    stock = "stock trainer beside it (default: %(default)s)"
    add("--baseline", default="nnUNetTrainer", metavar="TRAINER", help=stock)
    add("--case-dataset", metavar="DATASET", help="dataset of the case, of the same channels and labels (default: -d)")
    number = "from 1, in the preprocessed case (default: the most foreground)"
    add("--slice", dest="slice_number", type=int, metavar="K", help=number)
    add("--channel", type=int, metavar="N", help="image channel, from 0 (default: 0; colour pictures in colour)")
    whose = "of student and baseline (default: %(default)s)"
    add("-chk", dest="checkpoint", metavar="CHK", default="checkpoint_final.pth", help=whose)


def run(args: argparse.Namespace) -> int:
    """Draw one slice of a case: image, class-mean image, reference, and for the stock baseline, the teacher and the
    student the energy of the last decoder stage's features and the segmentation. On the CPU.
    """
    from nnunet_shapekd.figure.make import make_figure
    from nnunet_shapekd.figure.options import FigureOptions

    fold = fold_of(args.fold)
    check_set("nnUNet_raw", "nnUNet_results")
    options = options_of(FigureOptions, args)
    print(f"Wrote {make_figure(args.case, args.dataset, args.configuration, fold, args.out, options)}")
    return 0
