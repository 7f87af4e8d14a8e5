"""``shapekd compare``: models on the same cases, with a patient as the unit."""

import argparse
import shlex

from nnunet_shapekd.commands.arguments import add_judging, add_statistics, options_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("reference", metavar="REFERENCE", help="folder of the references")
    add("predictions", metavar="PREDICTIONS", nargs="+", help="two folders or more; the first is the baseline")
    add("-o", "--out", metavar="OUT", required=True, help="new or empty folder, or an earlier comparison's")
    add("--names", nargs="+", metavar="NAME", help="of the models (default: what tells them apart)")
    add_statistics(parser)
    add_judging(parser)


def run(args: argparse.Namespace) -> int:
    """Paired differences of models to the first one, per class and metric, with a patient as the unit: bootstrap
    intervals, Wilcoxon's signed-rank p with Holm's correction, and a verdict in one sentence.
    """
    from nnunet_shapekd.evaluation.compare import Statistics, compare_folders
    from nnunet_shapekd.evaluation.evaluate import Judging
    from nnunet_shapekd.evaluation.tables import comparison_lines

    options = options_of(Judging, args), options_of(Statistics, args)
    comparison = compare_folders(args.reference, args.predictions, args.names, args.out, *options)
    print("\n".join(comparison_lines(comparison)))
    print(f"\nWritten to {args.out}. Next: shapekd report {shlex.quote(args.out)} -o REPORT")
    return 0
