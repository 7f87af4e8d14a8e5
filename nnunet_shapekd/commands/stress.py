"""``shapekd stress``: models on images that are shifted more and more."""

import argparse
import os

from nnunet_shapekd.commands.arguments import add_model, add_predicting, options_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add = parser.add_argument
    add("images", metavar="IMAGES", help="folder of images CASE_0000, ...")
    add("labels", metavar="LABELS", help="folder of their references, in the model's label values")
    add("--shifts", nargs="+", metavar="SHIFT", help="some of them, like noise bias-field (default: all)")
    add("--severities", nargs="+", type=int, metavar="N", help="some of 1 to 4 (default: all)")
    add("--invert", metavar="CLASS", help="the structure whose contrast the shift inversion turns round")
    changed = "the classes that the shifts class-contrast and class-spread change (default: all)"
    add("--classes", nargs="+", metavar="CLASS", help=changed)
    add("--cases", type=int, metavar="N", help="draw patients until there are N cases (default: all)")
    own = "judge training cases, too (default: of the model's own cases, by name, those of validation)"
    add("--all-cases", action="store_true", help=own)
    add("--seed", type=int, default=0, help="of the shifts' patterns and of --cases (default: %(default)s)")
    add("--patients", metavar="TABLE", help="CSV with columns case,patient, as in evaluate, instead of --pattern")
    add_predicting(parser)


def run(args: argparse.Namespace) -> int:
    """Shift images by degrees (gamma-dark, gamma-bright, contrast, noise, blur, low-resolution, bias-field, ghosting;
    with the references class-contrast, class-spread, inversion), predict them with a trained model folder of nnU-Net's
    and its baselines, and draw Dice and HD95 against severity. All is checked before anything is predicted.
    """
    from nnunet_shapekd.evaluation.metrics import headlines
    from nnunet_shapekd.stress.options import StressOptions
    from nnunet_shapekd.stress.stress import RESULTS, stress
    from nnunet_shapekd.stress.tables import lines

    result = stress(args.model, args.images, args.labels, args.out, options_of(StressOptions, args))
    print()
    print("\n".join(lines(result)))
    curves = ", ".join(f"{metric.key}.png" for metric in headlines())
    print(f"\nWritten to {os.path.join(args.out, RESULTS)}: stress.csv, .json and .md, {curves}, examples.png")
    return 0
