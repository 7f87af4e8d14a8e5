"""``shapekd evaluate``: a folder of predictions, judged."""

import argparse
import shlex

from nnunet_shapekd.commands.arguments import add_judging, options_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("reference", metavar="REFERENCE", help="folder of the references")
    add("predictions", metavar="PREDICTIONS", help="folder of the predictions, of the same names")
    add("-o", "--out", metavar="OUT", required=True, help="new folder for metrics.csv and summary.json")
    add("--name", help="of the model, in tables (default: from the predictions' folder)")
    add_judging(parser)


def run(args: argparse.Namespace) -> int:
    """Dice, IoU, surface distances in mm, volumes, plausibility and cardiac indices of a folder of predictions, per
    case and class. Whatever is wrong with the files is listed, and nothing is written then.
    """
    from nnunet_shapekd.evaluation.evaluate import Judging, evaluate_folders
    from nnunet_shapekd.evaluation.results import write_evaluation
    from nnunet_shapekd.evaluation.tables import lines
    from nnunet_shapekd.files.output import check_free

    check_free(args.out, "evaluation")
    evaluation = evaluate_folders(args.reference, args.predictions, options_of(Judging, args), name=args.name)
    written = write_evaluation(evaluation, args.out)
    print("\n".join(lines(evaluation)))
    print(f"\nWrote {', '.join(written)} to {args.out}. Next: shapekd report {shlex.quote(args.out)} -o REPORT")
    return 0
